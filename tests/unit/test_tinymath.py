"""The synthetic world: problems are sound and split cleanly, attempts err where they say, critiques tell the truth."""

import json
import random
from itertools import islice
from pathlib import Path

import pytest

from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message, load_prompts
from examples.tinymath import corpus, measure, mistakes, problems
from examples.tinymath.kinds import KINDS

HERE = Path(problems.__file__).parent
STUDENT, TEACHER = HERE / "models" / "student", HERE / "models" / "teacher"


def some_problems(count: int = 200) -> list[problems.Problem]:
    return list(islice(problems.make_split("corpus"), count))


def evaluated(line: str) -> bool:
    """Do all equations of a solution's line hold, by Python's own arithmetic?"""
    equations = [equation.partition("=") for equation in line.rpartition(": ")[2].split(", ")]
    return all(_value(left) == int(right) for left, _, right in equations)


def _value(expression: str) -> int:
    for sign in "+-*/":
        left, found, right = expression.partition(sign)
        if found:
            a, b = int(left), int(right)
            return {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
    raise AssertionError(expression)


def test_reference_solutions_hold_line_by_line_and_end_in_the_answer() -> None:
    for problem in some_problems():
        *lines, boxed = problem.solution().split("\n")
        assert all(evaluated(line) for line in lines)
        assert boxed == f"\\boxed{{{problem.answer}}}"
        assert lines[-1].endswith(f"={problem.answer}")


def test_every_number_of_the_steps_occurs_in_the_question() -> None:
    for problem in some_problems():
        assert f" {problem.start} " in problem.question
        for step in problem.steps:
            assert step.kind in KINDS
            if "{k}" in KINDS[step.kind].meaning and len(KINDS[step.kind].numbers) > 1:
                assert str(step.k) in problem.question


def test_no_question_is_in_two_splits_or_twice_in_one() -> None:
    splits = problems.committed_splits()
    ids = [problem.problem_id for split in splits.values() for problem in split]
    assert len(ids) == len(set(ids))
    unseen = islice(problems.make_split("corpus", set(ids)), 2000)
    assert not {problem.problem_id for problem in unseen} & set(ids)


def test_committed_files_are_what_the_seeds_make() -> None:
    for split, made in problems.committed_splits().items():
        rows = [json.loads(line) for line in (problems.DATA_DIRECTORY / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [row["question"] for row in rows] == [problem.question for problem in made]
        assert [row["reference_solution"] for row in rows] == [problem.solution() for problem in made]
        assert all(row["reference_solution"].endswith(f"\\boxed{{{row['reference_answer']}}}") for row in rows)


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="split dev is unknown; choose one of heldout, train, corpus"):
        next(problems.make_split("dev"))


def test_a_careful_solver_without_misconceptions_writes_the_reference_solution() -> None:
    for problem in some_problems(50):
        attempt = mistakes.Solver().attempt(problem, random.Random(0))
        assert attempt.text == problem.solution()
        assert attempt.error_index is None


def test_attempts_agree_with_the_reference_up_to_the_first_error_and_differ_there() -> None:
    rng = random.Random(1)
    for problem in some_problems():
        attempt = mistakes.varied_solver(rng).attempt(problem, rng)
        if attempt.error_index is not None:
            lines, reference = attempt.text.split("\n"), problem.solution().split("\n")
            assert lines[: attempt.error_index] == reference[: attempt.error_index]
            assert lines[attempt.error_index] != reference[attempt.error_index]


def test_critiques_conclude_right_exactly_when_there_is_no_error_and_name_the_first_wrong_step() -> None:
    rng = random.Random(2)
    for problem in some_problems():
        attempt = mistakes.varied_solver(rng).attempt(problem, rng)
        critique = mistakes.write_critique(problem, attempt.text)
        assert critique.endswith("\nConclusion: right") == (attempt.error_index is None)
        if attempt.error_index is not None:
            assert f"Step {attempt.error_index + 1} is wrong:" in critique
            assert critique.endswith("\nConclusion: wrong")


def test_critiques_of_arbitrary_text_never_conclude_right() -> None:
    problem = some_problems(1)[0]
    for text in ("", "\\boxed{1}", problem.solution() + "\nmore", "no\nsense\nat\nall"):
        assert mistakes.write_critique(problem, text).endswith("\nConclusion: wrong")


def test_the_students_misconceptions_make_it_fail_and_only_where_they_apply() -> None:
    believer = mistakes.Solver(misconceptions=mistakes.STUDENT_MISCONCEPTIONS)
    for problem in some_problems():
        affected = any(step.kind in mistakes.STUDENT_MISCONCEPTIONS for step in problem.steps)
        assert (believer.attempt(problem, random.Random(0)).error_kind == "misconception") == affected


@pytest.mark.parametrize("directory", [STUDENT, TEACHER], ids=["student", "teacher"])
def test_models_load_without_remote_code_and_their_tokenizer_keeps_any_text(directory: Path) -> None:
    chat = Chat.load(str(directory))
    for text in ("12*34=408", "\\frac{1}{2} ≤ π, 日本", "<|im_end|>"):
        ids = chat.encode(text)
        assert chat.tokenizer.decode(ids) == text
        assert not chat.count_control_tokens(ids)
    assert len(chat.encode("1234")) == 4
    prompt = chat.prompt([Message(role="user", content="x")]).input_ids
    assert chat.tokenizer.decode(prompt) == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["dtype"] == "bfloat16"
    generation = json.loads((directory / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == chat.tokenizer.eos_token_id
    assert generation["pad_token_id"] == chat.tokenizer.pad_token_id


def test_both_models_together_fit_in_8_megabytes() -> None:
    assert sum(file.stat().st_size for directory in (STUDENT, TEACHER) for file in directory.iterdir()) <= 8_000_000


def test_examples_train_the_answer_alone_and_end_in_the_end_token() -> None:
    chat, prompts = Chat.load(str(STUDENT)), load_prompts(str(HERE / "prompts.yaml"))
    for make in (corpus.teacher_examples, corpus.student_examples):
        for example in islice(make(chat, prompts, ()), 50):
            assert example.input_ids[-1] == chat.tokenizer.eos_token_id
            assert chat.tokenizer.decode(example.input_ids[: example.prompt_length]).endswith("assistant\n")
    first, second = (islice(corpus.teacher_examples(chat, prompts, (), seed=0), 20) for _ in range(2))
    assert list(first) == list(second)


def test_a_corpus_holds_the_tokens_asked_for_and_no_example_more() -> None:
    chat, prompts = Chat.load(str(STUDENT)), load_prompts(str(HERE / "prompts.yaml"))
    lengths = [len(example.input_ids) for example in corpus.take_tokens(corpus.student_examples(chat, prompts, ()), 3000).values()]
    assert sum(lengths[:-1]) < 3000 <= sum(lengths)


def test_boxed_answers_are_read_from_the_end() -> None:
    assert measure.boxed_answer("\\boxed{3} or \\boxed{14}") == "14"
    assert measure.boxed_answer("14") is None
