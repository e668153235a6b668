"""A real S3 server for the tests of this folder."""

from collections.abc import Iterator

import pytest

from cgd_ray.runs.remote.objects import Objects
from tests.buckets import Buckets


@pytest.fixture(scope="package")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    server = Buckets(tmp_path_factory.mktemp("buckets"))
    yield server
    server.kill()


@pytest.fixture
def url(buckets: Buckets, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Of a place in a bucket where nothing is."""
    buckets.use(monkeypatch)
    return f"s3://runs/{abs(hash(request.node.nodeid))}"


@pytest.fixture
def store(url: str) -> Objects:
    return Objects(url, retry_s=2.0)
