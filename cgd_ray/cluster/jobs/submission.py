"""A run as jobs of a cluster: what `cgd submit`, `status`, `logs` and `stop` do.

How to use: `exit_code = submit(Submission(...), jobs, write, say)`.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cgd_ray.cluster.jobs.client import Jobs
from cgd_ray.cluster.jobs.upload import CONFIG, check_run_dir, uploaded
from cgd_ray.cluster.jobs.watching import Write, watch
from cgd_ray.config import Config

PHASES = ("generate", "train", "evaluate")
PROGRAM = ("python", "-m", "cgd_ray.cli")
"""By module, so that it is the upload's package where there is one, and on the path of the cluster's images."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What is asked for."""

    config: Config
    """With its paths as they are written."""
    source: str
    """The file that it was read from."""
    overrides: Sequence[str]
    uploads: bool = True
    """Whether the config, what it names by relative paths, and this package are sent along; else the nodes have them at the same places."""
    per_phase: bool = False
    """Whether each phase is a job of its own, between which the cluster may give nodes away."""
    waits: bool = True
    """Whether jobs are watched to their end."""


def submit(submission: Submission, jobs: Jobs, write: Write, say: Write) -> int:
    """Run the jobs one after another while they succeed; returns the exit code of the last. Raises ValueError for what is refused."""
    phases = _phases(submission.config) if submission.per_phase else ("run",)
    with _directory(submission, say) as directory:
        for phase in phases:
            told = [CONFIG] if submission.uploads else [submission.source, *submission.overrides]
            job = jobs.submit(shlex.join([*PROGRAM, phase, *told]), phase, submission.config.run_dir, directory)
            say(f"{job} is submitted")
            if not submission.waits:
                say(f"`cgd logs {job} --follow` shows it, `cgd stop {job}` ends it")
                return 0
            exit_code = watch(jobs, job, write, say)
            say(f"{job} has ended with exit code {exit_code}")
            if exit_code:
                return exit_code
    return 0


def check(submission: Submission) -> None:
    """Raise ValueError when the settings do not go together."""
    check_run_dir(submission.config)
    if submission.per_phase and not submission.waits:
        raise ValueError("--per-phase starts a job when the one before has ended, so it cannot go with --no-wait; leave one of them out")
    if submission.per_phase and submission.config.training.streaming:
        raise ValueError("training.streaming is true, so generation and training are one job; leave --per-phase out, or set it to false")


def _phases(config: Config) -> tuple[str, ...]:
    return tuple(phase for phase in PHASES if phase != "evaluate" or config.evaluation is not None)


@contextmanager
def _directory(submission: Submission, say: Write) -> Iterator[Path | None]:
    if not submission.uploads:
        yield None
        return
    with uploaded(submission.config) as upload:
        for line in upload.described():
            say(line)
        yield upload.directory


def table(jobs: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """What is shown of jobs."""
    return [
        {
            "job": job["id"],
            "status": job["status"] if job["exit_code"] in (None, 0) else f"{job['status']} ({job['exit_code']})",
            "started": datetime.fromtimestamp(job["started"]).strftime("%Y-%m-%d %H:%M"),
            "run_dir": job["run_dir"] or "",
        }
        for job in jobs
    ]


def show_logs(jobs: Jobs, job: str, write: Write, say: Write, follow: bool) -> int:
    """Print what a job has printed, or what it prints until it ends; returns its exit code in the latter case."""
    if follow:
        return watch(jobs, job, write, say)
    write(jobs.logs(job))
    return 0
