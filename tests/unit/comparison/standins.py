"""Stand-ins for the runs of a comparison: each leaves what a real one leaves behind, and answers as its arm and seed say."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from cgd_ray.comparison.running import Run, Say, Task
from cgd_ray.config import ClusterConfig, Config, load_config
from cgd_ray.config.comparison import ComparisonConfig, load_comparison
from cgd_ray.data.records import RECORDS_VERSION
from cgd_ray.data.rundir import RunDir, read_json, write_json, write_manifest
from cgd_ray.problems.work_list import write_work_list
from cgd_ray.reporting.summary import summarise
from cgd_ray.runs.contents import contents_of
from cgd_ray.runs.work_lists import make_evaluation_lists
from tests.builders import tiny_records, write_selected

TINYMATH = Path("examples/tinymath").absolute()
FIELDS = {"problem_id": "problem_id", "reference_answer": "reference_answer"}
NUM_PROBLEMS, NUM_RECORDS = 40, 12
TURN_TOKENS = {"attempt": 100, "critique": 300, "refinement": 100, "direct": 200}
TOKENS = {turn: {"prompt_tokens": 0, "cached_tokens": 0, "tokens": tokens} for turn, tokens in TURN_TOKENS.items()}
COUNTS: dict[str, Any] = {"written": NUM_RECORDS, "failed": 0, "kept": NUM_RECORDS, "dropped": {}}
SELECTED: dict[str, Any] = {**COUNTS, "verdicts": {}, "repair": {}, "leakage": {}}
TRAINING = {"steps": 4, "world_size": 2, "zero_stage": 2, "cpus_per_worker": 1.0, "target_tokens": 1000, "tokens_per_s": 100.0}


class KilledError(Exception):
    """The process is gone."""


def make_comparison(root: Path, *overrides: str, **settings: Any) -> ComparisonConfig:
    """A comparison on the embedded problems; `settings` are those of its file."""
    base = {
        "run_dir": "unused",
        "prompts": str(TINYMATH / "prompts.yaml"),
        "problems": {"path": str(TINYMATH / "data" / "train.jsonl"), "limit": NUM_RECORDS},
        "student": {"model": str(TINYMATH / "models" / "student"), "context_length": 1024},
        "teacher": {"model": str(TINYMATH / "models" / "teacher"), "context_length": 1024},
        "training": {"precision": "fp32"},
        "evaluation": {"problems": {"path": str(TINYMATH / "data" / "heldout.jsonl"), "limit": NUM_PROBLEMS, "fields": FIELDS}},
    }
    content = {"base": "base.yaml", "run_dir": str(root / "run"), "arms": ["base", "sft", "cgd"], "seeds": [0, 1], **settings}
    root.mkdir(parents=True, exist_ok=True)
    (root / "base.yaml").write_text(yaml.safe_dump(base))
    (root / "compare.yaml").write_text(yaml.safe_dump(content))
    return load_comparison(root / "compare.yaml", overrides)


@dataclass
class Runs:
    """Carries tasks out as `cgd` would; may be killed before or after any of its steps."""

    accuracy: Mapping[str, int] = field(default_factory=lambda: {"base": 16, "sft": 30, "cgd": 34, "cft": 4})
    """Right answers of each arm, of NUM_PROBLEMS."""
    dies_at: int | None = None
    """The step before which all is over."""
    fails: Mapping[str, str] = field(default_factory=dict)
    """Tasks that do not come to their end, and why."""
    finished: list[str] = field(default_factory=list)
    """Commands that came to their end, with the names of their runs."""
    num_started: int = 0
    """How often Ray was."""
    _steps: int = 0

    @contextmanager
    def runner(self, cluster: ClusterConfig, at_once: int, logs: Path, say: Say) -> Iterator[Run]:
        """What comparison.running.processes is."""
        self.num_started += 1
        yield self._run

    def _run(self, tasks: Sequence[Task]) -> Mapping[str, str]:
        for task in tasks:
            if task.name not in self.fails:
                self._carry_out(task)
        return {task.name: self.fails[task.name] for task in tasks if task.name in self.fails}

    def _carry_out(self, task: Task) -> None:
        config = load_config(task.config)
        run = RunDir(config.run_dir)
        self._step()
        run.check(config, contents_of(config))
        run.claim(config, contents_of(config))
        assert config.evaluation is not None
        for path, rows in make_evaluation_lists(task.command, config.evaluation, config.evaluation, run, []).items():
            write_work_list(rows, path)
            write_work_list(rows, run.work_list)
        {"generate": self._generate, "evaluate": self._evaluate, "run": self._train_and_evaluate}[task.command](config, run)
        write_json(run.summary, summarise(config, run))
        self.finished.append(f"{task.command} {task.name}")
        self._step()

    def _step(self) -> None:
        if self._steps == self.dies_at:
            raise KilledError
        self._steps += 1

    def _generate(self, config: Config, run: RunDir) -> None:
        made = {"tokens": TOKENS, "engine_seconds": {"student": 10.0, "teacher": 60.0}, "reused": {}, "version": RECORDS_VERSION}
        write_manifest(run.records, "made so", [], made)
        self._step()
        rows = tiny_records(NUM_RECORDS)
        rows[0]["reference_solution"] = None  # so sft cannot use it
        write_selected(run.selected, rows)
        manifest = read_json(run.selected / "manifest.json")
        write_json(run.selected / "manifest.json", {**(manifest or {}), **SELECTED})

    def _evaluate(self, config: Config, run: RunDir) -> None:
        write_evaluation(run, "base", self.accuracy["base"])

    def _train_and_evaluate(self, config: Config, run: RunDir) -> None:
        assert (run.selected / "manifest.json").exists(), "the records are selected once for all"
        assert run.evaluated()["base"].keys() == {"problems"}, "the untrained student is evaluated once for all"
        assert config.records is not None
        assert (Path(config.records) / "manifest.json").exists()
        self._step()
        right = self.accuracy[str(config.training.arm)] + config.training.seed
        write_evaluation(run, "trained", right)
        write_json(run.training_report, TRAINING)
        write_json(run.seconds, {"train": 50.0})


def write_evaluation(run: RunDir, model: str, num_right: int, **report: Any) -> None:
    """The files of an evaluation of which so many answers are right; `report` replaces entries of its report."""
    directory = run.evaluation(model) / "problems"
    directory.mkdir(parents=True, exist_ok=True)
    rows = {
        "problem_id": [f"problem-{number:03}" for number in range(NUM_PROBLEMS)],
        "sample_index": pa.array([0] * NUM_PROBLEMS, pa.int32()),
        "question": [f"What is {number}?" for number in range(NUM_PROBLEMS)],
        "reference_answer": [str(number) for number in range(NUM_PROBLEMS)],
        "attempt": ["It is."] * NUM_PROBLEMS,
        "attempt_thinking": pa.nulls(NUM_PROBLEMS, pa.string()),
        "attempt_tokens": pa.array([2] * NUM_PROBLEMS, pa.int32()),
        "attempt_finish_reason": ["stop"] * NUM_PROBLEMS,
        "error": pa.nulls(NUM_PROBLEMS, pa.string()),
        "extracted": pa.nulls(NUM_PROBLEMS, pa.string()),
        "correct": [number < num_right for number in range(NUM_PROBLEMS)],
        "grade_reason": ["equal"] * NUM_PROBLEMS,
    }
    pq.write_table(pa.table(rows), directory / "graded.parquet")
    content = {
        "benchmark": "problems",
        "model": model,
        "grader": "boxed-math",
        "content_sha256": "these",
        "num_problems": NUM_PROBLEMS,
        "num_samples": 1,
        "avg@k": num_right / NUM_PROBLEMS,
        "interval": [0.0, 1.0],
        "interval_kind": "none",
        "pass@k": {"1": num_right / NUM_PROBLEMS},
        "pass@k_band": {"1": [0.0, 1.0]},
        "truncated": 0.0,
        "unboxed": 0.0,
        "failed": 0.0,
    }
    write_json(directory / "report.json", {**content, **report})
    write_manifest(directory, f"of {model}", [directory / "graded.parquet", directory / "report.json"], {})


def read_result(root: Path) -> dict[str, Any]:
    """comparison.json."""
    result = read_json(root / "run" / "comparison.json")
    assert result is not None
    return result
