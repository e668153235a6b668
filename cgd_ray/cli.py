"""`cgd`: parses the command line, loads the config, then imports the stage; nothing heavy is imported before.

`cgd run jobs/configs/tinymath.yaml training.learning_rate=1e-4`; `cgd --help` lists the commands.
Exit codes: 0 done, 1 a stage failed (what it made is kept), 2 refused before anything began, 130 interrupted, 143 stopped by SIGTERM; of a
job that is followed, those of its driver.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cgd_ray import __version__

if TYPE_CHECKING:
    from cgd_ray.config import Config

COMMANDS = {
    "run": "all stages: generate, train, evaluate; finished ones are not repeated",
    "generate": "attempts, critiques and refinements, graded and selected",
    "train": "the student on the selected records, exported as a Hugging Face directory",
    "evaluate": "the student before and after, on the problem alone",
    "submit": "all stages as a job of a Ray cluster that runs elsewhere, followed to its end",
    "doctor": "what is wrong with the cluster that a run would have: versions, storage, clocks, names, room, connections",
    "inspect": "show examples with the trained tokens in colour, and what is not trained on and why",
    "export-data": "write the examples as JSON lines for other trainers",
    "config": "print the resolved config with each setting's documentation",
}
WRITING = ("run", "generate", "train", "evaluate")
"""Commands that write a run directory."""
ON_JOBS = {
    "status": "the jobs that were submitted to a cluster, and what has become of them",
    "logs": "what a job has printed",
    "stop": "end a job where it can go on, and wait for that",
}
"""Commands on jobs of a cluster."""
RENDER = "what a cluster is to be started with, from a run's config: the manifests, on standard output"
FORMATS = ("trl", "alpaca", "sharegpt")
EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    parsed, further = parser.parse_known_args(arguments)  # overrides may stand behind options, where argparse does not expect them
    if unknown := [word for word in further if word.startswith("-")]:
        parser.error(f"unknown option {unknown[0]}")
    if further and parsed.command in ON_JOBS:
        parser.error(f"unknown argument {further[0]}")
    parsed.overrides += further
    if parsed.arm is not None:
        parsed.overrides.append(f"training.arm={parsed.arm}")
    try:
        return ELSEWHERE.get(parsed.command, _run)(parsed)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on from here", EXIT_INTERRUPTED)


def _run(parsed: argparse.Namespace) -> int:
    from cgd_ray.config import load_config, to_yaml

    try:
        config = load_config(parsed.config, parsed.overrides)
        if parsed.command == "config":
            _write(to_yaml(config, with_docs=True))
            return 0
        if parsed.command in LOOKING:
            from cgd_ray.runs.remote.working_copy import looked_at

            LOOKING[parsed.command](looked_at(config), parsed)
            return 0
    except ValueError as error:
        return _complain(error, EXIT_REFUSED)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}; choose another file", EXIT_REFUSED)
    from cgd_ray.process.faults import RefusedError, StageFailedError
    from cgd_ray.process.stopping import StoppedError
    from cgd_ray.runs.run import execute

    try:
        execute(parsed.command, config, parsed.retry_failed, parsed.take_over)
    except RefusedError as error:
        return _complain(error, EXIT_REFUSED)
    except StageFailedError as error:
        return _complain(error, EXIT_FAILED)
    except StoppedError as error:
        return _complain(error, error.exit_code)
    return 0


def _of_jobs(parsed: argparse.Namespace) -> int:
    """What is done on a cluster that runs elsewhere."""
    from cgd_ray.cluster.jobs.client import UnreachableError

    try:
        return _submit(parsed) if parsed.command == "submit" else _on_job(parsed)
    except KeyboardInterrupt:
        return _complain("interrupted; the job goes on, `cgd logs JOB --follow` shows it and `cgd stop JOB` ends it", EXIT_INTERRUPTED)
    except UnreachableError as error:
        return _complain(f"the cluster does not answer ({error}); the same command asks it again", EXIT_FAILED)
    except ValueError as error:
        return _complain(error, EXIT_REFUSED)


def _doctor(parsed: argparse.Namespace) -> int:
    from cgd_ray.cluster.connection import connected
    from cgd_ray.cluster.doctor import examine
    from cgd_ray.config import load_config
    from cgd_ray.runs.remote.working_copy import directory_of

    try:
        config = load_config(parsed.config, parsed.overrides)
        with connected(config.cluster) as resources:
            found = examine(config.model_copy(update={"run_dir": str(directory_of(config))}))
    except ValueError as error:
        return _complain(error, EXIT_REFUSED)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}; give a run_dir that can be written", EXIT_REFUSED)
    for line in found:
        _say(line)
    _say(f"{len(resources.nodes)} nodes, {len(found)} findings")
    return EXIT_FAILED if found else 0


def _render(parsed: argparse.Namespace) -> int:
    from cgd_ray.cluster.rendering import render
    from cgd_ray.config import read_config

    try:
        _write(render(read_config(parsed.config, parsed.overrides), parsed.kind, parsed.values))
    except ValueError as error:
        return _complain(error, EXIT_REFUSED)
    return 0


def _submit(parsed: argparse.Namespace) -> int:
    from cgd_ray.cluster.jobs.client import Jobs
    from cgd_ray.cluster.jobs.submission import Submission, check, submit
    from cgd_ray.config import read_config

    submission = Submission(
        config=read_config(parsed.config, parsed.overrides),
        source=parsed.config,
        overrides=parsed.overrides,
        uploads=parsed.upload,
        per_phase=parsed.per_phase,
        waits=parsed.wait,
    )
    check(submission)
    return submit(submission, Jobs.at(parsed.address), _write, _say)


def _on_job(parsed: argparse.Namespace) -> int:
    from cgd_ray.cluster.jobs.client import Jobs
    from cgd_ray.cluster.jobs.submission import show_logs, table
    from cgd_ray.cluster.jobs.watching import stop

    jobs = Jobs.at(parsed.address)
    if parsed.command == "logs":
        return show_logs(jobs, parsed.job, _write, _say, parsed.follow)
    if parsed.command == "stop":
        _say(f"{parsed.job} has ended: {stop(jobs, parsed.job, _say)['status']}")
        return 0
    found = jobs.all() if parsed.job is None else [jobs.look(parsed.job)]
    if not found:
        _say("no job was submitted with `cgd submit` yet")
    for row in table(found):
        _say("  ".join(f"{value:<{width}}" for value, width in zip(row.values(), (32, 14, 16, 0), strict=True)))
    return 0


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(line: str) -> None:
    _write(f"{line}\n")


def _inspect(config: "Config", parsed: argparse.Namespace) -> None:
    from cgd_ray.reporting.inspection import inspect
    from cgd_ray.runs.contents import with_models

    inspect(with_models(config, ("student",)), parsed.count, parsed.html)


def _export_data(config: "Config", parsed: argparse.Namespace) -> None:
    from cgd_ray.runs.contents import with_models
    from cgd_ray.training.examples.data_export import export_examples
    from cgd_ray.training.examples.preparation import prepare

    written = export_examples(prepare(with_models(config, ("student",))), parsed.format, parsed.output)
    sys.stdout.write(f"{parsed.output}: {written:,} examples\n")


ELSEWHERE: dict[str, Callable[[argparse.Namespace], int]] = {
    "submit": _of_jobs,
    **dict.fromkeys(ON_JOBS, _of_jobs),
    "cluster": _render,
    "doctor": _doctor,
}
"""Commands on clusters that run elsewhere."""
LOOKING: dict[str, Callable[["Config", argparse.Namespace], None]] = {
    "inspect": _inspect,
    "export-data": _export_data,
}
"""Commands that look at a run directory, and change nothing in it."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cgd", description="Critique-Guided Distillation on Ray.", epilog="Docs: README.md, docs/. `cgd COMMAND --help` tells more."
    )
    parser.add_argument("--version", action="version", version=f"cgd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
        _add_config(command)
        command.set_defaults(arm=None, retry_failed=False, take_over=False)
        _add_options(name, command)
    for name, help_text in ON_JOBS.items():
        command = commands.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
        command.add_argument("job", metavar="JOB", nargs="?" if name == "status" else None, help="its name, as `cgd submit` says it")
        command.set_defaults(arm=None, overrides=[])
        _add_address(command)
        if name == "logs":
            command.add_argument("--follow", action="store_true", help="until the job ends; the exit code is then its driver's")
    _add_render(commands.add_parser("cluster", help=RENDER, description=f"{RENDER[0].upper()}{RENDER[1:]}."))
    return parser


def _add_render(command: argparse.ArgumentParser) -> None:
    command.add_argument("action", choices=["render"], help="fill a template in")
    _add_config(command)
    command.add_argument("--kind", required=True, help="of cluster: kuberay, slurm, ray-up-aws, ray-up-gcp or skypilot")
    command.add_argument(
        "--set",
        dest="values",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="what the config does not say, e.g. --set image=REGISTRY/IMAGE:TAG; docs/clusters.md has all",
    )
    command.set_defaults(arm=None)


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", metavar="CONFIG", help="YAML file; jobs/configs/ holds examples")
    command.add_argument(
        "overrides", metavar="a.b=c", nargs="*", help="settings that replace the file's, e.g. training.num_workers=4; values are YAML"
    )


def _add_address(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--address",
        metavar="URL",
        help="of the cluster's dashboard, e.g. http://HEAD:8265; RAY_API_SERVER_ADDRESS or RAY_ADDRESS if left out",
    )


def _add_options(name: str, command: argparse.ArgumentParser) -> None:
    if name in ("run", "generate"):
        command.add_argument("--retry-failed", action="store_true", help="make the rows again that have failed before")
    if name in WRITING:
        command.add_argument("--take-over", action="store_true", help="make a driver end that is still at work on the run directory")
    if name == "submit":
        _add_address(command)
        command.add_argument("--per-phase", action="store_true", help="generate, train and evaluate as jobs one after another")
        command.add_argument(
            "--no-upload", dest="upload", action="store_false", help="the cluster's images hold the config and this package"
        )
        command.add_argument("--no-wait", dest="wait", action="store_false", help="do not follow the job to its end")
    if name == "inspect":
        command.add_argument("--arm", metavar="ARM", help="the arm to show, that of the config if left out")
        command.add_argument("--count", type=_positive, default=3, metavar="N", help="examples to show, %(default)s if left out")
        command.add_argument("--html", type=Path, metavar="FILE", help="write one HTML file instead of printing")
    if name == "export-data":
        command.add_argument("--format", choices=FORMATS, required=True, help="the form of a line")
        command.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _complain(message: object, exit_code: int) -> int:
    for line in str(message).splitlines():
        sys.stderr.write(f"cgd: {line}\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
