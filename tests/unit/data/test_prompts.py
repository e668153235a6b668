"""Every word a model is sent: templates come from one file, data is put in once, and the reference answer never is."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from cgd_ray.config import Config
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message, Prompts, load_prompts, set_names
from cgd_ray.selection.verdicts import parse_verdict
from tests.builders import tiny_tokenizer

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
    with pytest.raises(ValueError, match=r"does not exist; set prompts to a YAML file, a set \(default, .*\) or null"):
        load_prompts(str(tmp_path / "words.yaml"))


SETS = [name for name in set_names() if name != "default"]


def test_the_sets_are_those_that_the_config_documents() -> None:
    assert set_names() == ["default", "llama3", "qwen", "small"]
    documented = Config.model_fields["prompts"].description
    assert documented is not None
    assert all(name in documented for name in set_names())
    assert load_prompts("default") == Prompts()


@pytest.mark.parametrize("name", SETS)
def test_every_set_asks_for_a_box_where_an_answer_is_wanted_and_for_a_conclusion_that_can_be_read(name: str) -> None:
    prompts = load_prompts(name)
    assert prompts != Prompts()
    for system, messages in (
        (prompts.student_system, prompts.solve_messages("Q1", prompts.student_system)),
        (prompts.teacher_system, prompts.refine_messages("Q1", "A1", "C1")),
        (prompts.student_system, prompts.revise_messages("Q1", "A1", "C1")),
    ):
        assert "\\boxed{" in f"{system}{messages[-1].content}"
    critique = prompts.critique_messages("Q1", "A1")[-1].content
    assert critique.index("Q1") < critique.index("A1")
    assert {parse_verdict(line) for line in ("Conclusion: right", "Conclusion: wrong") if line in critique} == {"right", "wrong"}
    assert not [template for template in asdict(prompts).values() if "reference" in (template or "")]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("qwn", r"did you mean qwen\? Sets are"), ("llama", r"did you mean llama3\? Sets"), ("words", "no such set; Sets are default")],
)
def test_an_unknown_set_is_refused_with_the_nearest_one_and_what_a_file_is_called(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"prompts is {name}, and there is no such set; .*a file's name ends in .yaml$") as refused:
        load_prompts(name)
    assert re.search(hint, str(refused.value))
    assert "\n" not in str(refused.value)


def test_a_set_with_a_system_message_is_refused_to_a_template_without_one_in_a_line_that_names_other_sets() -> None:
    tokenizer = tiny_tokenizer()
    no_system = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    tokenizer.chat_template = no_system + str(tokenizer.chat_template)
    chat = Chat(tokenizer)
    for name in set_names():
        prompts = load_prompts(name)
        for messages in (prompts.solve_messages("Q", prompts.student_system), prompts.critique_messages("Q", "A")):
            if name != "qwen":
                assert chat.prompt(messages).input_ids
                continue
            with pytest.raises(
                ValueError, match=r"System role not supported; .* take a set of prompts without one \(default, llama3, small\)"
            ) as refused:
                chat.prompt(messages)
            assert "\n" not in str(refused.value)
