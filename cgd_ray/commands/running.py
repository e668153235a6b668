"""The commands that write a run directory: run, generate, train, evaluate."""

import argparse

from cgd_ray.commands.options import add_config, added, in_one_line, loaded

COMMANDS = {
    "run": "all stages: generate, train, evaluate; finished ones are not repeated",
    "generate": "attempts, critiques and refinements, graded and selected",
    "train": "the student on the selected records, exported as a Hugging Face directory",
    "evaluate": "the student before and after, on the problem alone",
}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them."""
    for name, help_text in COMMANDS.items():
        command = added(commands, name, help_text, _run)
        add_config(command)
        command.set_defaults(do=_run, retry_failed=False)  # a fault of a stage is none of the arguments'
        if name in ("run", "generate"):
            command.add_argument("--retry-failed", action="store_true", help="make the rows again that have failed before")
        command.add_argument("--take-over", action="store_true", help="make a driver end that is still at work on the run directory")


def _run(parsed: argparse.Namespace) -> int:
    with in_one_line():
        config = loaded(parsed)
    from cgd_ray.runs.run import execute

    execute(parsed.command, config, parsed.retry_failed, parsed.take_over)
    return 0
