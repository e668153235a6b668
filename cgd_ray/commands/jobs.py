"""The commands on jobs of a cluster that runs elsewhere: submit, status, logs, stop."""

import argparse
from functools import partial

from cgd_ray.commands.options import Do, add_address, add_config, added, say, write

SUBMIT = "all stages as a job of a Ray cluster that runs elsewhere, followed to its end"
ON_JOBS = {
    "status": "the jobs that were submitted to a cluster, and what has become of them",
    "logs": "what a job has printed",
    "stop": "end a job where it can go on, and wait for that",
}
STILL_RUNS = "interrupted; the job goes on, `cgd logs JOB --follow` shows it and `cgd stop JOB` ends it"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them."""
    command = added(commands, "submit", SUBMIT, partial(_asking, _submit))
    command.set_defaults(when_interrupted=STILL_RUNS)
    add_config(command)
    add_address(command)
    command.add_argument("--per-phase", action="store_true", help="generate, train and evaluate as jobs one after another")
    command.add_argument("--no-upload", dest="upload", action="store_false", help="the cluster's images hold the config and this package")
    command.add_argument("--no-wait", dest="wait", action="store_false", help="do not follow the job to its end")
    does: dict[str, Do] = {"status": _status, "logs": _logs, "stop": _stop}
    for name, help_text in ON_JOBS.items():
        command = added(commands, name, help_text, partial(_asking, does[name]))
        command.set_defaults(when_interrupted=STILL_RUNS)
        command.add_argument("job", metavar="JOB", nargs="?" if name == "status" else None, help="its name, as `cgd submit` says it")
        add_address(command)
        if name == "logs":
            command.add_argument("--follow", action="store_true", help="until the job ends; the exit code is then its driver's")


def _asking(do: Do, parsed: argparse.Namespace) -> int:
    """A cluster that does not answer now may do so later."""
    from cgd_ray.cluster.jobs.client import UnreachableError
    from cgd_ray.process.faults import StageFailedError

    try:
        return do(parsed)
    except UnreachableError as error:
        raise StageFailedError(f"the cluster does not answer ({error}); the same command asks it again") from error


def _submit(parsed: argparse.Namespace) -> int:
    from cgd_ray.cluster.jobs.client import Jobs
    from cgd_ray.cluster.jobs.submission import Submission, check, submit
    from cgd_ray.config import read_config
    from cgd_ray.runs.planned import told

    submission = Submission(
        config=read_config(parsed.config, parsed.overrides),
        source=parsed.config,
        overrides=parsed.overrides,
        uploads=parsed.upload,
        per_phase=parsed.per_phase,
        waits=parsed.wait,
    )
    check(submission)
    jobs = Jobs.at(parsed.address)
    if (resources := jobs.resources(submission.config.cluster.max_resources)) is not None:
        told(submission.config, resources, say)
    return submit(submission, jobs, write, say)


def _status(parsed: argparse.Namespace) -> int:
    from cgd_ray.cluster.jobs.client import Jobs
    from cgd_ray.cluster.jobs.submission import table

    jobs = Jobs.at(parsed.address)
    found = jobs.all() if parsed.job is None else [jobs.look(parsed.job)]
    if not found:
        say("no job was submitted with `cgd submit` yet")
    for row in table(found):
        say("  ".join(f"{value:<{width}}" for value, width in zip(row.values(), (32, 14, 16, 0), strict=True)))
    return 0


def _logs(parsed: argparse.Namespace) -> int:
    from cgd_ray.cluster.jobs.client import Jobs
    from cgd_ray.cluster.jobs.submission import show_logs

    return show_logs(Jobs.at(parsed.address), parsed.job, write, say, parsed.follow)


def _stop(parsed: argparse.Namespace) -> int:
    from cgd_ray.cluster.jobs.client import Jobs
    from cgd_ray.cluster.jobs.watching import stop

    say(f"{parsed.job} has ended: {stop(Jobs.at(parsed.address), parsed.job, say)['status']}")
    return 0
