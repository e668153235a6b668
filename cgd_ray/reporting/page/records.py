"""The records of a run for the page: counts over all of them from small columns alone, texts of a stated sample.

A million records with texts of 30 KB are read in two passes: one over names, verdicts and token counts, which fit into memory, and one over
the row groups in which chosen records are. While a generation runs, the records that are durably written stand in for the selected ones.
How to use: `found = scan(run)`, `found.overview()`, then `items(run, found, sampled(found, num_sampled(found, 5000)))`.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.data.durable import durable_records
from cgd_ray.data.reasons import ReasonCounts
from cgd_ray.data.records import CUT, SELECTED_SCHEMA, TURNS
from cgd_ray.data.rundir import RunDir, manifest_parts, read_manifest
from cgd_ray.reporting.page.reading import TEXT_CHARACTERS, cut_text, read_columns, read_rows
from cgd_ray.reporting.page.token_gains import token_gains

MOST_RECORDS = 5000
"""Whose texts are on a page."""
TEXT_BYTES = 48 * 1024**2
"""Of texts on a page at most, about; with longer texts there are fewer records."""
LENGTH_BINS = 80

_SMALL = (
    *("record_id", "problem_id", "sample_index", "error", "verdict", "num_refinements"),
    *(f"{turn}_{kind}" for turn in (*TURNS, "direct") for kind in ("tokens", "finish_reason")),
    *("attempt_correct", "refinement_correct", "critique_is_empty", "leaks", "drop_reason"),
)
_TEXTS = (
    *("question", "reference_answer", "reference_solution"),
    *(f"{turn}{kind}" for turn in (*TURNS, "direct") for kind in ("", "_thinking")),
)
_REPAIRS = ("wrong_to_right", "right_to_right", "wrong_to_wrong", "right_to_wrong")


@dataclass(frozen=True, kw_only=True)
class Scan:
    """All records without their texts, in the order of their files."""

    table: pa.Table
    """The columns _SMALL, and `outcome`: failed, a drop_reason, a kind of repair, or kept."""
    parts: Sequence[Path]
    is_graded: bool
    """Whether the records are selected ones; else grades, leaks and drop_reason are null."""

    @property
    def num_rows(self) -> int:
        """Of all parts."""
        return int(self.table.num_rows)

    def failed(self) -> dict[str, int]:
        """Why rows failed: reason -> how many of its kind."""
        reasons = ReasonCounts()
        for reason in self.table["error"].drop_null().to_pylist():
            reasons.add(reason)
        return reasons.most_common()

    def dropped(self) -> dict[str, int]:
        """drop_reason -> records."""
        return _counts(self.table.filter(pc.is_null(self.table["error"]))["drop_reason"])

    def overview(self) -> dict[str, Any]:
        """Repair matrix, verdicts, verdicts against the grade of the attempt, leaks and lengths; null where there is nothing to count."""
        outcomes, table = Counter(dict.fromkeys(_REPAIRS, 0)), self.table
        outcomes.update(_counts(_repair(table)))
        with_critique = table.filter(pc.is_valid(table["critique_finish_reason"]))
        verdicts = _counts(pc.fill_null(with_critique["verdict"], "missing"))
        grades = pc.if_else(with_critique["attempt_correct"], "right", "wrong")
        return {
            "repair": dict(outcomes) if any(outcomes.values()) else None,
            "verdicts": verdicts,
            "empty_critiques": pc.sum(with_critique["critique_is_empty"]).as_py(),
            "judged": _counts(pc.binary_join_element_wise(pc.fill_null(with_critique["verdict"], "missing"), grades, "_")),
            "leaks": _counts(pc.list_flatten(table["leaks"])),
            "num_audited": table.num_rows - table["leaks"].null_count,
            "lengths": _lengths(table),
        }


def scan(run: RunDir) -> Scan:
    """Read the small columns of what there is, perhaps nothing. Raises ValueError for records of another version."""
    parts, is_graded = _parts(run)
    tables = [_small_columns(part) for part in parts]
    table = pa.concat_tables(tables) if tables else pa.schema([SELECTED_SCHEMA.field(name) for name in _SMALL]).empty_table()
    return Scan(table=table.append_column("outcome", _outcomes(table)), parts=parts, is_graded=is_graded)


def num_sampled(found: Scan, most: int, most_bytes: int = TEXT_BYTES) -> int:
    """How many records' texts to show: as many as there are, at most `most`, fewer where their texts are more than `most_bytes`."""
    sizes = sum(_text_bytes(part) for part in found.parts)
    return min(found.num_rows, most, max(1, most_bytes * found.num_rows // sizes) if sizes else most)


def sampled(found: Scan, count: int) -> list[int]:
    """Numbers of `count` rows, in their order: some of each outcome, and each kind of failure, the rest drawn evenly by hashed ids."""
    if count >= found.num_rows:
        return list(range(found.num_rows))
    kinds = pc.replace_substring_regex(found.table["error"], r"\d[\d,.]*", "N")
    strata = pc.fill_null(kinds, found.table["outcome"]).combine_chunks().dictionary_encode()
    codes = np.asarray(strata.indices)
    order = np.asarray(pc.sort_indices(found.table["record_id"]))  # ids are hashes, so their order is a draw
    by_stratum = order[np.argsort(codes[order], kind="stable")]
    sorted_codes = codes[by_stratum]
    starts = np.searchsorted(sorted_codes, sorted_codes, side="left")
    least = max(1, count // (4 * len(strata.dictionary)))
    chosen = by_stratum[np.arange(len(by_stratum)) - starts < least][:count]
    others = order[~np.isin(order, chosen)][: count - len(chosen)]
    return [int(row) for row in np.sort(np.concatenate([chosen, others]))]


def items(run: RunDir, found: Scan, rows: Sequence[int]) -> list[dict[str, Any]]:
    """The chosen records with their texts; what is null is left out."""
    gains = token_gains(run, found.table["record_id"].take(pa.array(rows, pa.int64())).to_pylist())
    small = found.table.take(pa.array(rows, pa.int64())).to_pylist()
    return [_item(row, texts, gains) for row, texts in zip(small, read_rows(found.parts, rows, _TEXTS), strict=True)]


def _item(small: dict[str, Any], texts: dict[str, str | None], gains: dict[str, list[list[Any]]]) -> dict[str, Any]:
    """`cut` has the whole length of each text that is longer than shown."""
    present = {name: text for name, text in texts.items() if text is not None}
    shown = {name: cut_text(text) for name, text in present.items()}
    cut = {name: len(text) for name, text in present.items() if len(text) > TEXT_CHARACTERS}
    extra = {"cut": cut or None, "token_gains": gains.get(small["record_id"])}
    return {key: value for key, value in {**small, **shown, **extra}.items() if value is not None}


def _parts(run: RunDir) -> tuple[list[Path], bool]:
    if read_manifest(run.selected) is not None:
        return manifest_parts(run.selected), True
    with suppress(ValueError):  # nothing is generated yet
        return durable_records(run.records).parts, False
    return [], False


def _small_columns(part: Path) -> pa.Table:
    table = read_columns(part, _SMALL)
    for field in [SELECTED_SCHEMA.field(name) for name in _SMALL if name not in table.column_names]:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(_SMALL)


def _repair(table: pa.Table) -> pa.ChunkedArray:
    """Null where y' or y^ has no grade."""
    grades = [pc.if_else(table[f"{turn}_correct"], "right", "wrong") for turn in ("attempt", "refinement")]
    return pc.binary_join_element_wise(*grades, "_to_")


def _outcomes(table: pa.Table) -> pa.ChunkedArray:
    outcomes = pc.fill_null(pc.coalesce(table["drop_reason"], _repair(table)), "kept")
    return pc.if_else(pc.is_valid(table["error"]), "failed", outcomes)


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    """Value -> how often, the most often first; nulls are not counted."""
    found = pc.value_counts(values.drop_null()).to_pylist()
    return {item["values"]: item["counts"] for item in sorted(found, key=lambda item: -item["counts"])}


def _lengths(table: pa.Table) -> dict[str, Any] | None:
    """Histograms of generated tokens by turn over the same bins, `edges` one more than `counts`."""
    tokens = {turn: np.asarray(table[f"{turn}_tokens"].drop_null()) for turn in TURNS}
    tokens = {turn: values for turn, values in tokens.items() if len(values)}
    if not tokens:
        return None
    greatest = max(int(values.max()) for values in tokens.values())
    width = _round_width(max(1.0, greatest / LENGTH_BINS))
    edges = np.arange(0, greatest + 2 * width, width)
    return {
        "edges": edges.tolist(),
        "turns": [
            {
                "turn": turn,
                "counts": np.histogram(values, edges)[0].tolist(),
                "median": float(np.median(values)),
                "percentile_95": float(np.percentile(values, 95)),
                "greatest": int(values.max()),
                "cut": sum(_counts(table[f"{turn}_finish_reason"]).get(end, 0) for end in CUT),
            }
            for turn, values in tokens.items()
        ],
    }


def _round_width(least: float) -> int:
    """The next of 1, 2, 5, 10, 20, ..."""
    power = 10 ** int(np.floor(np.log10(least)))
    return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least))


def _text_bytes(part: Path) -> int:
    """Of the texts in a file, uncompressed, as its footer says."""
    footer = pq.read_metadata(part)
    groups = (footer.row_group(number) for number in range(footer.num_row_groups))
    columns = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(int(column.total_uncompressed_size) for column in columns if column.path_in_schema in _TEXTS)
