"""Fixtures that several test files share."""

import atexit
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.processes import end_those_begun

settings.register_profile("patient", deadline=None)  # an example's time says more about the machine's load than about the code
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """None that a test has begun outlives it."""
    yield
    end_those_begun()


@pytest.fixture(scope="module")
def ray_local() -> None:
    """The Ray on this machine that the modules share; one that starts a cluster of its own ends it. The CPUs are logical."""
    import ray

    if not ray.is_initialized():
        ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)


@pytest.fixture(scope="module")
def no_ray() -> None:
    """No Ray in this process, so that a module may start one of its own kind."""
    import ray

    ray.shutdown()


class _LeavesAtOnce:
    """Ends a process that has run tests once pytest has told everything, with its exit status, in place of the interpreter's own end.

    There Ray's C++ may crash where Ray was started several times (as in ray#31145): once, after all tests had passed.
    """

    status: int | None = None

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Remember how the tests went."""
        self.status = int(exitstatus)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Stop Ray, do what is left for the end, and leave."""
        if self.status is None:
            return
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.status)


def pytest_configure(config: pytest.Config) -> None:
    """What holds for the whole run: its end, and that Ctrl-C arrives at what it starts, which in a shell's background job it does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(_LeavesAtOnce(), "leaves-at-once")
