"""What is written for other tools has their schema, and nothing is lost on the way back."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.evaluation.interchange.exporting import Form, export_evaluation
from cgd_ray.evaluation.interchange.finding import find_evaluations
from tests.unit.evaluation.interchange.evaluations import INSPECT_LOG, LM_EVAL_RESULTS, own_evaluation

GRADES: dict[str, list[bool | None]] = {"a": [True, True, False], "../b c": [False, None, True], "d": [False, False, False]}


@pytest.mark.parametrize("form", ["lm-eval", "inspect"])
def test_an_exported_evaluation_reads_back_as_it_was(tmp_path: Path, form: Form) -> None:
    directory = own_evaluation(tmp_path / "base" / "sums", GRADES, model="models/base")
    written = export_evaluation(directory, form, tmp_path / "out")
    assert all(tmp_path / "out" in file.parents for file in written)
    (own,), (back,) = find_evaluations(directory), find_evaluations(written[0])
    problems = sorted(back.problems(), key=lambda problem: problem.id)
    assert problems == sorted(own.problems(), key=lambda problem: problem.id)
    assert (back.benchmark, back.model, back.settings, back.words) == (own.benchmark, own.model, own.settings, own.words)


def keys(content: Any) -> set[str]:
    return set(content)


def test_lm_evals_files_have_the_keys_and_names_of_lm_evals_own(tmp_path: Path) -> None:
    directory = own_evaluation(tmp_path / "sums", GRADES, model="models/base")
    results_file, samples_file = export_evaluation(directory, "lm-eval", tmp_path / "out")
    assert results_file.parent == tmp_path / "out" / "models__base"
    assert samples_file.name == results_file.name.replace("results_", "samples_sums_").replace(".json", ".jsonl")
    results, theirs = (json.loads(file.read_text()) for file in (results_file, LM_EVAL_RESULTS))
    assert keys(results) <= keys(theirs)
    assert results["results"]["sums"]["exact_match,boxed-math"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert results["results"]["sums"]["exact_match_stderr,boxed-math"] == pytest.approx((1 / 3) / 3**0.5)
    samples = [json.loads(line) for line in samples_file.read_text().splitlines()]
    (their_file,) = LM_EVAL_RESULTS.parent.glob("samples_*")
    their_sample = json.loads(their_file.read_text().splitlines()[0])
    assert keys(samples[0]) == keys(their_sample) | {"cgd_ray"}
    assert [sample["exact_match"] for sample in samples] == pytest.approx([1 / 3, 2 / 3, 0])  # ordered by id, "../b c" first
    assert samples[1]["resps"] == [["It is \\boxed{7}.", "It is \\boxed{7}.", "It is \\boxed{8}."]]


def test_inspects_archive_has_the_members_and_keys_of_inspects_own(tmp_path: Path) -> None:
    directory = own_evaluation(tmp_path / "sums", GRADES)
    (file,) = export_evaluation(directory, "inspect", tmp_path / "log.eval")
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(INSPECT_LOG) as theirs:
        names = archive.namelist()
        assert {"_journal/start.json", "header.json", "summaries.json", "reductions.json"} <= keys(names) & keys(theirs.namelist())
        samples = [name for name in names if name.startswith("samples/")]
        assert len(samples) == 9
        assert all(".." not in name and name.count("/") == 1 and " " not in name for name in samples)
        header, summaries = json.loads(archive.read("header.json")), json.loads(archive.read("summaries.json"))
    assert (header["version"], header["status"], header["eval"]["config"]) == (2, "success", {"epochs": 3})
    assert header["plan"]["config"] == {"temperature": 0.7, "max_tokens": 64}
    assert header["results"]["scores"][0]["metrics"]["accuracy"]["value"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert [summary["scores"]["boxed-math"]["value"] for summary in summaries] == list("IICCCIIII")


def test_two_benchmarks_are_one_results_file_and_two_logs(tmp_path: Path) -> None:
    for name in ("one", "two"):
        own_evaluation(tmp_path / "base" / name, GRADES, benchmark=name)
    assert len(export_evaluation(tmp_path / "base", "lm-eval", tmp_path / "lm")) == 3
    assert len(export_evaluation(tmp_path / "base", "inspect", tmp_path / "logs")) == 2
    with pytest.raises(ValueError, match=r"out\.eval is one log, and .*base holds 2 evaluations"):
        export_evaluation(tmp_path / "base", "inspect", tmp_path / "out.eval")


def test_another_tools_log_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds an evaluation of Inspect, which needs no export"):
        export_evaluation(INSPECT_LOG, "lm-eval", tmp_path)


@pytest.mark.slow
def test_inspect_itself_reads_what_is_written_for_it(tmp_path: Path) -> None:
    log_module = pytest.importorskip("inspect_ai.log")
    directory = own_evaluation(tmp_path / "sums", GRADES, model="models/base")
    (file,) = export_evaluation(directory, "inspect", tmp_path / "logs")
    log = log_module.read_eval_log(str(file))
    assert (log.status, log.eval.model, len(log.samples)) == ("success", "models/base", 9)
    assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(1 / 3)
    assert len(log_module.read_eval_log_sample_summaries(str(file))) == 9
    sample = log_module.read_eval_log_sample(str(file), id="a", epoch=3)
    assert (sample.output.completion, sample.scores["boxed-math"].value) == ("It is \\boxed{8}.", "I")


@pytest.mark.slow
def test_lm_evals_table_shows_what_is_written_for_it(tmp_path: Path) -> None:
    utilities = pytest.importorskip("lm_eval.utils")
    schema = pytest.importorskip("lm_eval.result_schema")
    directory = own_evaluation(tmp_path / "sums", GRADES)
    results_file, samples_file = export_evaluation(directory, "lm-eval", tmp_path)
    results = json.loads(results_file.read_text())
    assert "|sums |      1|boxed-math|     0|exact_match|↑  |0.3333|±  |0.1925|" in utilities.make_table(results)
    assert keys(results) <= keys(schema.EvalResults.__annotations__)
    assert keys(schema.SampleResult.__annotations__) <= keys(json.loads(samples_file.read_text().splitlines()[0]))
    assert utilities.get_results_filenames([str(results_file)]) == [str(results_file)]
    assert utilities.get_file_task_name(samples_file.name) == "sums"
    assert utilities.get_file_datetime(samples_file.name) == results_file.stem.removeprefix("results_")
