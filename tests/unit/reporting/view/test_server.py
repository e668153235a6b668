"""The view answers browsers of this machine that know its address, with what has changed, and nobody else with anything."""

import gzip
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgd_ray.reporting.view.live_page import PAYLOAD
from cgd_ray.reporting.view.server import LOOPBACK, ViewServer, view
from tests.unit.reporting.health.runs import MadeRun


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewServer]:
    root = tmp_path_factory.mktemp("run")
    MadeRun(root).add_records(10)
    with ViewServer(root, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: ViewServer, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_port)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_only_the_loopback_interface_is_listened_on(server: ViewServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.url.startswith(f"http://127.0.0.1:{server.server_port}/")


def test_the_page_and_its_payload_are_served_compressed_or_not(server: ViewServer) -> None:
    response, page = ask(server, f"/{server.token}/")
    assert (response.status, response.headers["Content-Encoding"]) == (200, None)
    assert page.startswith(b"<!doctype html>")
    response, packed = ask(server, f"/{server.token}/{PAYLOAD}", Accept_Encoding="gzip, br")
    assert (response.headers["Content-Type"], response.headers["Content-Encoding"]) == ("application/json", "gzip")
    assert json.loads(gzip.decompress(packed))["runs"][0]["data"]["num_records"] == 10


def test_the_page_asks_its_own_origin_for_what_is_new(server: ViewServer) -> None:
    _, page = ask(server, f"/{server.token}/")
    assert f'data-live="{PAYLOAD}"'.encode() in page
    assert b"connect-src &#x27;self&#x27;" in page or b"connect-src 'self'" in page


def test_what_the_browser_has_is_not_sent_again(server: ViewServer) -> None:
    response, payload = ask(server, f"/{server.token}/{PAYLOAD}")
    again, body = ask(server, f"/{server.token}/{PAYLOAD}", If_None_Match=response.headers["ETag"])
    assert (again.status, body) == (304, b"")
    since, body = ask(server, f"/{server.token}/{PAYLOAD}?since={json.loads(payload)['stamp']}")
    assert (since.status, body) == (204, b"")
    assert ask(server, f"/{server.token}/{PAYLOAD}?since=another")[0].status == 200


@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1.attacker.example", "localhost@attacker.example", "[", "", "192.168.0.1"])
def test_a_name_that_is_not_this_machines_is_refused(server: ViewServer, host: str) -> None:
    assert ask(server, f"/{server.token}/", Host=host)[0].status == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LOCALHOST"])
def test_a_tunnel_may_have_another_port(server: ViewServer, host: str) -> None:
    assert ask(server, f"/{server.token}/", Host=host)[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/{}",
        "/{}x/",
        "/x{}/",
        "/{}/../config.yaml",
        "/{}/config.yaml",
        "/{}/%2e%2e/config.yaml",
        "/{}/payload.json/..",
        "/%C3%A9/",
    ],
)
def test_nothing_else_can_be_asked_for(server: ViewServer, path: str) -> None:
    response, body = ask(server, path.replace("{}", server.token))
    assert (response.status, body) == (404, b"nothing is here; open the address that cgd view has printed\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_nothing_but_get_is_answered(server: ViewServer, method: str) -> None:
    assert ask(server, f"/{server.token}/", method)[0].status == 501


@pytest.mark.parametrize("path", ["/{}/", "/{}/payload.json", "/elsewhere"])
def test_every_answer_forbids_framing_sniffing_and_referrers(server: ViewServer, path: str) -> None:
    headers = ask(server, path.format(server.token))[0].headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Access-Control-Allow-Origin"] is None
    assert headers["Server"] == "cgd"


def test_each_view_has_an_address_of_its_own(tmp_path: Path) -> None:
    with ViewServer(tmp_path, 0) as first, ViewServer(tmp_path, 0) as second:
        assert first.token != second.token
        assert len(first.token) >= 32


def test_a_port_that_is_taken_and_one_that_does_not_exist_are_refused_in_one_line(tmp_path: Path) -> None:
    with ViewServer(tmp_path, 0) as server, pytest.raises(ValueError, match=f"port {server.server_port} cannot be had"):
        view(tmp_path, server.server_port, print)
    with pytest.raises(ValueError, match="port 70000 cannot be had"):
        view(tmp_path, 70000, print)


def test_a_config_in_place_of_a_run_directory_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.touch()
    with pytest.raises(ValueError, match="is a file, not a run directory"):
        view(config, 0, print)
