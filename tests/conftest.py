"""Fixtures that several test files share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # an example's time says more about the machine's load than about the code
settings.load_profile("patient")


@pytest.fixture(scope="module")
def ray_local() -> Iterator[None]:
    """One Ray on this machine for the tests of a module; other modules start clusters. The CPUs are logical."""
    import ray

    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
