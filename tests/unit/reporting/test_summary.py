"""The summary tells what a run's manifests say, adds up at every stage, and says nothing about what has not been made."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import Config
from cgd_ray.data.records import PROBLEM_SCHEMA
from cgd_ray.data.rundir import RunDir, read_json, write_json, write_manifest
from cgd_ray.engines.api.spending import Journal, Purchase
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.reporting.summary import Summary, closing_rows, evaluation_rows, summarise

SELECTED: dict[str, Any] = {
    "written": 2000,
    "failed": 3,
    "kept": 1990,
    "kept_with_cut_attempt": 12,
    "repetitive": {"attempt": 2, "critique": 0, "refinement": 1},
    "dropped": {"attempt_truncated": 4, "not_verified": 3},
    "verdicts": {"right": 997, "wrong": 990, "missing": 10},
    "empty_critiques": 33,
    "leakage": {"answer_in_critique": 4, "refinement_copies_attempt": 0, "refinement_mentions_review": 1},
    "repair": {"wrong_to_right": 7, "wrong_to_wrong": 0, "right_to_right": 5, "right_to_wrong": 1},
}
SPENT = {"prompt_tokens": 100, "cached_tokens": 0, "tokens": 20}
RECORDS: dict[str, Any] = {
    "tokens": {"attempt": SPENT, "critique": SPENT, "refinement": {"prompt_tokens": 200, "cached_tokens": 150, "tokens": 1950}},
    "reused": {"attempt": {**SPENT, "rows": 7}, "critique": {"rows": 0, "prompt_tokens": 0, "cached_tokens": 0, "tokens": 0}},
    "engine_seconds": {"student": 10.0, "teacher": 30.0},
}
EXAMPLES = {"examples": 1970, "dropped": {"over_context_length": 15, "no_reference_solution": 5}}
TRAINING = {
    "steps": 12,
    "world_size": 2,
    "zero_stage": 3,
    "first_loss": 2.5,
    "last_loss": 0.12345,
    "target_tokens": 123456,
    "tokens_per_s": 9876.5,
    "best_validation_pass@1": 0.625,
    "best_pass@1_step": 8,
}
REPORT: dict[str, Any] = {
    "model": "m",
    "avg@k": 0.5,
    "interval": [0.25, 0.75],
    "pass@k": {"1": 0.5, "4": 0.75},
    "num_problems": 1200,
    "num_samples": 4,
    "truncated": 0.01,
    "unboxed": 0.1,
}


class Run:
    """A run directory, filled stage by stage."""

    def __init__(self, root: Path) -> None:
        self.directory = RunDir(root)
        role = {"model": "some-body/some-model", "placement": {"gpus_per_replica": 2}}
        tree = {"run_dir": str(root), "problems": {"path": "p"}, "student": role, "teacher": role, "training": {"arm": "refined_only"}}
        self.config = Config.model_validate(tree)
        rows = [{"problem_id": f"p{index}", "question": "Why?"} for index in range(1000)]
        write_work_list(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), 2), self.directory.work_list)

    def finish(self, stage: Path, details: dict[str, Any]) -> None:
        part = stage / "part.parquet"
        stage.mkdir(parents=True)
        pq.write_table(pa.table({"x": [1]}), part)
        write_manifest(stage, "fingerprint", [part], details)

    def finish_all(self) -> None:
        self.finish(self.directory.records, RECORDS)
        self.finish(self.directory.selected, SELECTED)
        self.finish(self.directory.examples, EXAMPLES)
        write_json(self.directory.training_report, TRAINING)
        for name, accuracy in (("base", 0.25), ("trained", 0.5)):
            self.evaluate(name, "problems", {**REPORT, "avg@k": accuracy})
        write_json(self.directory.seconds, {"start": 1.04, "generate": 20.26, "train": 300.0})

    def evaluate(self, model: str, benchmark: str, report: dict[str, Any]) -> None:
        home = self.directory.evaluation(model) / benchmark
        self.finish(home, report)
        write_json(home / "report.json", report)

    def summarise(self) -> Summary:
        return summarise(self.config, self.directory)

    def closing(self) -> dict[str, str]:
        rows = closing_rows(self.summarise())
        assert len({row["stage"] for row in rows}) == len(rows)
        return {row["stage"]: row["result"] for row in rows}


def assert_adds_up(summary: Summary) -> None:
    records = summary["records"]
    assert records["written"] == records["kept"] + sum(records["dropped"].values()) + records["failed"]


def test_a_run_that_has_made_nothing_says_null(tmp_path: Path) -> None:
    run = Run(tmp_path)
    summary = run.summarise()
    assert summary["problems"] == 1000  # samples of one problem are one problem
    assert [summary[key] for key in ("records", "verdicts", "repair", "training")] == [None] * 4
    assert summary["evaluation"] == {"base": None, "trained": None}
    assert summary["seconds"] == {"generate": 0.0, "train": 0.0, "evaluate": 0.0, "total": 0.0}
    assert run.closing() == {"problems": "1,000", "seconds": "generate 0, train 0, evaluate 0, total 0"}


def test_kept_are_what_training_takes_and_the_counts_add_up_before_and_after(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish(run.directory.selected, SELECTED)
    assert_adds_up(run.summarise())
    assert run.summarise()["records"]["kept"] == 1990
    run.finish(run.directory.examples, EXAMPLES)
    assert_adds_up(run.summarise())
    assert run.summarise()["records"] == {
        "written": 2000,
        "failed": 3,
        "kept": 1970,
        "selected_with_cut_attempt": 12,
        "repetitive": {"attempt": 2, "critique": 0, "refinement": 1},
        "dropped": {"attempt_truncated": 4, "not_verified": 3, "over_context_length": 15, "no_reference_solution": 5},
    }


def test_a_finished_run_tells_everything_and_can_be_written_as_json(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish_all()
    summary = run.summarise()
    assert summary["training"] == {"arm": "refined_only", **TRAINING}
    assert summary["evaluation"]["trained"] == {"problems": REPORT}
    assert summary["seconds"] == {"generate": 20.3, "train": 300.0, "evaluate": 0.0, "total": 321.3}
    assert {"cgd-ray", "ray", "torch"} <= summary["versions"].keys()
    write_json(run.directory.summary, summary)
    assert read_json(run.directory.summary) == summary


def test_the_closing_table_has_a_row_per_stage_with_its_figures(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish_all()
    closing = run.closing()
    assert list(closing) == [
        "problems",
        "records",
        "verdicts",
        "repair",
        "leakage",
        "student",
        "teacher",
        "a kept record",
        "reused",
        "training",
        "problems before",
        "problems after",
        "seconds",
    ]
    reasons = "4 attempt_truncated, 3 not_verified, 15 over_context_length, 5 no_reference_solution"
    cut = "12 selected with a cut attempt; repeating themselves: 2 attempts, 1 refinement"
    assert closing["records"] == f"2,000 written: 1,970 kept, 3 failed, {reasons}; {cut}"
    assert closing["verdicts"] == "997 right, 990 wrong, 10 missing; 33 critiques say nothing else"
    assert closing["repair"].startswith("7 wrong→right, 0 wrong→wrong")
    assert closing["training"].startswith("refined_only, 12 steps, 2 workers, ZeRO-3: loss 2.500 → 0.123, 123,456 target tokens")
    assert closing["problems before"] == (
        "avg@4 25.0% (95 %: 25.0% to 75.0%) of 1,200 problems, pass@4 75.0%, 1.0% truncated, 10.0% unboxed"
    )
    assert closing["problems after"].startswith("avg@4 50.0%")


def test_the_accuracy_by_boxes_alone_stands_beside_one_that_takes_more(tmp_path: Path) -> None:
    strict = {"avg@k": 0.125, "interval": [0.05, 0.2]}
    rows = evaluation_rows(
        {"base": {"one": {**REPORT, "strict": strict, "lenient": {}}, "two": {**REPORT, "strict": strict, "lenient": None}}}
    )
    assert [", 12.5% (5.0% to 20.0%) by boxes alone, 1.0% truncated" in text for _, text in rows] == [True, False]


def test_the_models_of_one_benchmark_stand_one_below_the_other_and_others_than_the_runs_have_their_names(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish_all()
    for model in ("trained", "base", "some-model"):
        run.evaluate(model, "aime25", REPORT)
    closing = list(run.closing())
    first = closing.index("aime25 before")
    assert closing[first : first + 5] == ["aime25 before", "aime25 after", "aime25 some-model", "problems before", "problems after"]
    assert list(run.summarise()["evaluation"]) == ["base", "trained", "some-model"]


def test_without_reference_answers_there_is_no_row_on_repair(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish(run.directory.selected, {**SELECTED, "repair": dict.fromkeys(SELECTED["repair"], 0)})
    assert "repair" not in run.closing()


def test_records_cost_what_was_made_for_them_and_not_what_was_reused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish_all()
    summary = run.summarise()
    costs, seconds = summary["generation"], {"engine_seconds": 10.0, "gpu_seconds": 20.0}
    nothing = {"prompt_tokens": 0, "generated_tokens": 0, "prefix_hits": None, "cost": None}
    assert costs["student"] == {**nothing, **seconds}  # all attempts come from another run
    seconds = {"engine_seconds": 30.0, "gpu_seconds": 60.0}
    assert costs["teacher"] == {"prompt_tokens": 300, "generated_tokens": 1970, "prefix_hits": 0.5, "cost": None, **seconds}
    kept = summary["records"]["kept"]
    seconds = {"engine_seconds": 40 / kept, "gpu_seconds": 80 / kept}
    assert costs["per_kept_record"] == {"prompt_tokens": 300 / kept, "generated_tokens": 1970 / kept, "cost": None, **seconds}
    closing = run.closing()
    assert closing["student"] == "0 tokens in, 0 out, 10 engine seconds, 20 GPU-seconds"
    assert closing["teacher"] == "300 tokens in (50% from the cache), 1,970 out, 30 engine seconds, 60 GPU-seconds"
    assert closing["a kept record"] == "0 tokens in, 1 out, 0.02 engine seconds, 0.04 GPU-seconds"
    assert closing["reused"] == "7 attempts"


def test_before_anything_is_selected_nothing_is_told_per_kept_record(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish(run.directory.records, RECORDS)
    assert set(run.summarise()["generation"]["per_kept_record"].values()) == {None}
    assert "a kept record" not in run.closing()


def test_what_an_endpoint_was_paid_is_the_teachers_cost_and_part_of_a_kept_records(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.finish_all()
    prices = {"price_per_million_input_tokens": 2.0, "price_per_million_output_tokens": 10.0}
    endpoint = {"model": "m", "api": {"base_url": "http://127.0.0.1/v1", "currency": "EUR", **prices}}
    run.config = Config.model_validate({**run.config.model_dump(), "teacher": endpoint})
    answer = Purchase(key="k", prompt_tokens=5_000_000, cached_tokens=0, tokens=970_000, text="", finish_reason="stop")
    Journal(run.directory.spending).add(answer)
    costs = run.summarise()["generation"]
    assert (costs["student"]["cost"], costs["teacher"]["cost"], costs["currency"]) == (None, 19.7, "EUR")
    assert costs["per_kept_record"]["cost"] == 0.01
    closing = run.closing()
    assert closing["teacher"].endswith("30 engine seconds, 19.7000 EUR")
    assert closing["a kept record"].endswith("0.01 GPU-seconds, 0.010000 EUR")
