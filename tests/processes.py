"""Processes that tests start: where they listen, and how they end."""

import contextlib
import random
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

import psutil


def stop(pid: int) -> None:
    """End a process and what it started; after a job, Ray's own way takes up to a minute."""
    parent = psutil.Process(pid)
    for process in [*parent.children(recursive=True), parent]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    parent.wait()


def free_port() -> int:
    """A port that nobody has: above those of Ray's workers, below those that the system gives to whoever asks for none in particular."""
    for port in random.sample(range(20_000, 32_768), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port
    raise AssertionError("a hundred ports are taken")


_BEGUN: list["subprocess.Popen[bytes]"] = []


def begun(command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """A process that ends with its test at the latest."""
    _BEGUN.append(subprocess.Popen(command, **options))
    return _BEGUN[-1]


def end_those_begun() -> None:
    """So that a test that fails takes no later one along."""
    while _BEGUN:
        _BEGUN[-1].kill()
        _BEGUN.pop().wait()
