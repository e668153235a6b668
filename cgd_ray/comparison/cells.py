"""What a comparison consists of: a directory with one set of records, and cells, each a resumable run that differs in what its name says.

A cell takes over what is the same for all of them by links: the selection of the records, and the untrained student's evaluation.
How to use: `cells = cells_of(comparison, base)`, `config = cell_config(cell, comparison, base, place, budget)`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cgd_ray.config import Config, TrainingConfig, VerdictName
from cgd_ray.config.comparison import ARMS, BASE, ComparisonConfig
from cgd_ray.data.rundir import RunDir


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a comparison."""

    arm: str
    """As ComparisonConfig.arms has it."""
    learning_rate: float
    verdict_mix: Mapping[VerdictName, float] | None
    seed: int

    @property
    def setting(self) -> str:
        """All but arm and seed, e.g. `lr1e-4` or `lr3e-4-right25-wrong75`."""
        mix = "".join(f"-{verdict}{100 * share:g}" for verdict, share in sorted((self.verdict_mix or {}).items()))
        return f"lr{_scientific(self.learning_rate)}{mix}"

    @property
    def name(self) -> str:
        """Names the cell in its directory for ever, whatever else is compared there later, e.g. `cgd-seed0-lr1e-4`."""
        return f"{self.arm}-seed{self.seed}-{self.setting}"


class Place:
    """The layout of a comparison's directory."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.shared = RunDir(self.root / "records")
        """The run that makes the records and evaluates the untrained student."""
        self.budget = self.root / "budget.json"
        self.result = self.root / "comparison.json"
        self.report = self.root / "report.html"
        self.lease = self.root / "lease"
        self.logs = self.root / "logs"

    def run(self, cell: Cell) -> RunDir:
        """Where a cell runs."""
        return RunDir(self.root / "cells" / cell.name)

    def config_file(self, name: str) -> Path:
        """What a run is started with."""
        return self.root / "configs" / f"{name}.yaml"


def cells_of(comparison: ComparisonConfig, base: Config) -> list[Cell]:
    """All cells: seed after seed, so that a comparison that is ended early has every arm as often as the others, to within one."""
    rates = comparison.learning_rates or (base.training.learning_rate,)
    mixes = comparison.verdict_mixes or (base.training.verdict_mix,)
    return [
        Cell(arm=arm, learning_rate=rate, verdict_mix=mix, seed=seed)
        for seed, mix, rate, arm in product(comparison.seeds, mixes, rates, comparison.trained_arms)
    ]


def shared_config(comparison: ComparisonConfig, base: Config, place: Place) -> Config:
    """The run that makes what all cells share."""
    direct = base.generation.direct_answers or "distilled_sft" in comparison.arms
    generation = base.generation.model_copy(update={"direct_answers": direct})
    return base.model_copy(update={"run_dir": str(place.shared.root), "generation": generation})


def cell_training(cell: Cell, comparison: ComparisonConfig, base: Config) -> TrainingConfig:
    """A cell's training without the budget that makes it equal to the others."""
    arm, critiques = ARMS[cell.arm]
    return base.training.model_copy(
        update={
            "arm": arm,
            "critiques": critiques,
            "usable_by": tuple(dict.fromkeys(ARMS[name][0] for name in comparison.trained_arms)),
            "learning_rate": cell.learning_rate,
            "verdict_mix": cell.verdict_mix,
            "seed": cell.seed,
        }
    )


def cell_config(cell: Cell, comparison: ComparisonConfig, base: Config, place: Place, budget: Mapping[str, int]) -> Config:
    """The whole run of a cell; `budget` holds what is equal, of the training's own settings."""
    update: dict[str, Any] = {
        "run_dir": str(place.run(cell).root),
        "records": base.records or str(place.shared.records),
        "training": cell_training(cell, comparison, base).model_copy(update=dict(budget)),
    }
    return base.model_copy(update=update)


def link_shared(place: Place, cell: Cell) -> None:
    """Give a cell the selection and the untrained student's evaluation, whose stages are finished then; a link is made at once or not."""
    run = place.run(cell)
    for mine, shared in ((run.selected, place.shared.selected), (run.evaluation(BASE), place.shared.evaluation(BASE))):
        if not (mine.is_symlink() or mine.exists()):
            mine.parent.mkdir(parents=True, exist_ok=True)
            mine.symlink_to(os.path.relpath(shared, mine.parent), target_is_directory=True)  # relative, since directories are moved


def _scientific(rate: float) -> str:
    """As people write it: 1e-4, 2.5e-6."""
    mantissa, _, exponent = f"{rate:.10e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
