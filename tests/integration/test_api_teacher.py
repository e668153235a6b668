"""An API as the teacher: nothing is lost or paid twice whatever it does, the key stays where it is, answers are the model's own."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.records import PROBLEM_SCHEMA, RECORD_SCHEMA, WORK_SCHEMA
from cgd_ray.data.rundir import RunDir, manifest_parts
from cgd_ray.engines.api.spending import spent
from cgd_ray.engines.real import RealEngines
from cgd_ray.engines.vllm_engine import CPU_ENVIRONMENT, ENGINE_ENVIRONMENT
from cgd_ray.generation.stages import StageSpec
from cgd_ray.generation.teacher.stage import CritiqueRefineStage
from cgd_ray.problems.work_list import make_work_list, write_work_list
from tests.bare_vllm import bare_vllm
from tests.misbehaving_api import FAULTS, TOKENS, MisbehavingApi, seeded_plan
from tests.processes import free_port, stop

STUDENT, TEACHER = (str(Path("examples/tinymath/models", name).absolute()) for name in ("student", "teacher"))
CANARY = "sk-canary-5f2c8e7a1b94"
SERVER_START_S = 300


def make_attempts(count: int) -> pa.Table:
    """Rows as the attempt stage leaves them."""
    columns = [field for field in RECORD_SCHEMA if field.name in WORK_SCHEMA.names or field.name.startswith("attempt")]
    rows = [
        {"record_id": f"id{n}", "sample_index": 0, "problem_id": f"p{n}", "question": f"What is {n} + 1?", "attempt": f"\\boxed{{{n}}}"}
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def critique_and_refine(role: RoleConfig, attempts: pa.Table, spending: Path) -> list[dict[str, Any]]:
    """The teacher's stage, in this process."""
    engines = RealEngines(spending=spending)
    spec = StageSpec(role=role, prompts=Prompts(), fingerprints={"critique": "c", "refinement": "r"}, engine_factory=engines)
    rows: list[dict[str, Any]] = asyncio.run(CritiqueRefineStage(spec)(attempts)).to_pylist()
    return rows


def test_an_endpoint_that_misbehaves_in_every_way_loses_no_row_and_bills_each_turn_once(tmp_path: Path) -> None:
    with MisbehavingApi(seeded_plan(seed=3)) as api:
        endpoint = {"base_url": api.base_url, "request_timeout_s": 4.0}
        role = RoleConfig.model_validate({"model": "m", "api": endpoint, "placement": {"requests_in_flight": 64}})
        rows = critique_and_refine(role, make_attempts(64), tmp_path)
    assert set(FAULTS) <= api.faults.keys()
    assert [row["error"] for row in rows] == [None] * 64
    assert [row["verdict"] for row in rows] == ["wrong"] * 64
    assert len({row["refinement"] for row in rows}) == 64
    assert len(api.billed) == 2 * 64
    assert set(api.billed.values()) == {1}
    assert api.early == 0, "a request came before the endpoint had asked for it"
    assert spent(tmp_path).tokens == sum(row["critique_tokens"] + row["refinement_tokens"] for row in rows)


DRIVER = """
import json, sys
from dataclasses import dataclass
from pathlib import Path
import ray
from cgd_ray.config import Config
from cgd_ray.engines.engine import Generation
from cgd_ray.engines.real import RealEngines
from cgd_ray.generation.pipeline import generate
from cgd_ray.data.rundir import RunDir

class Student:
    chat = None

    async def generate(self, messages, sampling, seed):
        return Generation(text=f"It is {seed}.", num_tokens=1, prompt_tokens=1, cached_tokens=0, finish_reason="stop")

@dataclass(frozen=True)
class StudentIsFake:
    spending: Path

    def __call__(self, role):
        return Student() if role.api is None else RealEngines(spending=self.spending)(role)

if __name__ == "__main__":
    ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=sys.argv[1])
    for tree in json.load(sys.stdin):
        config = Config.model_validate(tree)
        run = RunDir(config.run_dir)
        try:
            print("FINISHED", json.dumps(generate(config, run, engine_factory=StudentIsFake(run.spending))), flush=True)
        except ValueError as error:
            print("ENDED", str(error).replace(chr(10), " NEWLINE "), flush=True)
"""


def make_config(run_dir: Path, count: int, **api: Any) -> Config:
    """A config, and the work list in its run directory."""
    placement = {"cpus_per_replica": 0.5, "requests_in_flight": 8}
    tree = {
        "run_dir": str(run_dir),
        "problems": {"path": "unused"},
        "student": {"model": STUDENT, "placement": placement},
        "teacher": {"model": "m", "placement": placement, "api": {"key_variable": "CANARY_KEY", "request_timeout_s": 10.0, **api}},
        "generation": {"batch_size": 4, "rows_per_block": 4, "max_failed_fraction": 0.1},
    }
    rest = {"reference_answer": None, "reference_solution": None, "error": None}
    rows = [{"problem_id": f"p{n}", "question": f"What is {n} + 1?", **rest} for n in range(count)]
    write_work_list(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), num_samples=1), RunDir(run_dir).work_list)
    return Config.model_validate(tree)


