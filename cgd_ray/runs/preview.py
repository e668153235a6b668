"""`cgd preview CONFIG`: a few rows through all turns with the config's real engines; prompts, answers, grades and tokens on the terminal.

A wrong prompt, a template that drops a turn, a limit that cuts: all of it can be seen in a minute, before a run costs a night and money.
The rows are some that the run would make, spread over its problems, with the same ids and so the same seeds. They are made by the stages of
`cgd generate` in a temporary directory, so what a run refuses is refused here; run_dir is only read, and no records are reused.
How to use: `num_failed = preview(config, 5, sys.stdout.write)`; `render_prompts(config, 5, sys.stdout.write)` starts no engine.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.cluster.connection import starts_here
from cgd_ray.cluster.hub import ROLES
from cgd_ray.config import Config, ProblemsConfig, RoleConfig
from cgd_ray.data.records import PROBLEM_SCHEMA, TURNS, TURNS_OF_ROLE
from cgd_ray.data.rundir import RunDir, manifest_parts
from cgd_ray.engines.api.spending import spent
from cgd_ray.process.faults import StageFailedError, refusing
from cgd_ray.reporting.transcript import LEGEND, Transcript
from cgd_ray.runs.contents import with_models
from cgd_ray.runs.remote.working_copy import directory_of
from cgd_ray.runs.run import work_through
from cgd_ray.runs.work_lists import make_work_lists

Write = Callable[[str], object]

STAND_INS = {"attempt": "[what the student attempts]", "critique": "[what the teacher criticises]"}
"""In prompts that are rendered before a model has written anything."""


def preview(config: Config, count: int, write: Write) -> int:
    """Make `count` rows, show them and what all rows will cost; returns how many of them failed.

    Raises RefusedError, StageFailedError and StoppedError as a run does; where a stage fails, the temporary directory stays for its logs.
    """
    with refusing():
        config, work = _prepared(config, write)
        chosen = spread_over(work, count)
    with _temporary(config) as directory:
        run = RunDir(directory / "run")
        work_through("generate", _shrunk(config, run, _published(chosen, directory / "problems.parquet")))
        rows = pa.concat_tables([pq.read_table(part) for part in manifest_parts(run.selected)]).to_pylist()
        cost = None if config.teacher.api is None else spent(run.spending).cost(config.teacher.api)
    transcript = Transcript(config)
    write(LEGEND)
    for number, row in enumerate(rows, 1):
        write(transcript.row(row, f"{number} of {len(rows)}"))
    write("".join(f"{line}\n" for line in expected(rows, work.num_rows, cost, config)))
    return sum(row["error"] is not None for row in rows)


def render_prompts(config: Config, count: int, write: Write) -> None:
    """Show the prompts of `count` rows with stand-ins for what is not written yet. Raises RefusedError as a run does."""
    with refusing():
        config, work = _prepared(config, write)
        transcript = Transcript(config)
        write(LEGEND)
        for problem in spread_over(work, count).to_pylist():
            write(f"\nproblem {problem['problem_id']}\n")
            for turn in TURNS:
                write(f"\n{turn}:\n{transcript.prompt({**problem, **STAND_INS}, turn)}\n")


def spread_over(work: pa.Table, count: int) -> pa.Table:
    """The first samples of `count` problems at equal distances, of those with a reference answer where there are such."""
    sound = work.filter(pc.and_(pc.equal(work["sample_index"], 0), pc.is_null(work["error"])))
    graded = sound.filter(pc.is_valid(sound["reference_answer"]))
    candidates = graded if graded.num_rows else sound
    if not candidates.num_rows:
        raise ValueError("problems: none of them can be asked (each has an error); clean the source")
    taken = min(count, candidates.num_rows)
    return candidates.take([index * candidates.num_rows // taken for index in range(taken)])


def expected(rows: Sequence[dict[str, Any]], num_rows: int, cost: float | None, config: Config) -> list[str]:
    """What these rows took, and what all rows of the run would take if they were like them."""
    factor, lines = num_rows / len(rows), []
    for name, turns in TURNS_OF_ROLE.items():
        tokens_in, tokens_out = (
            sum(row.get(f"{turn}_{kind}") or 0 for row in rows for turn in turns) for kind in ("prompt_tokens", "tokens")
        )
        lines.append(
            f"{name}: {tokens_in:,} tokens in and {tokens_out:,} out for {len(rows)} rows; "
            f"about {factor * tokens_in:,.0f} in and {factor * tokens_out:,.0f} out for all {num_rows:,}"
        )
    if cost is not None and config.teacher.api is not None:
        currency = config.teacher.api.currency
        lines.append(f"teacher's API: {cost:,.4f} {currency} for these rows, about {factor * cost:,.2f} {currency} for all")
    return lines


def _prepared(config: Config, write: Write) -> tuple[Config, pa.Table]:
    """The config with its models, and the work list that its run would have. Raises ValueError as a run does."""
    if config.records is not None:
        raise ValueError(f"records is {config.records}, so nothing is generated that could be previewed; `cgd inspect` shows the examples")
    here = config.model_copy(update={"run_dir": str(directory_of(config))})
    run, notes = RunDir(here.run_dir), list[str]()
    lists, _ = make_work_lists("generate", here, run, notes)
    write("".join(f"{note}\n" for note in notes))
    return with_models(here, ROLES), lists[run.work_list]


def _published(chosen: pa.Table, file: Path) -> ProblemsConfig:
    """The chosen problems as a source of their own, which keeps their ids."""
    pq.write_table(chosen, file)
    named = [name for name in PROBLEM_SCHEMA.names if name != "error" and chosen[name].null_count < chosen.num_rows]
    return ProblemsConfig.model_validate({"path": str(file), "fields": {name: name for name in named}})


def _shrunk(config: Config, run: RunDir, problems: ProblemsConfig) -> Config:
    """The config of a generation of these problems alone, with one engine for each role."""
    small = {"num_samples": 1, "reuse": (), "max_failed_fraction": 1.0, "teacher_check": None}  # a row that fails is what a preview is for
    later = {"streaming": False, "validation": None, "export": "last"}
    return config.model_copy(
        update={
            "run_dir": str(run.root),
            "problems": problems,
            "student": _with_one_engine(config.student),
            "teacher": _with_one_engine(config.teacher),
            "generation": config.generation.model_copy(update=small),
            "training": config.training.model_copy(update=later),
            "evaluation": None,
        }
    )


def _with_one_engine(role: RoleConfig) -> RoleConfig:
    return role.model_copy(update={"placement": role.placement.model_copy(update={"min_replicas": 1, "max_replicas": 1})})


@contextmanager
def _temporary(config: Config) -> Iterator[Path]:
    """A directory on this machine's disk, or beside run_dir where other nodes must see it; it stays only where a stage fails."""
    beside = None
    if not starts_here(config.cluster):
        beside = Path(config.run_dir).parent
        beside.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="cgd-preview-", dir=beside))
    is_kept = False
    try:
        yield directory
    except StageFailedError:
        is_kept = True
        raise
    finally:
        if not is_kept:
            shutil.rmtree(directory, ignore_errors=True)
