"""Servers that tests start: where they listen, and how they end."""

import contextlib
import random
import socket

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
