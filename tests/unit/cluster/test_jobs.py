"""Submitted jobs: what is sent along, how they are named, and that a job's status alone decides, whatever happens to the connection."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.cli import main
from cgd_ray.cluster.jobs import upload as uploads
from cgd_ray.cluster.jobs.client import STOP_WAIT_S, Jobs, UnreachableError
from cgd_ray.cluster.jobs.submission import Submission, submit
from cgd_ray.cluster.jobs.upload import uploaded
from cgd_ray.cluster.jobs.watching import stop, watch
from cgd_ray.config import Config, read_config
from tests.processes import free_port

RUNNING, SUCCEEDED = {"status": "RUNNING"}, {"status": "SUCCEEDED", "driver_exit_code": 0}
CUT, PROXY = "cut", 502


class Server(ThreadingHTTPServer):
    """Ray's job server as far as it is talked to. `script` is what it answers to questions after a job, the last entry for ever: what the
    job is then, an HTTP status, or CUT for a connection that is closed without an answer."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.submitted: list[dict[str, Any]] = []
        self.script: list[dict[str, Any] | int | str] = [RUNNING, SUCCEEDED]
        self.logs = ""
        self.token: str | None = None
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self) -> dict[str, Any] | int | str:
        """The next entry of the script; each prints a line of the job's."""
        entry = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(entry, dict):
            self.logs += f"line {self.logs.count('line')}\n"
        return entry

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: Any) -> None:
        pass

    def reply(self, content: Any, status: int = 200) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.server.token is not None and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self.reply("Unauthorized: Missing authentication token", 401)
        name = self.path.removeprefix("/api/jobs/")
        if self.path == "/api/version":
            return self.reply({"version": "4", "ray_version": "2.60.0", "ray_commit": ""})
        if self.path.startswith("/api/packages/"):
            return self.reply("", 404)
        if name == "":
            return self.reply([self.details(job) for job in self.server.jobs])
        if name.endswith("/logs"):
            return self.reply({"logs": self.server.logs})
        if name not in self.server.jobs:
            return self.reply(f"Job {name} does not exist", 404)
        entry = self.server.answer()
        if entry == CUT:
            self.close_connection = True
            return None
        if isinstance(entry, int):
            return self.reply("the proxy says so", entry)
        assert isinstance(entry, dict)
        self.server.jobs[name] |= entry
        return self.reply(self.details(name))

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply("")

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        if self.path.endswith("/stop"):
            self.server.script = [RUNNING, {"status": "STOPPED"}]
            return self.reply({"stopped": True})
        self.server.submitted.append(told)
        self.server.jobs[told["submission_id"]] = {"status": "PENDING", "metadata": told["metadata"]}
        return self.reply({"job_id": told["submission_id"], "submission_id": told["submission_id"]})

    def details(self, name: str) -> dict[str, Any]:
        return {"type": "SUBMISSION", "submission_id": name, "entrypoint": "python", "start_time": 1000, **self.server.jobs[name]}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to submit from: a config that names a model and problems in it, and much else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    for file in ("model/config.json", "data/problems.jsonl", "prompts.yaml", ".git/objects/pack", "runs/old/records/part.parquet"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    (tmp_path / "job_config.yaml").write_text(
        "run_dir: /shared/runs/mine\nprompts: prompts.yaml\nproblems: {path: data/problems.jsonl}\n"
        "student: {model: model}\nteacher: {model: nobody/on-the-hub}\nevaluation: {problems: {path: /shared/held_out.jsonl}}\n"
    )
    return tmp_path


def read(*overrides: str) -> Config:
    return read_config("job_config.yaml", overrides)


def submission(*overrides: str, **options: Any) -> Submission:
    return Submission(config=read(*overrides), source="job_config.yaml", overrides=overrides, **options)


def nothing(text: str) -> None:
    pass


def watched(server: Server, script: Sequence[dict[str, Any] | int | str]) -> tuple[int, str, list[str]]:
    """The exit code, what was printed of the job, and what was said about it."""
    server.jobs["job-1"], server.script = {"status": "RUNNING"}, list(script)
    printed, said = list[str](), list[str]()
    code = watch(Jobs.at(server.address), "job-1", printed.append, said.append, poll_s=0.01)
    return code, "".join(printed), said


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (SUCCEEDED, 0),
        ({"status": "FAILED", "driver_exit_code": 2}, 2),
        ({"status": "FAILED", "driver_exit_code": 1}, 1),
        ({"status": "FAILED", "driver_exit_code": -9}, 137),
        ({"status": "FAILED"}, 1),
        ({"status": "FAILED", "driver_exit_code": 0}, 1),
        ({"status": "STOPPED"}, 143),
    ],
)
def test_the_exit_code_is_that_of_the_jobs_driver(end: dict[str, Any], code: int, server: Server, here: Path) -> None:
    assert watched(server, [RUNNING, end])[0] == code


