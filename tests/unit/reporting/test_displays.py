"""What the bars say: the newest numbers beside each other, and why one is missing."""

from typing import Any, cast

from cgd_ray.generation.progress import FAILED_BECAUSE
from cgd_ray.process.console import Bar, Screen
from cgd_ray.reporting.displays import REASON_WIDTH, TrainingDisplay, remaining_s, show_evaluation, show_generation, show_live_step

STEP = {"train/step": 7.0, "train/loss": 0.5, "train/grad_norm": 1.25, "train/tokens_per_s": 9876.5}
COUNTS = {
    "attempts": 5,
    "critiques": 4,
    "refinements": 3,
    "failed": 0,
    "tokens_per_s": 1234,
    "unusable": 0,
    "teacher_rows": 6,
    "student_rows": 7,
}


class Recorder:
    """Stands for a bar and a screen; remembers what they were told."""

    def __init__(self) -> None:
        self.updates: list[tuple[int, str]] = []
        self.said: list[str] = []
        self.remaining_s: float | None = None
        self.total = 8

    def update(self, done: int, note: str, remaining_s: float | None = None) -> None:
        self.updates.append((done, note))
        self.remaining_s = remaining_s

    def say(self, text: str) -> None:
        self.said.append(text)


def display(recorder: Recorder) -> TrainingDisplay:
    return TrainingDisplay(cast(Screen, recorder), cast(Bar, recorder))


def test_a_trainings_bar_has_the_newest_step_and_the_newest_answers() -> None:
    recorder = Recorder()
    training = display(recorder)
    training.show_step(STEP)
    training.show_measurement({"step": 4, "pass@1": 0.375})
    training.show_step({**STEP, "train/step": 8.0})
    step = "loss 0.500, gradient norm 1.25, 9,876 tokens/s"
    assert recorder.updates == [(7, step), (8, f"{step}, pass@1 37.5% after step 4")]
    assert recorder.said == []


def test_a_live_trainings_bar_counts_the_records_that_are_dealt_with() -> None:
    recorder = Recorder()
    show_live_step(cast(Bar, recorder), {**STEP, "train/epoch": 0.25}, num_records=40)
    assert recorder.updates == [(10, "step 7, loss 0.500, gradient norm 1.25, 9,876 tokens/s")]


def test_answers_that_are_missing_are_a_warning_with_the_reason() -> None:
    recorder = Recorder()
    display(recorder).show_measurement({"step": 4, "problem": "no memory"})
    assert recorder.said == ["warning: pass@1 after step 4 could not be measured, the training goes on: no memory"]


def test_a_generations_bar_names_the_most_frequent_failures_shortly() -> None:
    recorder = Recorder()
    bar: Any = recorder
    show_generation(bar, {**COUNTS, "attempts": 0, "tokens_per_s": 0})
    show_generation(bar, {**COUNTS, "failed": 3, f"{FAILED_BECAUSE}too long": 2, f"{FAILED_BECAUSE}no answer": 1})
    failures = {f"{FAILED_BECAUSE}{name * 100}": count for name, count in {"a": 1, "b": 3, "c": 5, "d": 2}.items()}
    show_generation(bar, {**COUNTS, "unusable": 2, "failed": 11, **failures}, "0.25 USD")
    show_evaluation(bar, COUNTS)
    show_evaluation(bar, COUNTS, "aime25 40.0% so far")
    often = "; ".join(f"{count}: {name * REASON_WIDTH}" for name, count in (("c", 5), ("b", 3), ("d", 2)))
    counts = "5 attempts, 4 critiques, 1,234 tokens/s"
    assert recorder.updates == [
        (0, "engines are starting"),
        (6, f"{counts}, 3 failed (2: too long; 1: no answer)"),
        (6, f"{counts}, 0.25 USD, 2 cut or empty, 11 failed ({often})"),
        (7, "1,234 tokens/s"),
        (7, "1,234 tokens/s, aime25 40.0% so far"),
    ]


def test_the_rest_takes_as_long_as_rows_like_those_made_less_what_is_written_of_them() -> None:
    student = {"student_rows": 7, "student_rows_made": 2, "student_tokens_made": 200}  # five were made by a former run
    teacher = {"teacher_rows": 6, "teacher_rows_made": 1, "teacher_tokens_made": 300}
    counts = {**COUNTS, **student, **teacher, "tokens_per_s": 10, "unfinished_tokens": 150}
    assert remaining_s(counts, ("student",), 10) == (3 * 100 - 150) / 10
    assert remaining_s(counts, ("student", "teacher"), 10) == (3 * 100 + 4 * 300 - 150) / 10
    assert remaining_s({**counts, "unfinished_tokens": 10**6}, ("student",), 10) == 0
    assert remaining_s({**counts, "teacher_rows_made": 0}, ("student", "teacher"), 10) is None, "nobody knows how long critiques are"
    assert remaining_s({**counts, "tokens_per_s": 0}, ("student",), 10) is None
    recorder = Recorder()
    show_evaluation(cast(Bar, recorder), counts)
    assert recorder.remaining_s == 0, "one row is left of eight, and written"
