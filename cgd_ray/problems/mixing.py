"""The training problems: one source, or several in given proportions, spread evenly so that each part of the whole is like the whole.

Why spread: a live training sees the records in about the order of the problems, and one kind after the other is another training.
How to use: `table = load_training_problems(config.problems, notes)`.
"""

import pyarrow as pa
import pyarrow.compute as pc

from cgd_ray.config import MixedSourceConfig, ProblemsConfig
from cgd_ray.problems.sources import load_problems


def load_training_problems(config: ProblemsConfig, notes: list[str]) -> pa.Table:
    """The problems of all sources as PROBLEM_SCHEMA, ids unique; see load_problems.

    Raises ValueError, one line, also when a source has fewer problems than its weight asks for, or an id of an earlier one.
    """
    parts = [load_problems(config, "problems", notes)]
    for index, source in enumerate(config.mix):
        setting = f"problems.mix.{index}"
        mixed = _without_known(load_problems(source, setting, notes), source, setting, parts, notes)
        parts.append(_weighed(mixed, source, setting, parts[0].num_rows))
    places = [(row + 0.5) / part.num_rows for part in parts for row in range(part.num_rows)]
    return pa.concat_tables(parts).take(sorted(range(len(places)), key=places.__getitem__))


def _without_known(mixed: pa.Table, source: MixedSourceConfig, setting: str, parts: list[pa.Table], notes: list[str]) -> pa.Table:
    """The problems whose ids no earlier source has: the same question is taken once, the same id for another one is a mistake."""
    known = dict(pair for part in parts for pair in zip(part["problem_id"].to_pylist(), part["question"].to_pylist(), strict=True))
    for problem_id, question in zip(mixed["problem_id"].to_pylist(), mixed["question"].to_pylist(), strict=True):
        if known.get(problem_id, question) != question:
            raise ValueError(
                f"{setting}.path {source.path} has the id {problem_id!r} for another question than an earlier source; set "
                "fields.problem_id to null in one of them"
            )
    kept = mixed.filter(pc.invert(pc.is_in(mixed["problem_id"], pa.array(known, pa.string()))))
    if repeated := mixed.num_rows - kept.num_rows:
        notes.append(f"{setting}: {repeated:,} of {mixed.num_rows:,} problems are in an earlier source too and are taken from there")
    return kept


def _weighed(mixed: pa.Table, source: MixedSourceConfig, setting: str, num_first: int) -> pa.Table:
    """As many problems as the weight asks for."""
    if source.weight is None:
        return mixed
    wanted = round(source.weight * num_first)
    if wanted > mixed.num_rows:
        limit = int(mixed.num_rows / source.weight)
        raise ValueError(
            f"{setting}.weight {source.weight:g} of the {num_first:,} problems of problems.path asks for {wanted:,}, and {source.path} has "
            f"{mixed.num_rows:,}; lower it to {mixed.num_rows / num_first:.3g}, or problems.limit to {limit:,}"
        )
    return mixed.slice(0, wanted)
