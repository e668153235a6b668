"""A stand-in for the Hugging Face hub on this machine: the requests that huggingface_hub makes to list and fetch a model's files."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Hub(ThreadingHTTPServer):
    """Models by their names. A push makes a commit, which the name then means; older ones stay."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits: dict[str, dict[str, Path]] = {}
        self.requests: list[str] = []
        """Paths that were asked for."""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def push(self, name: str, directory: Path) -> str:
        """Make a directory what a name means; returns the commit."""
        commits = self.commits.setdefault(name, {})
        commit = hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()  # noqa: S324  (a name, as on the hub)
        commits[commit] = directory
        return commit

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(path)
        words = path.removeprefix("/api/models").strip("/").split("/")
        name, kind, rest = "/".join(words[:2]), *(words[2:3] or [""]), words[3:]
        commits = self.server.commits.get(name)
        commit = None if commits is None or not rest else next(reversed(commits)) if rest[0] == "main" else rest[0]
        if commits is None or commit not in commits:
            return self.reply(
                {"error": "there is none"}, 404, **{"X-Error-Code": "RepoNotFound" if commits is None else "RevisionNotFound"}
            )
        files = {str(file.relative_to(commits[commit])): file for file in sorted(commits[commit].rglob("*")) if file.is_file()}
        if kind == "revision":
            return self.reply({"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in files]})
        if kind == "tree":
            return self.reply(
                [{"type": "file", "path": file, "size": path.stat().st_size, "oid": etag(path)} for file, path in files.items()]
            )
        file = files.get("/".join(rest[1:]))
        if file is None:
            return self.reply({"error": "there is none"}, 404, **{"X-Error-Code": "EntryNotFound"})
        return self.send(file.read_bytes(), 200, {"ETag": f'"{etag(file)}"', "X-Repo-Commit": commit})

    def reply(self, content: Any, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **headers})

    def send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()  # noqa: S324