def test_twenty_cuts_and_a_proxys_errors_change_neither_the_exit_code_nor_what_is_printed(server: Server, here: Path) -> None:
    troubles: list[Any] = [trouble for _ in range(20) for trouble in (CUT, PROXY, 503, 500, RUNNING)]
    code, printed, said = watched(server, [*troubles, {"status": "FAILED", "driver_exit_code": 3}])
    assert code == 3
    assert printed == "".join(f"line {number}\n" for number in range(21))
    assert sum("does not answer" in line for line in said) == sum(line == "the cluster answers again" for line in said) == 20


def test_a_proxy_that_is_started_again_is_waited_for(here: Path) -> None:
    port = free_port()
    first = Server(port)
    jobs = Jobs.at(first.address)
    first.close()
    second = threading.Timer(0.5, lambda: Server(port).jobs.update({"job-1": dict(RUNNING)}))
    second.start()
    said = list[str]()
    assert watch(jobs, "job-1", nothing, said.append, poll_s=0.05) == 0
    assert said[-1] == "the cluster answers again"


def test_a_job_that_the_cluster_has_forgotten_is_told(server: Server, here: Path) -> None:
    with pytest.raises(ValueError, match="knows no such job; if its head was started anew, submit the same again, and the run goes on"):
        watch(Jobs.at(server.address), "job-1", nothing, nothing)


def test_stopping_waits_until_the_job_has_ended(server: Server, here: Path) -> None:
    server.jobs["job-1"], server.script = {"status": "RUNNING"}, [RUNNING]
    said = list[str]()
    assert stop(Jobs.at(server.address), "job-1", said.append, poll_s=0.01)["status"] == "STOPPED"
    assert said == ["job-1 is asked to end; what is under way is brought to where it can go on"]
    assert stop(Jobs.at(server.address), "job-1", said.append)["status"] == "STOPPED"
    assert len(said) == 1, "it has ended already"


def test_a_job_gets_its_config_what_that_names_by_relative_paths_and_this_package(here: Path) -> None:
    with uploaded(read("training.num_epochs=3")) as upload:
        sent = {name for name in upload.files if not name.startswith("cgd_ray/")}
        assert sent == {"job.yaml", "model/config.json", "data/problems.jsonl", "prompts.yaml"}
        assert "cgd_ray/cli.py" in upload.files
        assert not any("__pycache__" in name for name in upload.files)
        again = read_config(upload.directory / "job.yaml")
        assert again == read("training.num_epochs=3")
        assert list(upload.files.values()) == sorted(upload.files.values(), reverse=True)
        described = upload.described()
    assert not upload.directory.exists()
    assert len(described) == 6
    assert described[0].startswith(f"upload: {len(upload.files)} files, ")


def test_the_upload_runs_on_its_own(here: Path) -> None:
    with uploaded(read()) as upload:
        command = [sys.executable, "-m", "cgd_ray.cli", "config", "job.yaml"]
        done = subprocess.run(command, cwd=upload.directory, capture_output=True, text=True, check=True)
    assert f"path: {upload.directory}/data/problems.jsonl" in done.stdout


