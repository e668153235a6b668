"""What the page shows, as JSON: read from the files of one or more run directories, normalised here so that the page computes no result.

The page's JavaScript knows nothing of run directories, and this knows nothing of the page; VERSION is what both agree on. Whatever has not
been made yet is null or empty, so a run can be looked at from its first record on.
How to use: `build_payload(run)`, or `build_payload(*runs)` for several on one page; `stamp(run)` changes when the payload would.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cgd_ray.data.json_text import read_object
from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import RunDir
from cgd_ray.reporting.page.answers import disagreements, evaluated, evaluations
from cgd_ray.reporting.page.compared import compared
from cgd_ray.reporting.page.diagnosis import diagnosis
from cgd_ray.reporting.page.diagnosis import files as diagnosis_files
from cgd_ray.reporting.page.facts import costs, facts, recorded_summary, seconds
from cgd_ray.reporting.page.funnel import funnel
from cgd_ray.reporting.page.records import MOST_RECORDS, items, num_sampled, sampled, scan
from cgd_ray.reporting.page.token_gains import gains_file
from cgd_ray.reporting.page.training import curves, step_seconds

VERSION = 1
"""To be raised when a key comes to mean something else; the page refuses a payload of another version."""
COMPARISONS = ("comparison.json", "evaluation/comparison.json")
"""Where in a run directory the differences between models lie, as compared.py describes them."""

Payload = dict[str, Any]


def build_payload(*runs: RunDir, comparison: Path | None = None, most_records: int = MOST_RECORDS) -> Payload:
    """All that a page of these runs shows; texts of at most so many records, shared evenly by the runs.

    `comparison` is a file of differences in place of the runs' own. Raises ValueError, one line that names the file, for one that cannot be
    read.
    """
    labels = _labels(runs)
    labelled = list(zip(labels, runs, strict=True))
    models = evaluated(labelled)
    with_records = _first_with_their_records(runs)
    share = max(1, most_records // max(1, len(with_records)))
    payload: Payload = finite(
        {
            "version": VERSION,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "stamp": stamp(*runs),
            "title": ", ".join(labels),
            "runs": [_run(run, label, share if run in with_records else None) for label, run in labelled],
            "evaluation": evaluations(models),
            "comparison": _comparison(runs, comparison),
            "answers": disagreements(models),
            "advisories": [],
        }
    )
    return payload


def stamp(*runs: RunDir) -> str:
    """16 hex digits that change when one of the files changes from which the payload is made; cheap, since no file is opened."""
    return short_hash("\n".join(f"{path} {_state(path)}" for run in runs for path in _sources(run)))


def finite(value: Any) -> Any:
    """The value with null for each number that JSON cannot hold, as the loss of a training that has diverged."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def _run(run: RunDir, label: str, most_records: int | None) -> Payload:
    """`most_records` is None for a run whose records are another one's."""
    summary = recorded_summary(run)
    return {
        "label": label,
        "facts": facts(run, summary),
        "data": None if most_records is None else _data(run, most_records),
        "training": curves(run),
        "diagnosis": diagnosis(run),
        "costs": costs(summary),
        "seconds": seconds(run),
        "step_seconds": step_seconds(run),
    }


def _data(run: RunDir, most_records: int) -> Payload:
    found = scan(run)
    chosen = sampled(found, num_sampled(found, most_records))
    return {"funnel": funnel(run, found), **found.overview(), "num_records": found.num_rows, "records": items(run, found, chosen)}


def _first_with_their_records(runs: Sequence[RunDir]) -> list[RunDir]:
    """The cells of a comparison share the selected records by links; the first of them shows these."""
    return list({run.selected.resolve(): run for run in reversed(runs)}.values())


def _labels(runs: Sequence[RunDir]) -> list[str]:
    """The directories' names, with as many of their parents as tell them apart."""
    paths = [run.root.resolve().parts for run in runs]
    depth = next((depth for depth in range(1, 9) if len({path[-depth:] for path in paths}) == len(paths)), 9)
    return ["/".join(path[-depth:]) for path in paths]


def _comparison(runs: Sequence[RunDir], given: Path | None) -> Payload | None:
    written = (run.root / name for run in runs for name in COMPARISONS)
    path = given or next((path for path in written if path.exists()), None)
    return None if path is None else compared(read_object(path))


def _sources(run: RunDir) -> list[Path]:
    """Files and directories that are written when there is something new to see."""
    named = [run.summary, run.seconds, run.metrics, run.work_list, run.decontamination, run.root / "training" / "validation.jsonl"]
    stages = [directory / "manifest.json" for directory in (run.records, run.selected, run.examples)]
    graded = [directory / "manifest.json" for found in run.evaluated().values() for directory in found.values()]
    diagnosed = (*diagnosis_files(run), gains_file(run))
    return [*named, *stages, *graded, *diagnosed, run.generation_state / "ids", *(run.root / name for name in COMPARISONS)]


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except FileNotFoundError:
        return "-"
    return f"{found.st_size} {found.st_mtime_ns}"
