"""Pre-training examples of teacher and student.

Teacher: about half solves problems, half goes over attempts (critique, then refinement, in one conversation; the short fixed turn between
them is trained along, which saves reading everything twice). Student: solves with its misconceptions, prompt-only and also in the
conversation (problem, some attempt, its critique), where it pays no heed to either: what a critique tells is left to be learned.
Used by train_models.py.
"""

import random
from collections.abc import Collection, Iterator
from itertools import islice

from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.prompts import Prompts
from examples.tinymath.mistakes import STUDENT, varied_solver, write_critique
from examples.tinymath.problems import make_split

REVIEW_FRACTION = {"teacher": 0.55, "student": 0.25}


def tokenizer_texts(num_problems: int = 3000) -> Iterator[str]:
    """Text in which the tokenizer learns its merges: every kind of message, and the names of the roles."""
    rng = random.Random(0)
    for problem in islice(make_split("corpus"), num_problems):
        attempt = varied_solver(rng).attempt(problem, rng).text
        yield from (problem.question, attempt, write_critique(problem, attempt), problem.solution(), "user\nassistant\nsystem\n")
        yield "Check.\nTry again.\nSolve it right.\n"


def teacher_examples(chat: Chat, prompts: Prompts, excluded: Collection[str], seed: int = 0) -> Iterator[Example]:
    """Endless examples of solving, and of critique with refinement."""
    rng = random.Random(f"teacher {seed}")
    for problem in make_split("corpus", excluded):
        if rng.random() >= REVIEW_FRACTION["teacher"]:
            yield chat.example(prompts.solve_messages(problem.question, prompts.teacher_system), problem.solution())
            continue
        attempt = varied_solver(rng).attempt(problem, rng).text
        yield review_example(chat, prompts, problem.question, attempt, write_critique(problem, attempt), problem.solution())


def review_example(chat: Chat, prompts: Prompts, question: str, attempt: str, critique: str, refinement: str) -> Example:
    """The teacher's whole review as one example, with the loss from the critique on."""
    whole = chat.example(prompts.refine_messages(question, attempt, critique), refinement)
    return Example(input_ids=whole.input_ids, prompt_length=len(chat.prompt(prompts.critique_messages(question, attempt)).input_ids))


def student_examples(chat: Chat, prompts: Prompts, excluded: Collection[str], seed: int = 0) -> Iterator[Example]:
    """Endless examples of the student's own, often wrong, way to solve."""
    rng = random.Random(f"student {seed}")
    for problem in make_split("corpus", excluded):
        messages = prompts.solve_messages(problem.question, prompts.student_system)
        if rng.random() < REVIEW_FRACTION["student"]:
            attempt = varied_solver(rng).attempt(problem, rng).text
            messages = prompts.revise_messages(problem.question, attempt, write_critique(problem, attempt))
        yield chat.example(messages, STUDENT.attempt(problem, rng).text)


def take_tokens(examples: Iterator[Example], num_tokens: int) -> dict[str, Example]:
    """The first examples that together hold at least num_tokens tokens, each under a record id of its own."""
    taken: dict[str, Example] = {}
    total = 0
    while total < num_tokens:
        example = next(examples)
        taken[f"corpus-{len(taken):06}"] = example
        total += len(example.input_ids)
    return taken