def run_driver(configs: list[Config], ray_directory: Path) -> "subprocess.CompletedProcess[str]":
    """Generations one after the other under one Ray, which inherits the keys."""
    trees = json.dumps([config.model_dump(mode="json") for config in configs])
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "CANARY_KEY": CANARY, "WRONG_KEY": f"{CANARY}-wrong"}
    command = [sys.executable, "-c", DRIVER, str(ray_directory)]
    return subprocess.run(command, env=environment, input=trees, capture_output=True, text=True, timeout=400)


def test_a_budget_ends_a_run_that_a_higher_one_finishes_and_the_key_is_found_nowhere(tmp_path: Path) -> None:
    ordinary = seeded_plan(seed=5, share=0.2)

    def plan(message: str, number: int) -> str | None:
        return "400" if "What is 39 + 1?" in message else ordinary(message, number)  # the last: others have been answered

    # Ray's sockets want a short path
    with (
        MisbehavingApi(plan, key=CANARY) as api,
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as ray_directory,
    ):
        limits = (4_000, 100_000)
        configs = [make_config(tmp_path / "run", 40, base_url=api.base_url, max_tokens_total=limit) for limit in limits]
        wrong_key = make_config(tmp_path / "wrong key", 4, base_url=api.base_url, key_variable="WRONG_KEY")
        done = run_driver([*configs, wrong_key], Path(ray_directory))
        assert done.returncode == 0, done.stderr[-3000:]
        assert "NEWLINE" not in done.stdout
        # Ray may say something in between
        ended, finished, refused = (line for line in done.stdout.splitlines() if line.startswith(("ENDED", "FINISHED")))
        assert ended.startswith("ENDED teacher.api.max_tokens_total 4,000 is reached: 4,")
        assert ended.endswith("raise it and run the same command again to go on")
        assert refused.startswith(f"ENDED {api.base_url} refuses the key in WRONG_KEY; set a valid one on every node")
        manifest = json.loads(finished.removeprefix("FINISHED "))
        assert (manifest["rows"], manifest["failed"]) == (40, 1)
        assert manifest["resumed"] > 0
        assert len(api.billed) == 2 * 39
        assert set(api.billed.values()) == {1}
        assert spent(RunDir(tmp_path / "run").spending).tokens == 2 * 39 * TOKENS

        errors = [row["error"] for part in manifest_parts(tmp_path / "run" / "records") for row in pq.read_table(part).to_pylist()]
        assert any("no, not with Bearer [key]" in str(error) for error in errors)
        written = [file for root in (tmp_path, Path(ray_directory)) for file in root.rglob("*") if file.is_file()]
        assert any("CritiqueRefineStage" in file.read_text(errors="replace") for file in written), "Ray's logs are not among the files"
        assert [file for file in written if CANARY.encode() in file.read_bytes()] == []
        assert CANARY not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own OpenAI server with the tiny teacher; its address."""
    port = free_port()
    model = ["--model", TEACHER, "--served-model-name", "tiny-teacher", "--dtype", "float32", "--enforce-eager", "--max-model-len", "1024"]
    place = ["--host", "127.0.0.1", "--port", str(port), "--kv-cache-memory-bytes", str(64 * 2**20)]
    log = tmp_path_factory.mktemp("server") / "server.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *model, *place],
            env={**os.environ, **ENGINE_ENVIRONMENT, **CPU_ENVIRONMENT},
            stdout=stream,
            stderr=stream,
        )
        try:
            deadline = time.monotonic() + SERVER_START_S
            while not is_healthy(port):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            stop(process.pid)


def is_healthy(port: int) -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200)
    except OSError:
        return False


@pytest.mark.slow  # the endpoint above is asked by default; vLLM's own server takes 40 s to start
def test_greedy_through_the_api_is_greedy_through_the_engine_here(server: str, tmp_path: Path) -> None:
    endpoint = {"base_url": server}
    role = RoleConfig.model_validate({"model": "tiny-teacher", "api": endpoint, "sampling": {"max_tokens": 192}})
    rows = critique_and_refine(role, make_attempts(20), tmp_path)
    assert [row["error"] for row in rows] == [None] * 20

    chat, prompts = Chat.load(TEACHER), Prompts()
    critiques = [chat.prompt(prompts.critique_messages(row["question"], row["attempt"])).input_ids for row in rows]
    refinements = [chat.prompt(prompts.refine_messages(row["question"], row["attempt"], row["critique"])).input_ids for row in rows]
    expected = bare_vllm(TEACHER, critiques + refinements, max_tokens=192)
    assert [row["critique"] for row in rows] == expected[:20]
    assert [row["refinement"] for row in rows] == expected[20:]
    assert [row["critique_prompt_tokens"] for row in rows] == [len(ids) for ids in critiques]
