"""The commands that look at a config or a run directory, and change nothing in it: config, inspect, export-data."""

import argparse
from pathlib import Path

from cgd_ray.commands.options import add_config, added, loaded, looked_at_run, positive, told, write

FORMATS = ("trl", "alpaca", "sharegpt")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them."""
    inspect = added(commands, "inspect", "show examples with the trained tokens in colour, and what is not trained on and why", _inspect)
    add_config(inspect)
    inspect.add_argument("--arm", metavar="ARM", help="the arm to show, that of the config if left out")
    inspect.add_argument("--count", type=positive, default=3, metavar="N", help="examples to show, %(default)s if left out")
    inspect.add_argument("--html", type=Path, metavar="FILE", help="write one HTML file instead of printing")
    export = added(commands, "export-data", "write the examples as JSON lines for other trainers", _export_data)
    add_config(export)
    export.add_argument("--format", choices=FORMATS, required=True, help="the form of a line")
    export.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write")
    add_config(added(commands, "config", "print the resolved config with each setting's documentation", _config))


def _config(parsed: argparse.Namespace) -> int:
    config = loaded(parsed)
    from cgd_ray.config import to_yaml

    write(to_yaml(config, with_docs=True))
    return 0


def _inspect(parsed: argparse.Namespace) -> int:
    if parsed.arm is not None:
        parsed.overrides.append(f"training.arm={parsed.arm}")
    config = looked_at_run(parsed)
    from cgd_ray.reporting.inspection import inspect
    from cgd_ray.runs.contents import with_models

    inspect(with_models(config, ("student",)), parsed.count, parsed.html)
    return 0


def _export_data(parsed: argparse.Namespace) -> int:
    config = looked_at_run(parsed)
    from cgd_ray.runs.contents import with_models
    from cgd_ray.training.examples.data_export import export_examples
    from cgd_ray.training.examples.preparation import prepare

    written = export_examples(prepare(with_models(config, ("student",))), parsed.format, parsed.output)
    return told(parsed.output, f"{written:,} examples")
