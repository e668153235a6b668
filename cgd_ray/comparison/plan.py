"""What a comparison has to run, and how far that is: decided by the files in its directory, so that nothing finished is repeated.

How to use: `plan = Plan(comparison)`; `plan.check_shared()`, `plan.is_shared_finished()`, `plan.unfinished(budget)`, `plan.task(...)`.
"""

from collections.abc import Mapping
from pathlib import Path

from cgd_ray.cluster.precision import as_begun
from cgd_ray.comparison.cells import Cell, Place, cell_config, cell_training, cells_of, shared_config
from cgd_ray.comparison.results import difference, reports
from cgd_ray.comparison.running import Task
from cgd_ray.config import PROBLEMS, Config, to_yaml
from cgd_ray.config.comparison import BASE, ComparisonConfig, base_config
from cgd_ray.data.rundir import RunDir, atomic_write, read_manifest
from cgd_ray.runs.contents import contents_of, with_models

TRAINED = "trained"


class Plan:
    """The runs of a comparison. Raises ValueError, one line, for what cannot be compared."""

    def __init__(self, comparison: ComparisonConfig) -> None:
        self.comparison, self.base = comparison, base_config(comparison)
        self.place = Place(self.base.run_dir)
        self.shared = shared_config(comparison, self.base, self.place)
        self.cells = cells_of(comparison, self.base)
        self.trainings = [cell_training(cell, comparison, self.base) for cell in self.cells]
        """Of the cells, without the budget."""

    @property
    def records(self) -> Path:
        """Those that all cells train on: made here, or another run's."""
        return self.place.shared.records if self.base.records is None else Path(self.base.records)

    def check_shared(self) -> None:
        """Raises ValueError when the directory belongs to a comparison on other records, models or decoding."""
        _check(self.place.shared, self.shared, contents_of(with_models(self.shared, ("student", "teacher"))))

    def is_shared_finished(self) -> bool:
        """Whether records are selected and the untrained student is evaluated on all that is asked, by the graders that are asked for."""
        evaluation, done = self.base.evaluation, reports(self.place.shared, BASE)
        assert evaluation is not None, "base_config has refused it"
        asked: dict[str, str | None] = {} if evaluation.problems is None else {PROBLEMS: evaluation.grader}
        asked |= {benchmark.name: benchmark.grader for benchmark in evaluation.benchmarks}
        is_selected = read_manifest(self.place.shared.selected) is not None
        return is_selected and all(name in done and grader in (None, done[name]["grader"]) for name, grader in asked.items())

    def unfinished(self, budget: Mapping[str, int]) -> list[Cell]:
        """Cells that have something to do. Raises ValueError when the directory of one belongs to another run than its name says."""
        base = reports(self.place.shared, BASE)
        contents = contents_of(with_models(self.config(self.cells[0], budget), ("student",)))  # the same for all
        pending = []
        for cell in self.cells:
            run = self.place.run(cell)
            _check(run, self.config(cell, budget), contents)
            done = reports(run, TRAINED)
            if any(name not in done or difference(done[name], theirs) is not None for name, theirs in base.items()):
                pending.append(cell)
        return pending

    def config(self, cell: Cell, budget: Mapping[str, int]) -> Config:
        """What a cell runs with."""
        return cell_config(cell, self.comparison, self.base, self.place, budget)

    def task(self, name: str, command: str, config: Config) -> Task:
        """A command on a run of this comparison, whose config is written for it."""
        file = self.place.config_file(name)
        with atomic_write(file) as temporary:
            temporary.write_text(to_yaml(config), encoding="utf-8")
        return Task(name=name, command=command, config=file, log=self.place.logs / f"{name}.log")


def _check(run: RunDir, config: Config, contents: Mapping[str, str]) -> None:
    recorded = run.recorded_config()
    run.check(config if recorded is None else as_begun(config, recorded), contents)
