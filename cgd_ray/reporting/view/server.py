"""`cgd view RUN`: serves the page of a run to browsers of this machine while the run goes on; it reads, and never locks or leases.

Other users of this machine reach its loopback interface, and so do web pages of others in a browser here. So each view has an address that
cannot be guessed, as Jupyter's have, and answers only where the browser was told a name of this machine, since a page elsewhere may have
its own name point here (DNS rebinding). There are two addresses and no files behind them: nothing else can be asked for.
From another machine: `ssh -L 8000:localhost:PORT HOST`, then the address with port 8000.
How to use: `view(run_dir, port=0, say=print)`; it ends with Ctrl-C.
"""

import errno
import gzip
import hmac
import os
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cgd_ray.data.rundir import RunDir
from cgd_ray.reporting.view.live_page import PAYLOAD, LivePage, Snapshot

LOOPBACK = "127.0.0.1"
NAMES = frozenset({LOOPBACK, "localhost", "::1"})
"""What this machine is called where nothing leaves it; the port may be another one, as that of a tunnel."""
HEADERS = {
    "Cache-Control": "private, no-cache",  # asked again each time, which is answered with 304 while nothing has changed
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PAGE_POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Besides what the page says itself of scripts and all else that it loads; a page cannot say who may frame it."""
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
HTML, JSON, TEXT = ("text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8")


def view(run_dir: Path, port: int, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; port 0 takes a free one. Raises ValueError when the port cannot be had or `run_dir` is a file."""
    if run_dir.is_file():
        raise ValueError(f"{run_dir} is a file, not a run directory; give what the config calls run_dir")
    with _bound(run_dir, port) as server:
        say(f"{server.url}")
        say(f"shows {run_dir}{'' if run_dir.exists() else ', which does not exist yet,'} and follows it; Ctrl-C ends the view, not the run")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


class ViewServer(ThreadingHTTPServer):
    """Serves one run on the loopback interface, a thread for each request."""

    def __init__(self, run_dir: Path, port: int) -> None:
        self.live = LivePage(RunDir(run_dir))
        self.token = secrets.token_urlsafe(24)
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"


def _bound(run_dir: Path, port: int) -> ViewServer:
    try:
        return ViewServer(run_dir, port)
    except OverflowError:
        reason = "there are ports up to 65535 only"
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        reason = os.strerror(error.errno)
    raise ValueError(f"port {port} cannot be had ({reason}); give another --port, or none to take a free one")


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    timeout = 60  # of a connection on which nothing comes

    def do_GET(self) -> None:
        """Answer."""
        if not self._is_asked_by_name():
            return self._refuse(HTTPStatus.FORBIDDEN, "this machine is asked by another name; open the address that cgd view has printed")
        url = urlsplit(self.path)
        asked = url.path.encode("utf-8", "surrogatepass")
        name = next((name for name in ("", PAYLOAD) if hmac.compare_digest(asked, f"/{self.server.token}/{name}".encode())), None)
        if name is None:
            return self._refuse(HTTPStatus.NOT_FOUND, "nothing is here; open the address that cgd view has printed")
        try:
            snapshot = self.server.live.now()
        except (ValueError, OSError) as error:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"the run cannot be read: {error}; load this page again once it can")
        if parse_qs(url.query).get("since") == [snapshot.stamp]:
            return self._answer(HTTPStatus.NO_CONTENT, b"", JSON)
        self._serve(snapshot, name)

    def _serve(self, snapshot: Snapshot, name: str) -> None:
        etag = f'"{snapshot.stamp}"'
        if etag in self.headers.get("If-None-Match", ""):
            return self._answer(HTTPStatus.NOT_MODIFIED, b"", HTML if not name else JSON, ETag=etag)
        body, kind, policy = (snapshot.data, JSON, DATA_POLICY) if name else (snapshot.page, HTML, PAGE_POLICY)
        headers = {"ETag": etag, "Vary": "Accept-Encoding", "Content-Security-Policy": policy}
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            body = gzip.decompress(body)
        self._answer(HTTPStatus.OK, body, kind, **headers)

    def _is_asked_by_name(self) -> bool:
        hosts = self.headers.get_all("Host", [])
        try:
            return len(hosts) == 1 and urlsplit(f"//{hosts[0]}").hostname in NAMES
        except ValueError:  # brackets that hold no address
            return False

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._answer(status, f"{reason}\n".encode("utf-8", "replace"), TEXT, **{"Content-Security-Policy": DATA_POLICY})

    def _answer(self, status: HTTPStatus, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what the library cannot answer, such as any method but GET."""
        self.close_connection = True
        self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def version_string(self) -> str:
        """Name the program and no versions."""
        return "cgd"

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the terminal is the user's, and the addresses are secret."""
