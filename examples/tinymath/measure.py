"""Measures the tiny pair on held-out problems with bare vLLM: who solves, judges and refines how well. Writes one JSON object.

Verdicts are judged against the attempt's steps, not only its answer: an attempt that reaches the right answer by a wrong step is wrong.
`python -m examples.tinymath.measure --student DIR --teacher DIR --out FILE` (half a minute on two CPU cores).
"""

import argparse
import json
import logging
import os
import random
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message, Prompts, load_prompts
from examples.tinymath.mistakes import varied_solver, write_critique
from examples.tinymath.problems import Problem, committed_splits

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
CPU_ENGINE_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "HF_HUB_OFFLINE": "1",
}


class Model:
    """One of the tiny models in a vLLM engine, greedy."""

    def __init__(self, directory: Path, max_tokens: int = 128) -> None:
        os.environ.update(CPU_ENGINE_ENVIRONMENT)  # read when vllm is imported
        from vllm import LLM, SamplingParams

        self.chat = Chat.load(str(directory))
        self._engine = LLM(model=str(directory), max_model_len=1024, enforce_eager=True, disable_log_stats=True)
        self._sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)

    def answer(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        """The model's next turn in each conversation."""
        prompts = [{"prompt_token_ids": self.chat.prompt(messages).input_ids} for messages in conversations]
        return [output.outputs[0].text for output in self._engine.generate(prompts, self._sampling, use_tqdm=False)]


def boxed_answer(text: str) -> str | None:
    """The last boxed whole number of a text."""
    found = re.findall(r"\\boxed\{(-?\d+)\}", text)
    return found[-1] if found else None


def solve_rate(problems: Sequence[Problem], texts: Sequence[str]) -> float:
    """Share of the texts whose boxed answer is the problem's."""
    return statistics.mean(boxed_answer(text) == str(problem.answer) for problem, text in zip(problems, texts, strict=True))


def review_rates(teacher: Model, prompts: Prompts, problems: Sequence[Problem], attempts: Sequence[str]) -> dict[str, float]:
    """How well the teacher judges and refines attempts: shares over all problems."""
    pairs = list(zip(problems, attempts, strict=True))
    critiques = teacher.answer([prompts.critique_messages(problem.question, attempt) for problem, attempt in pairs])
    refinements = teacher.answer(
        [
            prompts.refine_messages(problem.question, attempt, critique)
            for (problem, attempt), critique in zip(pairs, critiques, strict=True)
        ]
    )
    expected = [write_critique(problem, attempt) for problem, attempt in pairs]
    return {
        "attempts_right": statistics.mean(text.endswith("right") for text in expected),
        "verdicts_right": statistics.mean(_conclusion(ours) == _conclusion(text) for ours, text in zip(critiques, expected, strict=True)),
        "critiques_exact": statistics.mean(ours == text for ours, text in zip(critiques, expected, strict=True)),
        "refinements_right": solve_rate(problems, refinements),
    }


def _conclusion(critique: str) -> str:
    return critique.strip().rpartition("\n")[2]


def measure(student_directory: Path, teacher_directory: Path) -> dict[str, object]:
    """All figures of the pair on the committed held-out problems."""
    problems = committed_splits()["heldout"]
    prompts = load_prompts(str(HERE / "prompts.yaml"))
    rng = random.Random("measure")
    made_attempts = [varied_solver(rng).attempt(problem, rng).text for problem in problems]
    student = Model(student_directory)
    attempts = student.answer([prompts.solve_messages(problem.question, prompts.student_system) for problem in problems])
    teacher = Model(teacher_directory)
    solutions = teacher.answer([prompts.solve_messages(problem.question, prompts.teacher_system) for problem in problems])
    return {
        "num_problems": len(problems),
        "student_solves": solve_rate(problems, attempts),
        "teacher_solves": solve_rate(problems, solutions),
        "reviews_of_student_attempts": review_rates(teacher, prompts, problems, attempts),
        "reviews_of_made_attempts": review_rates(teacher, prompts, problems, made_attempts),
    }


def main() -> None:
    """Measure and write JSON."""
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, default=HERE / "models" / "student")
    parser.add_argument("--teacher", type=Path, default=HERE / "models" / "teacher")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    figures = measure(arguments.student, arguments.teacher)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    logger.info("%s", json.dumps(figures))


if __name__ == "__main__":
    main()
