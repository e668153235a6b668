"""Runs as processes of their own, some side by side, all on one Ray.

Why processes: a run takes the terminal and the signals of its process, and a fault that ends it ends no other. Why one Ray: it knows which
cores and GPUs are taken, so runs side by side wait for each other and do not share them. It is the cluster's where there is one, as in a
Ray job, or one that is started here for all of them.
How to use: `with processes(config.cluster, 2, logs, say) as run: problems = run(tasks)`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cgd_ray.cluster.connection import connected, starts_here
from cgd_ray.config import ClusterConfig
from cgd_ray.process.console import Screen
from cgd_ray.process.stopping import LONGEST_S, stopped_by_signals

POLL_S = 0.2
PROGRAM = (sys.executable, "-m", "cgd_ray.cli")
COMPLAINT = "cgd: "
"""What the command line begins its last words with."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A command on a run's config."""

    name: str
    command: str
    config: Path
    log: Path
    """What the process prints is added to it."""


Run = Callable[[Sequence[Task]], Mapping[str, str]]
"""Carries tasks out and returns the names of those that have not come to their end, each with why."""
Runner = Callable[[ClusterConfig, int, Path, Say], AbstractContextManager[Run]]
"""What `processes` is."""


@contextmanager
def processes(cluster: ClusterConfig, at_once: int, logs: Path, say: Say) -> Iterator[Run]:
    """Yield what runs tasks, so many at once; meanwhile what else this process prints, as Ray does, goes to a file in `logs`.

    `say` is therefore to be that of printing_lines() (process/console.py). Raises StoppedError or KeyboardInterrupt on a signal, once the
    processes have ended too.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with Screen(logs / "driver.log"), connected(cluster), stopped_by_signals(say):
        pool = _Processes(at_once, say, _environment(cluster))
        try:
            yield pool.run
        finally:
            pool.end()


def _environment(cluster: ClusterConfig) -> dict[str, str]:
    """That of the processes, which join a Ray that was started here."""
    if not starts_here(cluster):
        return dict(os.environ)
    import ray

    return {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A task that is at work."""

    task: Task
    began: float
    logged_before: int
    """Bytes of its log that are of earlier tries."""

    def last_words(self, exit_code: int) -> str:
        """What it has died of."""
        said = self.task.log.read_bytes()[self.logged_before :].decode(errors="replace").splitlines()
        complaint = next((line.removeprefix(COMPLAINT) for line in reversed(said) if line.startswith(COMPLAINT)), None)
        return complaint or f"exit code {exit_code}, see {self.task.log}"


class _Processes:
    """Tasks that are at work."""

    def __init__(self, at_once: int, say: Say, environment: Mapping[str, str]) -> None:
        self._at_once, self._say, self._environment = at_once, say, environment
        self._working: dict[subprocess.Popen[bytes], _Work] = {}

    def run(self, tasks: Sequence[Task]) -> dict[str, str]:
        waiting, problems, num_begun = list(tasks), dict[str, str](), 0
        while waiting or self._working:
            while waiting and len(self._working) < self._at_once:
                num_begun += 1
                task = waiting.pop(0)
                self._say(f"{task.name}: {task.command} begins ({num_begun} of {len(tasks)}), log {task.log}")
                work = _Work(task=task, began=time.monotonic(), logged_before=task.log.stat().st_size if task.log.exists() else 0)
                self._working[_begun(task, self._environment)] = work
            time.sleep(POLL_S)
            for process in [process for process in self._working if process.poll() is not None]:
                work = self._working.pop(process)
                name, outcome = work.task.name, "is done"
                if process.returncode:
                    problems[name] = work.last_words(process.returncode)
                    outcome = f"has failed: {problems[name]}"
                self._say(f"{name}: {work.task.command} {outcome} ({time.monotonic() - work.began:.0f} s)")
        return problems

    def end(self) -> None:
        """Have what is at work come to where it can go on; SIGTERM after Ctrl-C, which the terminal has sent it too, changes nothing."""
        for process in self._working:
            process.terminate()
        deadline = time.monotonic() + LONGEST_S
        for process in self._working:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _begun(task: Task, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    task.log.parent.mkdir(parents=True, exist_ok=True)
    # a comparison that was killed may have left a run that is still at work, which is made to end
    command = [*PROGRAM, task.command, str(task.config), "--take-over"]
    with task.log.open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=dict(environment))
