"""A job is watched by asking: its status decides, and no stream of logs can be cut, as none is held open.

Ray's own `ray job submit` follows a stream and takes its end for the job's (kuberay#4921, ray#60665). Here a cluster that does not
answer is asked again, for as long as a head may take to come back.
How to use: `exit_code = watch(jobs, job, write, say)`.
"""

import signal
import time
from collections.abc import Callable
from typing import Any

from cgd_ray.cluster.jobs.client import Jobs, UnreachableError, is_final

Write = Callable[[str], None]

POLL_S = 2.0
PATIENCE_S = 1800.0
"""How long a cluster may be away."""
BYTES_PER_S = 2**19
"""Of logs that are fetched again and again: long ones are looked at less often."""
EXIT_FAILED, EXIT_STOPPED = 1, 128 + signal.SIGTERM


def watch(jobs: Jobs, job: str, write: Write, say: Write, poll_s: float = POLL_S) -> int:
    """Print what a job prints until it has ended; returns the exit code of its driver, or what stands for it.

    Raises ValueError when the cluster does not know the job any more, or is away for too long.
    """
    printed, next_look, away_since = 0, 0.0, None
    while True:
        try:
            found = jobs.look(job)
            if away_since is not None:
                say("the cluster answers again")
                away_since = None
            if is_final(found) or time.monotonic() >= next_look:
                logs = jobs.logs(job)
                write(logs[printed:])
                printed = max(printed, len(logs))
                next_look = time.monotonic() + len(logs) / BYTES_PER_S
            if is_final(found):
                return exit_code(found)
        except UnreachableError as error:
            if away_since is None:
                say(f"the cluster does not answer ({error}); the job may go on, it is asked for up to {PATIENCE_S / 60:.0f} minutes")
                away_since = time.monotonic()
            if time.monotonic() - away_since > PATIENCE_S:
                raise ValueError(f"the cluster has not answered for {PATIENCE_S / 60:.0f} minutes; `cgd status {job}` asks again") from None
        time.sleep(poll_s)


def stop(jobs: Jobs, job: str, say: Write, poll_s: float = POLL_S) -> dict[str, Any]:
    """Ask a job to end, which brings its stage to where it can go on, and wait for that; returns what it was at the end."""
    found = jobs.look(job)
    if is_final(found):
        return found
    jobs.stop(job)
    say(f"{job} is asked to end; what is under way is brought to where it can go on")
    while not is_final(found):
        time.sleep(poll_s)
        try:
            found = jobs.look(job)
        except UnreachableError:
            continue
    return found


def exit_code(job: dict[str, Any]) -> int:
    """Of a job that has ended: its driver's, as a shell has it."""
    if job["status"] == "STOPPED":
        return EXIT_STOPPED
    if job["status"] == "SUCCEEDED":
        return 0
    code = job["exit_code"]
    if code is None or code == 0:
        return EXIT_FAILED
    return 128 - code if code < 0 else int(code)