@pytest.mark.parametrize(
    ("override", "refusal"),
    [
        ("run_dir=runs/mine", "^run_dir runs/mine is relative, .*; give an absolute path on storage that all nodes share, run_dir=/...$"),
        ("prompts=../elsewhere.yaml", "^prompts ../elsewhere.yaml is outside of the current directory"),
        ("student.model=large", r"^the job's files have 101.0 MiB, more than 100.0 MiB .*large/weights 101.0 MiB.*; put them on storage"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_remedy(override: str, refusal: str, here: Path) -> None:
    shutil.copyfile("prompts.yaml", here.parent / "elsewhere.yaml")
    (here / "large").mkdir()
    with (here / "large" / "weights").open("wb") as weights:
        weights.truncate(uploads.MAX_BYTES + 2**20)
    with pytest.raises(ValueError, match=refusal), uploaded(read(override)):
        pass


def test_a_run_is_submitted_under_a_name_of_its_own_and_gets_time_to_stop(server: Server, here: Path) -> None:
    jobs = Jobs.at(server.address)
    for attempt in (1, 2):
        server.script = [SUCCEEDED]
        assert submit(submission(), jobs, nothing, nothing) == 0
        told = server.submitted[-1]
        assert told["submission_id"] == f"mine-run-{attempt}"
        assert told["entrypoint"] == "python -m cgd_ray.cli run job.yaml"
        assert told["runtime_env"]["working_dir"].startswith("gcs://")
        assert told["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    assert [job["id"] for job in jobs.all()] == ["mine-run-1", "mine-run-2"]


def test_a_run_directory_with_a_job_at_work_is_refused(server: Server, here: Path) -> None:
    jobs = Jobs.at(server.address)
    assert submit(submission(waits=False), jobs, nothing, nothing) == 0
    with pytest.raises(
        ValueError, match=r"^run_dir /shared/runs/mine has job mine-run-1, which is PENDING; `cgd logs mine-run-1 --follow`"
    ):
        submit(submission(), jobs, nothing, nothing)


def test_phases_are_jobs_one_after_another_as_long_as_they_succeed(server: Server, here: Path) -> None:
    jobs = Jobs.at(server.address)
    server.script = [SUCCEEDED]
    assert submit(submission(per_phase=True, uploads=False), jobs, nothing, nothing) == 0
    told = [job["entrypoint"] for job in server.submitted]
    assert told == [f"python -m cgd_ray.cli {phase} job_config.yaml" for phase in ("generate", "train", "evaluate")]
    assert "working_dir" not in server.submitted[-1]["runtime_env"]
    server.script = [{"status": "FAILED", "driver_exit_code": 1}]
    assert submit(submission("evaluation=null", per_phase=True), jobs, nothing, nothing) == 1
    assert [job["submission_id"] for job in server.submitted[3:]] == ["mine-generate-2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", "job_config.yaml"], "cgd: there is no address of a cluster; give --address http://HEAD:8265"),
        (["submit", "job_config.yaml", "--address", "http://127.0.0.1:9"], "cgd: the cluster at http://127.0.0.1:9 cannot be reached"),
        (["submit", "job_config.yaml", "run_dir=runs/x", "--address", "ADDRESS"], "cgd: run_dir runs/x is relative"),
        (["submit", "job_config.yaml", "--per-phase", "--no-wait", "--address", "ADDRESS"], "cgd: --per-phase starts a job when"),
        (["logs", "nobody", "--follow", "--address", "ADDRESS"], "cgd: the cluster knows no such job"),
        (["status", "--address", "LOCKED"], "cgd: the cluster wants a token"),
    ],
)
def test_what_is_refused_ends_with_2_and_one_line(
    arguments: list[str], message: str, server: Server, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    if "LOCKED" in arguments:
        server.token = "a-token"  # noqa: S105
    assert main([server.address if word in ("ADDRESS", "LOCKED") else word for word in arguments]) == 2
    err = capfd.readouterr().err
    assert err.startswith(message), err
    assert err.count("\n") == 1


def test_the_jobs_of_a_cluster_are_listed(server: Server, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--address", server.address]) == 0
    assert capfd.readouterr().out == "no job was submitted with `cgd submit` yet\n"
    assert main(["submit", "job_config.yaml", "--no-wait", "--address", server.address]) == 0
    assert "mine-run-1 is submitted\n" in capfd.readouterr().out
    assert main(["status", "--address", server.address]) == 0
    assert capfd.readouterr().out.split()[:2] == ["mine-run-1", "PENDING"]


def test_an_unanswered_question_says_that_it_may_be_asked_again(server: Server, here: Path) -> None:
    jobs = Jobs.at(server.address)
    server.jobs["job-1"], server.script = {"status": "RUNNING"}, [CUT]
    with pytest.raises(UnreachableError, match="ConnectionError"):
        jobs.look("job-1")
