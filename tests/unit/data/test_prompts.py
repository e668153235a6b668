"""Every word a model is sent: templates come from one file, data is put in once, and the reference answer never is."""

from dataclasses import asdict
from pathlib import Path

import pytest

from cgd_ray.data.prompts import Message, Prompts, load_prompts

PROMPTS = Prompts(
    student_system="student",
    teacher_system="teacher",
    solve="Solve {question}",
    critique="Judge {question} {attempt} {question}",
    refine="Again.",
    revise="Use {critique}",
)


def test_every_conversation_has_its_turns_in_order() -> None:
    system, user = Message(role="system", content="student"), Message(role="user", content="Solve Q")
    assert PROMPTS.solve_messages("Q", PROMPTS.student_system) == [system, user]
    assert PROMPTS.solve_messages("Q", None) == [user]
    teacher = [Message(role="system", content="teacher"), Message(role="user", content="Judge Q A Q")]
    assert PROMPTS.critique_messages("Q", "A") == teacher
    turn = [Message(role="assistant", content="C"), Message(role="user", content="Again.")]
    assert PROMPTS.refine_messages("Q", "A", "C") == [*teacher, *turn]
    revise = [Message(role="assistant", content="A"), Message(role="user", content="Use C")]
    assert PROMPTS.revise_messages("Q", "A", "C") == [system, user, *revise]


@pytest.mark.parametrize("prompts", [PROMPTS, Prompts()])
def test_the_refinement_goes_on_from_the_critiques_conversation(prompts: Prompts) -> None:
    critique = prompts.critique_messages("Q", "A")
    assert prompts.refine_messages("Q", "A", "C")[: len(critique) + 1] == [*critique, Message(role="assistant", content="C")]


def test_placeholders_inside_data_stay_data() -> None:
    question, attempt, critique = "set {attempt}, {critique} and {question}", "{question} {refine}", "{critique}{attempt} \\1 \\g<0> {0}"
    assert PROMPTS.solve_messages(question, None)[-1].content == f"Solve {question}"
    assert PROMPTS.critique_messages(question, attempt)[-1].content == f"Judge {question} {attempt} {question}"
    refined = [message.content for message in PROMPTS.refine_messages(question, attempt, critique)]
    assert refined[-2:] == [critique, "Again."]
    assert [message.content for message in PROMPTS.revise_messages(question, attempt, critique)][-2:] == [attempt, f"Use {critique}"]


def test_the_default_wording_shows_each_role_what_it_needs_and_keeps_its_braces() -> None:
    prompts = Prompts()
    assert "Q1" in prompts.solve_messages("Q1", None)[-1].content
    assert "\\boxed{}" in prompts.solve_messages("Q1", None)[-1].content
    critique = prompts.critique_messages("Q1", "A1")[-1].content
    assert critique.index("Q1") < critique.index("A1") < critique.index("'Conclusion: right' or 'Conclusion: wrong'")
    assert "C1" in prompts.revise_messages("Q1", "A1", "C1")[-1].content
    assert not [name for name, template in asdict(prompts).items() if "reference" in (template or "")]


def test_a_file_overrides_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text("solve: 'Löse {question}'\nteacher_system: null\n", encoding="utf-8")
    assert load_prompts(str(path)) == Prompts(solve="Löse {question}")
    assert load_prompts(None) == Prompts()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("refine: 'Use {critique}'", r"template refine holds \{critique\}, which would be sent as it stands; it has no fields"),
        (
            "critique: '{question} {attempt} {reference_answer}'",
            r"template critique holds \{reference_answer\}, which would be sent as it stands; it has \{attempt\}, \{question\}",
        ),
        ("student_system: 'About {question}'", r"template student_system holds \{question\}"),
        ("slove: '{question}'", "unknown template slove; valid names: student_system, teacher_system, solve"),
        ("solve: Solve it.", r"template solve lacks \{question\}, so the model would never see it; add it"),
        ("critique: '{question}'", r"template critique lacks \{attempt\}"),
        ("revise: Use it.", r"template revise lacks \{critique\}"),
        ("solve: null", "template solve is None, not a text"),
        ("refine: null", "template refine is None, not a text"),
        ("refine: 5", "template refine is 5, not a text; put it in quotes"),
        ("solve: {question}", "template solve is {'question': None}, not a text; put it in quotes"),
        ("teacher_system: [be, brief]", "template teacher_system is .*, not a text"),
        ("solve: '{question}", "is no valid YAML"),
        ("solve: '\0'", "is no valid YAML"),
        ("solve: " + "[" * 1000, "is YAML that is nested too deep to be read"),
        ("- solve", "is no mapping of template names; valid names: student_system"),
        ("", "is no mapping of template names"),
    ],
)
def test_a_file_that_cannot_work_is_refused_in_one_line_that_names_it(content: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"prompts file {path}:? {expected}") as refused:
        load_prompts(str(path))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist; set prompts to a YAML file or null"):
        load_prompts(str(tmp_path / "words.yaml"))
