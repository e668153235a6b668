"""A cluster that runs whatever anybody sends it is not connected to."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cgd_ray.cluster.connection import is_of_this_machine, start_fault, takes_jobs_of_anybody
from tests.processes import free_port


class JobServer(BaseHTTPRequestHandler):
    """Answers who asks for the jobs, with a token if it wants one."""

    status = 200

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/api/jobs/" else 404)
        self.end_headers()


class Locked(JobServer):
    status = 401


@pytest.fixture(params=[JobServer, Locked])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, bool]]:
    """A job server, and whether it takes jobs of anybody."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), request.param)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", request.param is JobServer
    server.shutdown()
    server.server_close()


def test_a_job_server_without_a_token_is_told_from_one_with(server: tuple[str, bool]) -> None:
    address, is_open = server
    assert takes_jobs_of_anybody(address) is is_open


def test_one_that_cannot_be_reached_takes_no_jobs() -> None:
    assert not takes_jobs_of_anybody(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    ("url", "own"),
    [
        (None, True),
        ("", True),
        ("127.0.0.1:8265", True),
        ("localhost:8265", True),
        ("[::1]:8265", True),
        ("10.0.0.1:8265", False),
        ("head.example:8265", False),
        ("[2001:db8::1]:8265", False),
    ],
)
def test_a_dashboard_is_of_this_machine_alone_where_no_other_reaches_it(url: str | None, own: bool) -> None:
    assert is_of_this_machine(url) is own


@pytest.mark.parametrize(
    "error",
    [
        Exception(
            "The current node timed out during startup. This could happen because some of the raylet failed to startup or the GCS has "
            "become overloaded."
        ),
        RuntimeError("Failed to start GCS.  Last 2 lines of error files:\none\ntwo."),
        RuntimeError("Timed out waiting for node info for node_id=1."),
    ],
)
def test_a_ray_that_is_not_there_in_time_is_a_line_with_the_remedy(error: Exception) -> None:
    here, elsewhere = start_fault(error, None), start_fault(error, "head:6379")
    assert here is not None
    assert elsewhere is not None
    assert "\n" not in here + elsewhere
    assert here.startswith("Ray did not start on this machine in its time")
    assert "cluster.address=auto" in here
    assert elsewhere.startswith("cluster.address head:6379 does not answer in time")


def test_what_else_ray_raises_stays_as_it_is() -> None:
    assert start_fault(RuntimeError("Maybe you called ray.init twice by accident?"), None) is None
