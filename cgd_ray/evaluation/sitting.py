"""Some papers answered in one pass of an engine pool, so that a large model is loaded once, and each paper's answers kept apart.

The rows of all papers are one work list, in the words in which the model reads them; what comes back is cut into the papers' own
directories, in the order of their rows. A sitting that was killed is gone on with, also when further papers are asked for since: they get
a sitting of their own after it.
How to use: `for sitting in sittings(directory, fingerprints): sitting.answer(role, prompts, on_progress, engine_factory)`.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.config import RoleConfig
from cgd_ray.data.fetching import fetch
from cgd_ray.data.ids import Ids
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.records import RECORD_SCHEMA, WORK_SCHEMA, columns_of, short_hash
from cgd_ray.data.rundir import atomic_write, manifest_parts, read_json, read_manifest, write_json, write_manifest
from cgd_ray.engines.engine import EngineFactory
from cgd_ray.evaluation.answering import AnsweringStage
from cgd_ray.evaluation.papers import Paper, as_asked
from cgd_ray.generation.pipeline import run_attempts
from cgd_ray.generation.progress import ProgressFn
from cgd_ray.problems.work_list import ROWS_PER_GROUP

ANSWERS = "answers"
PREFIX = "sitting-"
MADE = ("error", *columns_of("attempt"))
"""What a row has when it comes back that it had not before."""
ANSWERS_SCHEMA = pa.schema([RECORD_SCHEMA.field(name) for name in (*WORK_SCHEMA.names, *columns_of("attempt"))])
ROWS_PER_PART = 1024
Fingerprints = Mapping[Paper, str]
"""Papers, each with the fingerprint of its answers."""


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One pass."""

    directory: Path
    """Inside the model's directory; gone when all is answered."""
    fingerprints: Fingerprints

    @property
    def output(self) -> Path:
        """Where the parts of the answers are written, under its name with _state what an unfinished pass remembers."""
        return self.directory / ANSWERS

    @property
    def num_rows(self) -> int:
        """Of all papers."""
        return sum(paper.rows.num_rows for paper in self.fingerprints)

    def answer(self, role: RoleConfig, prompts: Prompts, on_progress: ProgressFn | None, engine_factory: EngineFactory) -> None:
        """Answer what is missing, and give each paper its answers. Raises what run_attempts() raises."""
        asked = self.directory / "asked.parquet"
        with atomic_write(asked) as temporary:  # again, where a sitting is gone on with: the fingerprints say that it is the same
            rows = pa.concat_tables([paper.asked(prompts) for paper in self.fingerprints])
            pq.write_table(rows, temporary, row_group_size=ROWS_PER_GROUP)
        write_json(self.directory / "papers.json", _named(self.fingerprints))
        run_attempts(role, as_asked(prompts), asked, self.output, on_progress, engine_factory, AnsweringStage)
        self._hand_out(prompts)
        shutil.rmtree(self.directory)

    def _hand_out(self, prompts: Prompts) -> None:
        made = read_manifest(self.output)
        assert made is not None, "all is answered"
        parts = manifest_parts(self.output)
        ids = [pq.read_table(part, columns=["record_id"])["record_id"] for part in parts]
        files_N = np.repeat(np.arange(len(parts), dtype=np.int32), [len(each) for each in ids])
        rows_N = np.concatenate([np.arange(len(each), dtype=np.int32) for each in ids])
        known = Ids(pa.chunked_array([chunk for each in ids for chunk in each.chunks]))
        for paper, fingerprint in self.fingerprints.items():
            places_N = known.find(paper.asked(prompts)["record_id"])
            target = self.directory.parent / paper.name / ANSWERS
            if read_manifest(target) is None:
                _write_answers(paper, parts, files_N[places_N], rows_N[places_N], target, fingerprint, made)


def sittings(directory: Path, fingerprints: Fingerprints) -> Iterator[Sitting]:
    """What is still to be answered of the papers in a model's directory, each to be answered before the next is asked for.

    Raises ValueError, before there is a first one, when there are other answers under a paper's name.
    """
    left = _left(directory, fingerprints)
    for begun in sorted(directory.glob(f"{PREFIX}*")):
        theirs = read_json(begun / "papers.json")
        if theirs is None or not theirs.items() <= _named(fingerprints).items():
            continue  # it is of what is not asked now
        if theirs.keys() & _named(left).keys():
            yield Sitting(directory=begun, fingerprints={paper: name for paper, name in fingerprints.items() if paper.name in theirs})
        else:
            shutil.rmtree(begun)  # a kill came between its last answers and its end
    if left := _left(directory, fingerprints):
        yield Sitting(directory=directory / f"{PREFIX}{short_hash(json.dumps(_named(left)))}", fingerprints=left)


def is_answered(directory: Path, paper: Paper, fingerprint: str) -> bool:
    """Whether a model's directory has the answers. Raises ValueError when there are others under the paper's name."""
    answers = directory / paper.name / ANSWERS
    manifest = read_manifest(answers)
    if manifest is not None and manifest["fingerprint"] != fingerprint:
        raise ValueError(
            f"{answers} was made with another model, prompt or decoding, or for other problems (fingerprint {manifest['fingerprint']}, now "
            f"{fingerprint}); choose another run_dir or name, or remove {answers.parent} to ask again"
        )
    return manifest is not None


def _left(directory: Path, fingerprints: Fingerprints) -> Fingerprints:
    """The papers without answers."""
    return {paper: name for paper, name in fingerprints.items() if not is_answered(directory, paper, name)}


def _named(fingerprints: Fingerprints) -> dict[str, str]:
    return {paper.name: fingerprint for paper, fingerprint in fingerprints.items()}


def _write_answers(
    paper: Paper,
    parts: Sequence[Path],
    files_N: np.ndarray,
    rows_N: np.ndarray,
    target: Path,
    fingerprint: str,
    made: Mapping[str, Any],
) -> None:
    """Write a paper's answers; row i of it is row rows_N[i] of file files_N[i] of the parts."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    written, failed, tokens = list[Path](), 0, 0
    for start in range(0, paper.rows.num_rows, ROWS_PER_PART):
        some = slice(start, start + ROWS_PER_PART)
        answers, rows = fetch(parts, files_N[some], rows_N[some], MADE), paper.rows.slice(start, ROWS_PER_PART)
        columns = [(answers if name in MADE else rows)[name] for name in ANSWERS_SCHEMA.names]
        written.append(target / f"part-{len(written):05d}.parquet")
        pq.write_table(pa.Table.from_arrays(columns, schema=ANSWERS_SCHEMA), written[-1])
        failed += len(answers) - answers["error"].null_count
        tokens += pc.sum(answers["attempt_tokens"]).as_py() or 0
    share = tokens / max(1, made["tokens"]["attempt"]["tokens"])
    seconds = {"seconds": share * made["seconds"], "engine_seconds": share * sum(made["engine_seconds"].values())}
    write_manifest(target, fingerprint, written, {"rows": paper.rows.num_rows, "failed": failed, "tokens": tokens, **seconds})
