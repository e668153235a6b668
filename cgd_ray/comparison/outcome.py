"""A finished comparison: what its models answered and what they cost, put together from its runs, and how that is shown.

How to use: `outcome = Outcome.of(plan)`; `outcome.as_json(least_effect, budget)`, `outcome.lines()`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cgd_ray.comparison.cells import Cell
from cgd_ray.comparison.costs import Costs, cost_of_records, cost_of_training
from cgd_ray.comparison.plan import TRAINED, Plan
from cgd_ray.comparison.results import answers, check_alike
from cgd_ray.comparison.rows import Condition, Row, compared, sentence
from cgd_ray.comparison.table import tables
from cgd_ray.config.comparison import BASE
from cgd_ray.data.rundir import read_json
from cgd_ray.engines.api.spending import spent


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a comparison found."""

    plan: Plan
    rows: Sequence[Row]

    @classmethod
    def of(cls, plan: Plan) -> "Outcome":
        """From the files of its runs. Raises ValueError when their evaluations are not of the same questions."""
        base = answers(plan.place.shared, BASE)
        untrained = Condition(arm=BASE, setting="", seeds=(), answers=[base], costs={})
        by_condition: dict[tuple[str, str], list[Cell]] = {}
        for cell in plan.cells:
            by_condition.setdefault((cell.arm, cell.setting), []).append(cell)
        conditions = [untrained]
        for (arm, setting), cells in by_condition.items():
            found = [answers(plan.place.run(cell), TRAINED) for cell in cells]
            for cell, theirs in zip(cells, found, strict=True):
                check_alike(cell.name, theirs, base)
            seeds = tuple(cell.seed for cell in cells)
            conditions.append(Condition(arm=arm, setting=setting, seeds=seeds, answers=found, costs=_costs(plan, arm, cells)))
        return cls(plan=plan, rows=compared(conditions, plan.comparison.reference))

    def as_json(self, least_effect: Mapping[str, str], budget: Mapping[str, int] | None) -> dict[str, Any]:
        """What comparison.json holds."""
        summary = read_json(self.plan.place.shared.summary) or {}
        reference = self.plan.comparison.reference
        return {
            "reference": reference,
            "sentence": sentence(self.rows, reference),
            "least_effect": dict(least_effect),
            "budget": budget,
            "rows": list(self.rows),
            "repair": summary.get("repair"),
            "versions": summary.get("versions"),
            "config": self.plan.comparison.model_dump(mode="json"),
        }

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        api, reference = self.plan.base.teacher.api, self.plan.comparison.reference
        yield from tables(self.rows, reference, None if api is None else api.currency)
        yield ""
        yield sentence(self.rows, reference)


def _costs(plan: Plan, arm: str, cells: Sequence[Cell]) -> Costs:
    """Of the records that an arm needs, as far as it is known, and of its mean training."""
    api, made = plan.base.teacher.api, read_json(plan.records / "manifest.json")
    # what another run's records cost is in its own journal
    paid = None if api is None or plan.base.records is not None else spent(plan.place.shared.spending).cost(api)
    records: Costs = {} if made is None else cost_of_records(arm, made, paid, plan.shared)
    summaries = [read_json(plan.place.run(cell).summary) for cell in cells]
    trainings = [cost_of_training(summary, plan.base) for summary in summaries if summary is not None]
    means = {name: fmean(training[name] or 0.0 for training in trainings) for name in trainings[0]} if trainings else {}
    both = {name: (records.get(name) or 0.0) + means.get(name, 0.0) for name in ("gpu_seconds", "cpu_seconds")}
    return {**records, **means, **both}
