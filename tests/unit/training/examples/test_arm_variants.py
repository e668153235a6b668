"""The arms that tell attempt, critique and better answer apart: what each sees and learns, and what is refused or dropped."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message, Prompts, load_prompts
from cgd_ray.data.rundir import manifest_parts, write_manifest
from cgd_ray.training.examples.arms import ARMS
from cgd_ray.training.examples.preparation import Preparation, Prepared
from cgd_ray.training.examples.writing import make_examples
from tests.builders import tiny_records, tiny_tokenizer, write_selected

CHAT = Chat(tiny_tokenizer())
PROMPTS = Prompts(
    student_system="S",
    solve="Solve {question}",
    revise="Mind {critique}",
    revise_without_attempt="Solve {question} minding {critique}",
    revise_without_critique="Again.",
    generic_critique="Be careful.",
)
(ROW,) = tiny_records(1, question="Q", attempt="A", critique="C", refinement="R", direct="D")
SYSTEM, SOLVE = Message(role="system", content="S"), Message(role="user", content="Solve Q")


def prepared(tmp_path: Path, rows: list[dict[str, Any]], **training: Any) -> list[Prepared]:
    return list(Preparation(TrainingConfig(**training), CHAT, PROMPTS, manifest_parts(write_selected(tmp_path, rows))))


def test_distilled_sft_sees_the_problem_alone_and_learns_the_teachers_direct_answer() -> None:
    example = ARMS["distilled_sft"](ROW, PROMPTS)
    assert (example.messages, example.target) == ([SYSTEM, SOLVE], "D")


def test_cgd_without_attempt_sees_problem_and_critique_in_one_turn() -> None:
    example = ARMS["cgd_without_attempt"](ROW, PROMPTS)
    assert example.messages == [SYSTEM, Message(role="user", content="Solve Q minding C")]
    assert example.target == "R"


def test_cgd_without_critique_sees_its_attempt_and_is_asked_again() -> None:
    example = ARMS["cgd_without_critique"](ROW, PROMPTS)
    assert example.messages == [SYSTEM, SOLVE, Message(role="assistant", content="A"), Message(role="user", content="Again.")]
    assert example.target == "R"


def test_no_critiques_make_cgd_the_arm_without_critique(tmp_path: Path) -> None:
    rows = tiny_records(4)
    none = prepared(tmp_path / "none", rows, critiques="none")
    assert none == prepared(tmp_path / "arm", rows, arm="cgd_without_critique")
    assert {item.arm for item in none} == {"cgd_without_critique"}


def test_records_without_direct_answers_are_refused_with_the_remedy(tmp_path: Path) -> None:
    selected = write_selected(tmp_path, tiny_records(2))
    (part,) = manifest_parts(selected)
    pq.write_table(pq.read_table(part).drop_columns(["direct"]), part)
    write_manifest(selected, "test", [part], {})
    with pytest.raises(ValueError, match=r"records have no direct; generate with generation.direct_answers=true"):
        Preparation(TrainingConfig(arm="distilled_sft"), CHAT, PROMPTS, manifest_parts(selected))


def test_a_direct_answer_that_was_cut_or_never_made_is_dropped_and_counted(tmp_path: Path) -> None:
    rows = tiny_records(3)
    rows[0]["direct_finish_reason"], rows[1]["direct"] = "length", None
    training = TrainingConfig(arm="distilled_sft")
    details = make_examples(training, CHAT, PROMPTS, write_selected(tmp_path / "selected", rows), tmp_path / "examples")
    assert (details["examples"], details["dropped"]) == (1, {"direct_truncated": 1, "no_direct": 1})


def test_records_that_no_teacher_answered_directly_leave_nothing_to_train_on(tmp_path: Path) -> None:
    selected = write_selected(tmp_path / "selected", tiny_records(2, direct=None, direct_finish_reason=None))
    with pytest.raises(ValueError, match=r"nothing to train on for arm distilled_sft: 2 no_direct; .* generate what is missing"):
        make_examples(TrainingConfig(arm="distilled_sft"), CHAT, PROMPTS, selected, tmp_path / "examples")


@pytest.mark.parametrize("arm", ["cgd", "cgd_without_critique", "cft"])
def test_a_cut_attempt_is_shown_as_if_it_were_whole_and_carries_no_loss(arm: str, tmp_path: Path) -> None:
    """Its turn ends as any other's, so whoever is trained on it learns nothing from where it ends."""
    whole, cut = (prepared(tmp_path / reason, tiny_records(2, attempt_finish_reason=reason), arm=arm) for reason in ("stop", "length"))
    assert [item.example for item in cut] == [item.example for item in whole]
    for item in cut:
        target = item.example.input_ids[item.example.prompt_length :]
        assert CHAT.decode_answer([], target[:-1]).strip() == item.conversation.target


