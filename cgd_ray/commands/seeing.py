"""The commands that show a run: preview before it, view beside it, report and diagnose after it."""

import argparse
from pathlib import Path

from cgd_ray.commands.options import EXIT_FAILED, add_config, added, loaded, positive, say, told, write
from cgd_ray.process.faults import refusing

PREVIEW = "a few rows through all turns, with prompts and answers as the models see them, before money is spent"
VIEW = "the report's page on this machine's loopback while a run goes on, with what is wrong in it"
REPORT = "one HTML file on one run or several: records, losses, accuracy, costs"
DIAGNOSE = "what critiques explain, what was internalised and what is style, and how the answers' form has drifted"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them."""
    preview = added(commands, "preview", PREVIEW, _preview)
    preview.set_defaults(do=_preview)  # a fault of a stage is none of the arguments'
    add_config(preview)
    preview.add_argument("-n", dest="count", type=positive, default=5, metavar="N", help="rows, %(default)s if left out")
    preview.add_argument("--render-only", action="store_true", help="the prompts alone; no model is started")
    view = added(commands, "view", VIEW, _view)
    view.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="of a run that goes on, or has ended")
    view.add_argument("--port", type=positive, default=0, metavar="N", help="on 127.0.0.1; a free one if left out")
    report = added(commands, "report", REPORT, _report)
    report.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN_DIR", help="the first one's records are shown")
    report.add_argument("--output", type=Path, metavar="FILE", help="RUN_DIR/report.html of the first if left out")
    diagnose = added(commands, "diagnose", DIAGNOSE, _diagnose)
    diagnose.set_defaults(do=_diagnose)
    add_config(diagnose)
    diagnose.add_argument("--take-over", action="store_true", help="make a driver end that is still at work on the run directory")


def _preview(parsed: argparse.Namespace) -> int:
    with refusing():
        config = loaded(parsed)
    from cgd_ray.runs.preview import preview, render_prompts

    if parsed.render_only:
        render_prompts(config, parsed.count, write)
        return 0
    return EXIT_FAILED if preview(config, parsed.count, write) else 0


def _view(parsed: argparse.Namespace) -> int:
    from cgd_ray.reporting.view.server import view

    view(parsed.run_dir, parsed.port, say)
    return 0


def _report(parsed: argparse.Namespace) -> int:
    from cgd_ray.data.rundir import RunDir
    from cgd_ray.reporting.page.page import write_report

    runs = [RunDir(path) for path in parsed.run_dirs]
    if nothing := [run.root for run in runs if not run.config.exists()]:
        raise ValueError(f"{nothing[0]} is no run directory, as it has no config.yaml; give what a config calls run_dir")
    output = parsed.output or runs[0].root / "report.html"
    write_report(runs, output)
    return told(output, "open it in a browser")


def _diagnose(parsed: argparse.Namespace) -> int:
    with refusing():
        config = loaded(parsed)
    from cgd_ray.runs.diagnosing import diagnose_run

    diagnose_run(config, parsed.take_over)
    return 0
