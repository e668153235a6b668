"""The commands that compare: arms and seeds on the same records, and finished evaluations, which are written for other tools too."""

import argparse
from pathlib import Path

from cgd_ray.commands.options import add_config, added, say, told
from cgd_ray.process.faults import refusing

FORMS = ("lm-eval", "inspect")
COMPARE = "arms and seeds on the same records, paired with one of them; finished runs are not repeated"
COMPARE_EVALS = "two finished evaluations, problem by problem; those of lm-eval and Inspect too"
EXPORT = "an evaluation as lm-eval's results or Inspect's log, for their dashboards"
EVALUATION = "directory of an evaluated model, results of lm-eval, or a log of Inspect's"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them."""
    compare = added(commands, "compare", COMPARE, _compare)
    add_config(compare)
    compare.add_argument("--take-over", action="store_true", help="make a comparison end that is still at work on the directory")
    compare.set_defaults(do=_compare)  # a fault of a run is none of the arguments'
    pairs = added(commands, "compare-evals", COMPARE_EVALS, _compare_evals)
    for name in ("first", "second"):
        pairs.add_argument(name, type=Path, metavar=name.upper(), help=EVALUATION)
    export = added(commands, "export-eval", EXPORT, _export)
    export.add_argument("directory", type=Path, metavar="DIRECTORY", help="of an evaluated model, e.g. RUN_DIR/evaluation/trained")
    export.add_argument("--format", choices=FORMS, required=True, help="whose form")
    export.add_argument("--output", type=Path, required=True, metavar="DIRECTORY", help="what receives the files")


def _compare(parsed: argparse.Namespace) -> int:
    with refusing():
        from cgd_ray.config.comparison import load_comparison

        comparison = load_comparison(parsed.config, parsed.overrides)
    from cgd_ray.comparison.compare import compare
    from cgd_ray.process.console import printing_lines

    with printing_lines() as say_there:  # while runs are at work standard output goes to a log, for Ray's sake
        compare(comparison, say_there, parsed.take_over)
    return 0


def _compare_evals(parsed: argparse.Namespace) -> int:
    from cgd_ray.evaluation.comparing import compare_evals

    return compare_evals(parsed.first, parsed.second, say)


def _export(parsed: argparse.Namespace) -> int:
    from cgd_ray.evaluation.interchange.exporting import export_evaluation

    written = export_evaluation(parsed.directory, parsed.format, parsed.output)
    return told(parsed.output, f"{len(written):,} files")
