"""Ray's job server as this project talks to it: each request has an end, and what it refuses is one line.

How to use: `jobs = Jobs.at(address)`; `jobs.submit(entrypoint, name, ...)`, `jobs.look(id)`, `jobs.all()`, `jobs.stop(id)`.
"""

import logging
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from cgd_ray.cluster.connection import Node, Resources

REQUEST_S = 30.0
AGENT_S = 90.0
"""How long a head may take from its first answer until it can start jobs."""
STOP_WAIT_S = 35
"""Seconds that Ray gives a stopped job before it kills it; its own 3 are too few to bring a stage to where it can go on (28)."""
RUN_DIR = "cgd_run_dir"
"""In a job's metadata: what tells this project's jobs from others."""
PASSING = frozenset({"408", "429", "502", "503", "504"})
"""HTTP statuses of a proxy or a server that is busy; a head that comes back answers 500 for a while."""
FINAL = ("SUCCEEDED", "FAILED", "STOPPED")


class UnreachableError(Exception):
    """The job server did not answer; it may do so later."""


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    def at(cls, address: str | None) -> "Jobs":
        """The jobs at the address of a cluster's dashboard, by default that in RAY_API_SERVER_ADDRESS or RAY_ADDRESS.

        Raises ValueError when no cluster is there, or when it wants a token.
        """
        address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
        if address is None:
            raise ValueError("there is no address of a cluster; give --address http://HEAD:8265, or set RAY_API_SERVER_ADDRESS")
        try:
            with _explained(PASSING):
                jobs = cls(_client(address))
            jobs.all()
        except UnreachableError as error:
            raise ValueError(f"the cluster at {address} cannot be reached ({error}); start Ray there, or give another --address") from None
        return jobs

    def submit(self, entrypoint: str, name: str, run_dir: str, working_dir: Path | None) -> str:
        """Start a job under a name that no attempt has had, and return its id. Raises ValueError when one works on the run directory."""
        jobs = self.all()
        for job in jobs:
            if job["run_dir"] == run_dir and not is_final(job):
                raise ValueError(
                    f"run_dir {run_dir} has job {job['id']}, which is {job['status']}; `cgd logs {job['id']} --follow` shows it, "
                    f"`cgd stop {job['id']}` ends it"
                )
        submission = {
            "entrypoint": entrypoint,
            "submission_id": _next_attempt(f"{_plain(Path(run_dir).name)}-{name}", {job["id"] for job in jobs}),
            "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}, **_sent(working_dir)},
            "metadata": {RUN_DIR: run_dir},
        }
        deadline = time.monotonic() + AGENT_S
        while True:
            try:
                return str(self._ask("submit_job", **submission))
            except ValueError as error:
                if "No available agent" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(2)

    def resources(self, limits: Mapping[str, float]) -> Resources | None:
        """What the cluster's nodes have, and may come to have; None where its dashboard does not tell."""
        from ray.util.state.api import ListApiOptions, StateApiClient
        from ray.util.state.common import StateResource
        from ray.util.state.exception import RayStateApiException

        try:
            with _environment("RAY_API_SERVER_ADDRESS", self._client.get_address()):
                client = StateApiClient(address=self._client.get_address())
                nodes = client.list(StateResource.NODES, ListApiOptions(timeout=int(REQUEST_S)), raise_on_missing_output=False)
        except (RayStateApiException, OSError, RuntimeError):
            return None
        alive = [Node(resources=node.resources_total, labels=node.labels or {}) for node in nodes if node.state == "ALIVE"]
        return Resources(nodes=alive, limits=limits) if alive else None

    def look(self, job: str) -> dict[str, Any]:
        """A job's `id`, `status`, `run_dir`, `exit_code`, `message`, `started` (seconds since the epoch). Raises UnreachableError."""
        return _described(self._ask("get_job_info", job))

    def logs(self, job: str) -> str:
        """All that its driver has printed. Raises UnreachableError."""
        return str(self._ask("get_job_logs", job))

    def all(self) -> list[dict[str, Any]]:
        """The jobs that `cgd submit` has started, oldest first, as look() has them. Raises UnreachableError."""
        jobs = [_described(job) for job in self._ask("list_jobs") if job.submission_id is not None and RUN_DIR in (job.metadata or {})]
        return sorted(jobs, key=lambda job: job["started"])

    def stop(self, job: str) -> None:
        """Ask a job to end. Raises UnreachableError."""
        self._ask("stop_job", job)

    def _ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        with _explained(PASSING if method == "submit_job" else PASSING | {"500"}):
            return getattr(self._client, method)(*arguments, **named)


@contextmanager
def _explained(passing: Collection[str]) -> Iterator[None]:
    """Raise UnreachableError for what may pass, with these HTTP statuses, and ValueError, one line, for a refusal."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        first = str(error).splitlines()[0]
        raise ValueError(
            f"the cluster wants a token ({first}); set RAY_AUTH_MODE=token, and its token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from None
    except (ConnectionError, requests.RequestException) as error:
        raise UnreachableError(type(error).__name__) from None
    except RuntimeError as error:
        raise _refusal(str(error), passing) from None


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def _next_attempt(stem: str, taken: Collection[str]) -> str:
    """Ray takes each id once, also when its job is long gone."""
    return next(name for number in count(1) if (name := f"{stem}-{number}") not in taken)


def _sent(working_dir: Path | None) -> dict[str, str]:
    return {} if working_dir is None else {"working_dir": str(working_dir)}


def _refusal(text: str, passing: Collection[str]) -> Exception:
    """What the job server answered, by its status; some pass."""
    found = re.search(r"status code (?P<code>\d{3}): (?P<body>.*)", text, re.DOTALL)
    if found is None:
        return ValueError(text)
    lines = [line for line in found["body"].strip().splitlines() if line.strip()]
    said = lines[-1].strip(" .") if lines else "nothing"
    if found["code"] in passing:
        return UnreachableError(f"HTTP {found['code']}")
    if found["code"] == "404":
        return ValueError("the cluster knows no such job; if its head was started anew, submit the same again, and the run goes on")
    return ValueError(f"the cluster refuses (HTTP {found['code']}): {said}")


def _described(details: Any) -> dict[str, Any]:
    return {
        "id": details.submission_id,
        "status": str(details.status.value),
        "run_dir": (details.metadata or {}).get(RUN_DIR),
        "exit_code": details.driver_exit_code,
        "message": details.message or "",
        "started": (details.start_time or 0) / 1000,
    }


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    for module in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.WARNING)  # what it uploads is told here

    class Client(JobSubmissionClient):
        """Ray's, with an end to each request: without one a proxy that hangs would be waited for for ever."""

        def _do_request(self, *arguments: Any, **named: Any) -> Any:
            return super()._do_request(*arguments, timeout=REQUEST_S, **named)

    with _environment("RAY_API_SERVER_ADDRESS", address):  # which Ray prefers to what its client is given
        return Client(address)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def is_final(job: Mapping[str, Any]) -> bool:
    """Whether a job has ended."""
    return job["status"] in FINAL
