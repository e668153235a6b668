"""Builders of finished evaluations, as this project, lm-eval and Inspect leave them. logs/ holds what lm-eval 0.4.13 and inspect_ai 0.3.285
have written themselves: four sums, of which the first two are right."""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.data.rundir import write_json, write_manifest
from cgd_ray.evaluation.interchange.neutral import OWN_KEY, Answer, Evaluation, Problem

LOGS = Path(__file__).parent / "logs"
LM_EVAL_RESULTS = LOGS / "results_2026-11-30T20-05-18.181720.json"
INSPECT_LOG = LOGS / "adding.eval"
SETTINGS: dict[str, Any] = {"prompt": {"solve": "{problem}"}, "sampling": {"temperature": 0.7, "max_tokens": 64}}
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("sample_index", pa.int32()),
        ("question", pa.string()),
        ("reference_answer", pa.string()),
        ("attempt", pa.string()),
        ("attempt_tokens", pa.int32()),
        ("attempt_finish_reason", pa.string()),
        ("error", pa.string()),
        ("extracted", pa.string()),
        ("correct", pa.bool_()),
        ("grade_reason", pa.string()),
    ]
)
Grades = Mapping[str, Sequence[bool | None]]
"""From a problem's id to whether each of its answers is right; None where the row failed."""


def own_evaluation(directory: Path, grades: Grades, *, model: str = "base", **changes: Any) -> Path:
    """A finished evaluation directory of this project's; `changes` replace what its report says."""
    rows = [
        {
            "problem_id": problem_id,
            "sample_index": index,
            "question": f"What is {problem_id}?",
            "reference_answer": "7",
            "attempt": None if right is None else f"It is \\boxed{{{7 if right else 8}}}.",
            "attempt_tokens": 0 if right is None else 9,
            "attempt_finish_reason": None if right is None else "stop",
            "error": "the prompt is too long" if right is None else None,
            "extracted": None if right is None else str(7 if right else 8),
            "correct": bool(right),
            "grade_reason": "no answer" if right is None else "equal" if right else "not equal",
        }
        for problem_id, answers in sorted(grades.items())
        for index, right in enumerate(answers)
    ]
    directory.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), directory / "graded.parquet")
    num_samples = max(map(len, grades.values()), default=1)
    report = {"benchmark": "sums", "model": model, "grader": "boxed-math", "num_samples": num_samples, "settings": SETTINGS, **changes}
    write_json(directory / "report.json", report)
    write_manifest(directory, "fingerprint", [directory / "graded.parquet", directory / "report.json"], {})
    return directory


def evaluation(problems: Sequence[Problem], *, words: str = OWN_KEY, path: str = "a", **settings: Any) -> Evaluation:
    """One in memory; `settings` are those that must agree."""

    def read() -> Iterator[Problem]:
        return iter(problems)

    return Evaluation(
        source=words, path=Path(path), benchmark="sums", model=path, settings=settings, words=words, finished=0.0, problems=read
    )


def problem(name: str, *correct: bool, question: str | None = None, reference: str | None = "7") -> Problem:
    """With an answer for each grade."""
    return Problem(id=name, question=question, reference_answer=reference, answers=tuple(Answer(correct=right) for right in correct))


def inspect_content(change: Callable[[dict[str, Any]], None] = lambda log: None) -> dict[str, Any]:
    """Members of a log of Inspect's with one sample, by name, after `change`."""
    sample = {
        "id": "one",
        "epoch": 1,
        "input": [{"role": "user", "content": [{"type": "text", "text": "What is 1+1?"}]}],
        "target": ["2"],
        "output": {"choices": [{"message": {"content": "2"}, "stop_reason": "max_tokens"}], "completion": "2"},
        "scores": {"match": {"value": "C", "answer": "2"}},
    }
    header = {
        "version": 2,
        "status": "success",
        "eval": {"task": "adding", "model": "some/model", "created": "2026-11-30T19:54:44+00:00", "config": {"epochs": 1}},
        "plan": {"steps": [{"solver": "generate", "params": {}}], "config": {"temperature": 0.0}},
        "results": {"scores": [{"name": "match", "scorer": "match"}]},
    }
    members = {"header.json": header, "samples/one_epoch_1.json": sample}
    change(members)
    return members


def inspect_archive(file: Path, change: Callable[[dict[str, Any]], None] = lambda log: None) -> Path:
    """An .eval file with inspect_content()."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in inspect_content(change).items():
            archive.writestr(name, json.dumps(content))
    return file


def add_zstandard(archive: zipfile.ZipFile, name: str, content: bytes, declared_size: int | None = None) -> None:
    """A member compressed as Inspect does it, whose size in the directory may be a lie."""
    packed = pa.Codec("zstd").compress(content, asbytes=True)
    member = zipfile.ZipInfo(name)
    archive.writestr(member, packed)
    member.compress_type, member.CRC = 93, zlib.crc32(content)
    member.file_size = len(content) if declared_size is None else declared_size
