"""A real S3 server of this machine's own, SeaweedFS, in a process that can be killed and started again on the same data."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import free_port, stop

WEED = Path(sys.executable).with_name("weed")
PATIENCE_S = 60.0
KEY, SECRET = "key-of-tests", "secret-of-tests"
LISTENERS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)


class Buckets:
    """The server; buckets come into being when they are first written to."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = {name: free_port() for name in LISTENERS}
        (directory / "data").mkdir(parents=True)
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        """What those who use it have in theirs."""
        address = f"http://127.0.0.1:{self._ports['s3.port']}"
        return {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have this process use it."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def start(self) -> None:
        """Serve, and wait until requests are answered."""
        options = [f"-{name}={port}" for name, port in self._ports.items()]
        options += [
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-s3",
            f"-s3.config={self._directory / 's3.json'}",
            f"-dir={self._directory / 'data'}",
        ]
        options += ["-master.volumeSizeLimitMB=64", "-volume.max=64", "-master.telemetry=false"]
        options += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        with (self._directory / "weed.log").open("ab") as log:
            self._process = subprocess.Popen([WEED, "server", *options], stdout=log, stderr=log, cwd=self._directory)
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "weed.log").read_text()[-2000:]
            assert time.monotonic() < deadline, (self._directory / "weed.log").read_text()[-2000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """End it as a power cut does."""
        assert self._process is not None
        stop(self._process.pid)

    def _answers(self) -> bool:
        """Whether an object can be written, which is possible somewhat later than all else."""
        from obstore import put
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        try:
            store = S3Store(
                "probe",
                endpoint=self.environment["AWS_ENDPOINT_URL"],
                access_key_id=KEY,
                secret_access_key=SECRET,
                region="us-east-1",
                client_options={"allow_http": True},
                retry_config={"max_retries": 0},
            )
            put(store, "probe", b"1")
        except (BaseError, FileNotFoundError):
            return False
        return True
