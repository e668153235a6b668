r"""The benchmarks that can be evaluated by name, each with its place on the hub, its revision, its columns, its wording and its grader.

Sizes are the published ones, and a set of another size is refused. Revisions are commits of the hub that inspect-evals 0.28 or other
public evaluations pin too; the two without one are known by their size and by the hash of their content that each report holds. A commit
can be given in the config (`{name: minerva, revision: ...}`), and so can a file with the same columns (`path`).
How to use: `benchmark_named("math-500")`.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cgd_ray
from cgd_ray.config import FieldMapping
from cgd_ray.data.prompts import Wording
from cgd_ray.evaluation.benchmarks.forms import (
    INSTRUCTIONS,
    LISTED_OPTIONS,
    PLAIN,
    SHUFFLED_OPTIONS,
    Form,
    InstructionColumns,
    ListedOptionsColumns,
    RightAndWrongColumns,
)

AnswerKind = Literal["integer", "number", "expression", "letter", "text that obeys"]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One published test set."""

    name: str
    place: str
    """Its name on the hub, or its file."""
    revision: str | None = None
    """Commit of the hub; none is known of a few, and a file has none."""
    subset: str | None = None
    split: str = "test"
    size: int
    """Problems, as published."""
    fields: FieldMapping
    """The columns of the hub's data set."""
    reference_answer_pattern: str | None = None
    form: Form = PLAIN
    wording: Wording = "solve"
    """Which of the prompts it is asked with."""
    answers: AnswerKind
    grader: str = "boxed-math"


def _columns(question: str, reference_answer: str, reference_solution: str | None = None) -> FieldMapping:
    return FieldMapping(question=question, reference_answer=reference_answer, reference_solution=reference_solution)


CATALOGUE = (
    Benchmark(
        name="gsm8k",
        place="openai/gsm8k",
        revision="cc7b047b6e5bb11b4f1af84efc572db110a51b3c",
        subset="main",
        size=1319,
        fields=_columns("question", "answer"),
        reference_answer_pattern=r"####\s*(.+)",
        answers="integer",
    ),
    Benchmark(
        name="math-500",
        place="HuggingFaceH4/MATH-500",
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        size=500,
        fields=_columns("problem", "answer", "solution"),
        answers="expression",
    ),
    Benchmark(
        name="amc23",
        place="math-ai/amc23",
        revision="80815d37005feb82cd7f8fbc6901d5d3eff43057",
        size=40,
        fields=_columns("question", "answer"),
        answers="integer",
    ),
    Benchmark(
        name="aime24",
        place="Maxwell-Jia/AIME_2024",
        revision="8d88b2876a82a080e2f172cc9b25d0d9d2cb4792",
        split="train",
        size=30,
        fields=_columns("Problem", "Answer", "Solution"),
        answers="integer",
    ),
    Benchmark(
        name="aime25",
        place="math-ai/aime25",
        revision="563bb8404243c5f09de6ec262f2db674fe5bce9b",
        size=30,
        fields=_columns("problem", "answer"),
        answers="integer",
    ),
    Benchmark(
        name="aime26",
        place="math-ai/aime26",
        revision="79037aebdb6580008fb960d17cb21fd3099083e3",
        size=30,
        fields=_columns("problem", "answer"),
        answers="integer",
    ),
    Benchmark(
        name="hmmt25",
        place="MathArena/hmmt_feb_2025",
        revision="6fdc4277120810ff75aa22d2d5489b91f7a262a1",
        split="train",
        size=30,
        fields=_columns("problem", "answer"),
        answers="expression",
    ),
    Benchmark(
        name="minerva",
        place="math-ai/minervamath",  # no public evaluation that pins a commit was found
        size=272,
        fields=_columns("question", "answer"),
        answers="expression",
    ),
    Benchmark(
        name="olympiadbench",
        place="knoveleng/OlympiadBench",  # the 675 text-only problems with a final answer; no pinned commit was found
        split="train",
        size=675,
        fields=_columns("question", "answer"),
        answers="expression",
    ),
    Benchmark(
        name="theoremqa",
        place="TIGER-Lab/TheoremQA",
        revision="a340b1782960a712843aae3ed25f1e013cc008a5",
        size=800,
        fields=_columns("Question", "Answer"),
        answers="expression",
    ),
    Benchmark(
        name="gpqa-diamond",
        place="Idavidrein/gpqa",  # gated: HF_TOKEN
        revision="5233cd1db58884ed0bf678c7c6be731722a23f84",
        subset="gpqa_diamond",
        split="train",
        size=198,
        fields=RightAndWrongColumns(question="Question", reference_answer="Correct Answer"),
        form=SHUFFLED_OPTIONS,
        wording="choose",
        answers="letter",
        grader="multiple-choice",
    ),
    Benchmark(
        name="mmlu-pro",
        place="TIGER-Lab/MMLU-Pro",
        revision="527feea0afed1de15a8c115abf7be4c912123315",
        size=12_032,
        fields=ListedOptionsColumns(question="question", reference_answer="answer"),
        form=LISTED_OPTIONS,
        wording="choose",
        answers="letter",
        grader="multiple-choice",
    ),
    Benchmark(
        name="svamp",
        place="ChilleD/SVAMP",
        revision="5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef",
        size=300,
        fields=_columns("question_concat", "Answer"),
        answers="number",
    ),
    Benchmark(
        name="ifeval",
        place="google/IFEval",
        revision="966cd89545d6b6acfd7638bc708b98261ca58e84",
        split="train",
        size=541,
        fields=InstructionColumns(question="prompt"),
        form=INSTRUCTIONS,
        wording="follow",
        answers="text that obeys",
        grader="ifeval",
    ),
    Benchmark(
        name="ifbench",
        place="allenai/IFBench_test",
        revision="2e8a48de45ff3bf41242f927254ca81b59ca3ae2",
        split="train",
        size=300,
        fields=InstructionColumns(question="prompt"),
        form=INSTRUCTIONS,
        wording="follow",
        answers="text that obeys",
        grader="ifbench",
    ),
    Benchmark(
        name="tinymath",
        place=str(Path(cgd_ray.__file__).parents[1] / "examples" / "tinymath" / "data" / "heldout.jsonl"),
        split="train",
        size=400,
        fields=_columns("question", "reference_answer", "reference_solution"),
        answers="integer",
    ),
)


def benchmark_named(name: str) -> Benchmark:
    """The benchmark of a name. Raises ValueError, which names the nearest names, when there is none."""
    found = {benchmark.name: benchmark for benchmark in CATALOGUE}
    if name not in found:
        near = difflib.get_close_matches(name.lower(), list(found), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(found)}"
        raise ValueError(f"evaluation.benchmarks has {name!r}, which is no benchmark; {hint} (your own file goes into evaluation.problems)")
    return found[name]
