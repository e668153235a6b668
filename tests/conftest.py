"""Fixtures that several test files share."""

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # an example's time says more about the machine's load than about the code
settings.load_profile("patient")


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
