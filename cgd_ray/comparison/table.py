"""The tables of a comparison on a terminal: what each arm came to, and what it cost.

How to use: `for line in tables(rows, reference, currency): say(line)`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from cgd_ray.comparison.rows import Row

Columns = Mapping[str, Callable[[Row], str]]


def tables(rows: Sequence[Row], reference: str, currency: str | None) -> Iterator[str]:
    """The lines, benchmark by benchmark; costs are the same for all benchmarks."""
    benchmarks = list(dict.fromkeys(row["benchmark"] for row in rows))
    for benchmark in benchmarks:
        mine = [row for row in rows if row["benchmark"] == benchmark]
        yield f"{benchmark}, {mine[0]['num_problems']:,} problems, in % and points; each interval holds alone, the p together"
        yield from _table(mine, _found(reference))
        yield ""
    yield "what it cost: records and the mean training; seconds of all engines and workers together"
    yield from _table([row for row in rows if row["benchmark"] == benchmarks[0]], _costs(currency))


def _found(reference: str) -> Columns:
    return {
        "arm": _name,
        "seeds": lambda row: str(len(row["seeds"]) or "-"),
        "accuracy [95 %]": lambda row: _with_bounds(row["accuracy"], row["interval"], ""),
        f"minus {reference} [95 %]": lambda row: _with_bounds(row["difference"], row["difference_interval"], "+"),
        "p, Holm": lambda row: "-" if row["p_holm"] is None else "<0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}",
        "unboxed": lambda row: f"{100 * row['unboxed']:.1f}",
        "cut": lambda row: f"{100 * row['truncated']:.1f}",
    }


def _costs(currency: str | None) -> Columns:
    amounts = {
        "trained tokens": "target_tokens",
        "student's tokens": "student_tokens",
        "teacher's": "teacher_tokens",
        "engine s": "engine_seconds",
        "worker s": "worker_seconds",
        "GPU s": "gpu_seconds",
        "CPU s": "cpu_seconds",
    }
    columns: dict[str, Callable[[Row], str]] = {"arm": _name, **{heading: partial(_amount, name) for heading, name in amounts.items()}}
    if currency is not None:
        columns[currency] = lambda row: "-" if row.get("cost") is None else f"{row['cost']:,.4f}"
    return columns


def _table(rows: Sequence[Row], columns: Columns) -> Iterator[str]:
    lines = [list(columns), *([show(row) for show in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        yield "  ".join([first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(others, widths[1:], strict=True))])


def _with_bounds(value: float | None, bounds: Sequence[float] | None, sign: str) -> str:
    if value is None or bounds is None:
        return "-"
    return f"{100 * value:{sign}.1f} [{100 * bounds[0]:{sign}.1f}, {100 * bounds[1]:{sign}.1f}]"


def _name(row: Row) -> str:
    return str(row["name"])


def _amount(name: str, row: Row) -> str:
    return "-" if row.get(name) is None else f"{row[name]:,.0f}"
