"""Each planted fault raises its advisory, a sound run raises none, and a look reads no more than what is new."""

import os
from pathlib import Path

import pytest

from cgd_ray.data.rundir import RunDir, write_json, write_manifest
from cgd_ray.reporting.health.evaluation import unboxed
from cgd_ray.reporting.health.watch import EARLY, MOST_ROWS, NEWEST, HealthWatch
from cgd_ray.training.observe.measurements import add_measurement
from tests.unit.reporting.health.runs import ROWS_PER_PART, STUDENT_TOKENS, MadeRun, steps


def spoil(part: Path) -> None:
    """Have whoever reads a part find it broken; it is as old as before."""
    before = part.stat().st_mtime_ns
    part.write_bytes(b"no Parquet")
    os.utime(part, ns=(before, before))


def test_a_run_that_does_not_exist_yet_has_nothing_wrong(tmp_path: Path) -> None:
    assert HealthWatch(RunDir(tmp_path / "run")).look() == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_sound_run_has_nothing_wrong(tmp_path: Path, is_finished: bool) -> None:
    run = MadeRun(tmp_path)
    run.add_records(EARLY + 100)
    run.add_steps(steps(300))
    if is_finished:
        run.finish()
    assert run.titles() == []


def test_failing_rows_are_told_with_their_most_frequent_reason(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.add_records(64)
    run.add_records(6, error="critique: prompt of 5,000 tokens leaves no room", refinement=None)
    (found,) = HealthWatch(run.directory).look()
    assert (found.level, found.title) == ("warning", "Rows fail")
    assert "6 of the newest 70 (8.6%) rows failed" in found.detail
    assert "(6 times): critique: prompt of 5,000 tokens leaves no room" in found.detail


def test_when_more_fail_than_the_run_allows_it_is_an_error(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.add_records(32, error="attempt: refused")
    assert [found.level for found in HealthWatch(run.directory).look()] == ["error"]


@pytest.mark.parametrize(
    ("turn", "tokens", "setting"),
    [
        ("attempt", STUDENT_TOKENS, "student.sampling.max_tokens 100"),
        ("critique", STUDENT_TOKENS, "teacher.sampling.max_tokens 100"),
        ("refinement", 60, "teacher.context_length 8,192"),
    ],
)
def test_answers_at_their_limit_name_the_setting_that_cuts_them(tmp_path: Path, turn: str, tokens: int, setting: str) -> None:
    run = MadeRun(tmp_path)
    run.add_records(90)
    run.add_records(30, **{f"{turn}_finish_reason": "length", f"{turn}_tokens": tokens})
    (found,) = HealthWatch(run.directory).look()
    assert found.title == f"{turn.capitalize()}s reach their length limit"
    assert setting in found.detail
    fate = "they are criticised as far as they go" if turn == "attempt" else "none of these rows is trained on"
    assert fate in found.detail


def test_a_box_rate_that_falls_is_found_though_it_is_still_high(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.add_records(EARLY)
    for _ in range(6):
        run.add_records(56)
        run.add_records(8, attempt="I do not know.")
    assert run.titles() == ["Fewer attempts have a box"]


def test_boxes_that_were_never_there_are_missed_where_the_prompt_asks_for_them(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.add_records(64, refinement="It is seven.")
    assert run.titles() == ["Refinements lack the box"]


def test_missing_and_one_sided_verdicts(tmp_path: Path) -> None:
    missing, one_sided = MadeRun(tmp_path / "missing"), MadeRun(tmp_path / "one-sided")
    missing.add_records(60)
    missing.add_records(20, verdict=None)
    assert missing.titles() == ["Critiques have no verdict"]
    one_sided.add_records(300, verdict="wrong")
    assert one_sided.titles() == ["Nearly all verdicts are wrong"]


def test_critiques_that_say_nothing_but_their_verdict(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.add_records(60)
    run.add_records(1, critique="Conclusion: wrong")
    assert run.titles() == []
    run.add_records(29, critique="Conclusion: wrong")
    (found,) = HealthWatch(run.directory).look()
    assert found.title == "Critiques say nothing"
    assert "30 of the newest 90 (33.3%) critiques are empty, or nothing but a conclusion" in found.detail


def test_copies_of_attempts_are_leaks_only_where_the_verdict_is_wrong(tmp_path: Path) -> None:
    same = {"attempt": "So it is \\boxed{5}.", "refinement": "So it is \\boxed{5}."}
    right, wrong = MadeRun(tmp_path / "right"), MadeRun(tmp_path / "wrong")
    for run in (right, wrong):
        run.add_records(64)
    right.add_records(64, **same, verdict="right")
    wrong.add_records(64, **same, verdict="wrong")
    assert right.titles() == []
    assert wrong.titles() == ["Leaks are frequent: refinement copies attempt though the verdict is wrong"]


def test_refinements_that_speak_of_the_review_are_frequent_leaks(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.add_records(100)
    run.add_records(20, refinement="As the critique says, the student's attempt is wrong: \\boxed{4}.")
    (found,) = HealthWatch(run.directory).look()
    assert "selection.drop_leaks=[refinement_mentions_review]" in found.detail


def test_a_gradient_norm_that_jumps_is_told_with_its_step(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.add_steps([*steps(99), *steps(1, first=100, train_grad_norm=40.0), *steps(10, first=101)])
    (found,) = HealthWatch(run.directory).look()
    assert found.title == "The gradient norm jumps"
    assert "40 at step 100" in found.detail


def test_a_loss_that_rises_and_one_that_is_no_number(tmp_path: Path) -> None:
    rising, broken, stopped = (MadeRun(tmp_path / name) for name in ("rising", "broken", "stopped"))
    rising.add_steps([*steps(150), *steps(50, first=151, train_loss=1.5)])
    assert rising.titles() == ["The training loss rises"]
    broken.add_steps([*steps(50), *steps(1, first=51, train_loss=float("nan"))])
    assert broken.titles() == ["Loss or gradient norm is not finite"]
    write_json(stopped.directory.checkpoints / "stopped.json", {"step": 7, "problem": "step 7: loss nan, gradient norm inf in records a"})
    (found,) = HealthWatch(stopped.directory).look()
    assert (found.level, "step 7: loss nan" in found.detail) == ("error", True)


def test_held_out_loss_that_parts_from_the_training_loss(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    held_out = {20: 1.0, 40: 0.8, 60: 0.85, 80: 0.9}
    run.add_steps(
        [line | ({"validation/loss": held_out[step]} if (step := int(line["train/step"])) in held_out else {}) for line in steps(90)]
    )
    (found,) = HealthWatch(run.directory).look()
    assert found.title == "Held-out loss and training loss part"
    assert "0.8 at its best after step 40" in found.detail


def test_lost_speed_is_not_what_fewer_workers_make(tmp_path: Path) -> None:
    slow, fewer = MadeRun(tmp_path / "slow"), MadeRun(tmp_path / "fewer")
    slow.add_steps([*steps(60), *steps(10, first=61, train_tokens_per_s=300.0, time_data_s=0.7)])
    fewer.add_steps([*steps(60), *steps(40, first=61, train_tokens_per_s=300.0, train_world_size=1)])
    (found,) = HealthWatch(slow.directory).look()
    assert found.title == "The training has become slow"
    assert "70% of the time waits for data" in found.detail
    assert fewer.titles() == []


def test_held_out_answers_that_become_worse_or_cannot_be_had(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    measurements = run.directory.metrics.with_name("validation.jsonl")
    add_measurement(measurements, {"step": 10, "pass@1": 0.7, "pass@1_interval": [0.6, 0.8]})
    add_measurement(measurements, {"step": 20, "pass@1": 0.4, "pass@1_interval": [0.3, 0.5]})
    add_measurement(measurements, {"step": 30, "problem": "no room for an engine"})
    assert run.titles() == ["Held-out pass@1 cannot be measured", "Held-out pass@1 has fallen"]


def test_answers_that_lose_their_form_through_training(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    report = {"num_problems": 500, "truncated": 0.01, "unboxed": 0.02, "failed": 0.0}
    for name, share in (("base", 0.02), ("trained", 0.2)):
        directory = run.directory.evaluation(name) / "gsm8k"
        write_json(directory / "report.json", {**report, "unboxed": share})
        write_manifest(directory, "f", [], {})
    (found,) = HealthWatch(run.directory).look()
    assert found.title == "gsm8k: more answers hold no boxed answer after training"
    assert "20.0% of the trained student's answers" in found.detail


def test_answers_without_a_box_are_told_with_both_accuracies() -> None:
    both = {"strict": {"avg@k": 0.02}, "lenient": {"avg@k": 0.34}}
    report = {"num_problems": 50, "truncated": 0.4, "unboxed": 0.22, "failed": 0.0}
    (found,) = unboxed("base", "gsm8k", {**report, **both})
    assert found.title == "gsm8k: answers of the base student have no box"
    assert "22.0% of the answers to 50 problems hold no box" in found.detail
    assert "(40.0% are cut), or read the lenient accuracy, 34.0% beside 2.0% by boxes alone" in found.detail
    (strict,) = unboxed("base", "gsm8k", {**report, **both, "lenient": None})
    assert "a grader that reads more than boxes" in strict.detail
    assert not list(unboxed("base", "gsm8k", {**report, **both, "unboxed": 0.2}))
    assert not list(unboxed("base", "ifeval", {**report, "unboxed": 1.0, "strict": None})), "there no box is looked for"


def test_a_fault_that_has_passed_leaves_the_newest_window(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_problems=2000)
    watch = HealthWatch(run.directory)
    run.add_records(64, error="attempt: the endpoint is down")
    assert [found.title for found in watch.look()] == ["Rows fail"]
    for _ in range(NEWEST // MOST_ROWS + 2):
        run.add_records(MOST_ROWS)
        found = watch.look()
    assert found == []


def test_a_look_reads_the_newest_records_and_no_part_twice(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_problems=3000)
    watch = HealthWatch(run.directory)
    early = run.add_records(EARLY + NEWEST)
    assert watch.look() == []
    skipped = run.add_records(3 * MOST_ROWS)[: -MOST_ROWS // ROWS_PER_PART]
    for part in (*early, *skipped):
        spoil(part)
    assert watch.look() == []
    assert watch.look() == []


def test_another_run_at_the_same_place_is_seen_as_such(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    watch = HealthWatch(run.directory)
    run.add_records(64, error="attempt: refused")
    assert watch.look() != []
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert watch.look() == []
    MadeRun(tmp_path).add_records(64)
    assert watch.look() == []