def test_another_arms_cut_answer_does_not_matter(tmp_path: Path) -> None:
    assert len(prepared(tmp_path, tiny_records(2, direct_finish_reason="length"))) == 2


def test_generic_critiques_are_the_same_advice_for_every_problem_and_only_for_cgd(tmp_path: Path) -> None:
    rows = tiny_records(40)
    items = prepared(tmp_path, rows, critiques="generic", arm={"cgd": 0.5, "cft": 0.25, "cgd_without_attempt": 0.25})
    assert {item.arm for item in items} == {"cgd", "cft", "cgd_without_attempt"}
    for row, item in zip(rows, items, strict=True):
        own = {**row, "critique": "Be careful."} if item.arm == "cgd" else row
        assert item.conversation == ARMS[item.arm](own, PROMPTS)


def test_a_record_without_critique_is_dropped_whatever_takes_its_place(tmp_path: Path) -> None:
    rows = tiny_records(6)
    rows[2]["critique"], rows[3]["critique"] = None, ""
    for kind in ("specific", "generic", "verdict_only", "shuffled"):
        names = [item.record_id for item in prepared(tmp_path / kind, rows, critiques=kind)]
        assert names == [rows[index]["record_id"] for index in (0, 1, 4, 5)]


def test_verdict_only_shows_the_line_that_the_critique_concludes_with_and_nothing_of_its_reasons(tmp_path: Path) -> None:
    rows = tiny_records(4)
    critiques = ("It slips.\nConclusion: wrong\n", "Fine.\n\n**Conclusion:**\nright", "It slips.\nSo it seems.", "Conclusion: right")
    expected = ("Conclusion: wrong", "**Conclusion:**\nright", "So it seems.", "Conclusion: right")
    rows = [{**row, "critique": critique} for row, critique in zip(rows, critiques, strict=True)]
    items = prepared(tmp_path, rows, critiques="verdict_only")
    for row, shown, item in zip(rows, expected, items, strict=True):
        assert item.conversation == ARMS["cgd"]({**row, "critique": shown}, PROMPTS)


def test_trainings_that_name_the_same_arms_take_the_same_records(tmp_path: Path) -> None:
    rows = tiny_records(8)
    rows[1]["reference_solution"], rows[2]["direct_finish_reason"], rows[3]["critique"] = None, "length", "Look again. " * 200
    arms = ("cgd", "sft", "distilled_sft", "refined_only")
    kinds = [{"arm": arm} for arm in arms] + [{"critiques": kind} for kind in ("generic", "verdict_only")]
    for number, kind in enumerate(kinds):
        alone = prepared(tmp_path / f"alone-{number}", rows, context_length=400, **kind)
        together = prepared(tmp_path / f"together-{number}", rows, context_length=400, usable_by=arms, **kind)
        assert len(alone) > len(together)
        assert [item.record_id for item in together] == [rows[index]["record_id"] for index in (0, 4, 5, 6, 7)]
        assert [item for item in alone if item in together] == together


def test_what_is_left_out_for_another_arm_is_counted_under_its_name(tmp_path: Path) -> None:
    rows = tiny_records(3)
    rows[1]["reference_solution"] = None
    training = TrainingConfig(usable_by=("sft",))
    details = make_examples(training, CHAT, PROMPTS, write_selected(tmp_path / "selected", rows), tmp_path / "examples")
    assert (details["examples"], details["dropped"]) == (2, {"unusable_by_sft": 1})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("revise_without_attempt: 'Use {critique}'", r"template revise_without_attempt lacks \{question\}"),
        ("revise_without_attempt: '{question}'", r"template revise_without_attempt lacks \{critique\}"),
        ("generic_critique: null", "template generic_critique is None, not a text"),
        ("revise_without_critique: 3", "template revise_without_critique is 3, not a text"),
    ],
)
def test_wording_that_would_hide_something_is_refused(content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text(content)
    with pytest.raises(ValueError, match=expected):
        load_prompts(str(tmp_path / "words.yaml"))
