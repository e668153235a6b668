"""Looks at a run directory again and again, beside the run or afterwards, and says what is wrong with it.

Only what is new is read, and of that no more than the advisories can use: at most MOST_ROWS of the newest records since the last look,
a part of their texts searched for leaks, the new lines of metrics. So a look costs the same however many records there are, but for
listing the parts' names, which is done only when there are new ones. Nothing is written, locked or leased.
How to use: `watch = HealthWatch(RunDir(root))`, then now and then `watch.look()`.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cgd_ray.config import Config
from cgd_ray.data.durable import IDS, Arrivals
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.data.records import TURNS_OF_ROLE, Turn
from cgd_ray.data.rundir import RunDir, read_json
from cgd_ray.process.advisory import Advisory
from cgd_ray.reporting.health.evaluation import Report, advise_on_evaluation
from cgd_ray.reporting.health.figures import Figures, SearchBudget, read_figures
from cgd_ray.reporting.health.records import Windows, advise_on_records
from cgd_ray.reporting.health.training import MOST_STEPS, Step, advise_on_training
from cgd_ray.reporting.stamps import Stamp, stamp
from cgd_ray.training.observe.measurements import read_measurements
from cgd_ray.training.observe.metrics import MetricsTail

EARLY = 256
"""First records that stand for how it was in the beginning."""
NEWEST = 512
"""Newest records that stand for how it is now, at least: enough to tell 3 % from 9 %."""
MOST_ROWS = 128
"""Records that are read at one look, but for the first: of texts of 10 KB 5 MB."""
MOST_CHARACTERS = 100_000
"""Text that is searched for leaks at one look, which takes up to 0.3 s."""


class HealthWatch:
    """What is known of one run's health."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._known = _Known(run)
        self._work_list: Stamp | None = None

    def look(self) -> list[Advisory]:
        """What is wrong now, errors first. Raises ValueError or OSError where a file of the run is not what it should be."""
        work_list = stamp(self._run.work_list)
        if self._work_list not in (None, work_list):  # a run writes it once, so this is another run at the same place
            self._known = _Known(self._run)
        self._work_list = work_list
        return sorted(self._known.look(), key=lambda advisory: advisory.level != "error")


class _Known:
    """What was read of a run so far."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._config: Config | None = None
        self._prompts = Prompts()
        self._records, self._training, self._evaluation = _RecordsWatch(run), _TrainingWatch(run), _EvaluationWatch(run)

    def look(self) -> list[Advisory]:
        """What is wrong now."""
        if self._config is None and (config := self._run.recorded_config()) is not None:
            self._config, self._prompts = config, load_prompts(str(self._run.prompts))
        return [
            *advise_on_records(self._records.look(self._config), self._config, self._prompts),
            *self._training.look(),
            *advise_on_evaluation(self._evaluation.look()),
        ]


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What was read of one part."""

    figures: Figures
    is_early: bool


class _RecordsWatch:
    """The windows of the records."""

    def __init__(self, run: RunDir) -> None:
        self._sources = (run.generation_state / IDS, run.records / "manifest.json")
        self._stamps: list[Stamp | None] = []
        self._arrivals = Arrivals(run)
        self._unread: list[Path] = []
        self._early = Figures()
        self._newest: deque[_Read] = deque()

    def look(self, config: Config | None) -> Windows:
        """The counts now."""
        stamps = [stamp(source) for source in self._sources]
        if stamps != self._stamps:
            self._unread += sorted(self._arrivals.new(), key=lambda part: part.stat().st_mtime_ns)
            self._read(_max_tokens(config))
            self._stamps, self._unread = stamps, []  # only now: a part that cannot be read is tried, and told, at each look
        later = [read.figures for read in self._newest if not read.is_early]
        return Windows(early=self._early, newest=_sum([read.figures for read in self._newest]), later=_sum(later))

    def _read(self, max_tokens: Mapping[Turn, int]) -> None:
        """Read the first of the new parts where the beginning is not known yet, and the last."""
        budget, left = SearchBudget(characters=MOST_CHARACTERS), MOST_ROWS if self._newest else NEWEST
        first, last, remaining = list[_Read](), list[_Read](), deque(self._unread)
        early = _sum([self._early])
        while remaining and early.rows < EARLY:
            figures = read_figures(remaining.popleft(), EARLY - early.rows, max_tokens, budget)
            early.update(figures)
            first.append(_Read(figures=figures, is_early=True))
        while remaining and left > 0:
            figures = read_figures(remaining.pop(), left, max_tokens, budget)
            left -= figures.rows
            last.append(_Read(figures=figures, is_early=False))
        self._early = early
        self._newest += [*first, *reversed(last)]
        surplus = sum(read.figures.rows for read in self._newest) - NEWEST
        while self._newest and surplus >= self._newest[0].figures.rows:
            surplus -= self._newest.popleft().figures.rows


class _TrainingWatch:
    """The newest steps, and what was measured of checkpoints."""

    def __init__(self, run: RunDir) -> None:
        self._tail = MetricsTail(run.metrics)
        self._steps: deque[Step] = deque(maxlen=MOST_STEPS)
        self._validated: list[Step] = []
        self._measurements = run.metrics.with_name("validation.jsonl")  # training/job.py has these names
        self._stopped = run.checkpoints / "stopped.json"

    def look(self) -> list[Advisory]:
        """What is wrong now."""
        new = self._tail.new_steps()
        self._steps += new
        self._validated += [step for step in new if "validation/loss" in step]
        measured = list(read_measurements(self._measurements).values())
        return advise_on_training(list(self._steps), self._validated, measured, read_json(self._stopped))


class _EvaluationWatch:
    """The reports of the evaluated models."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._stamps: dict[Path, Stamp | None] = {}
        self._reports: dict[str, dict[str, Report]] = {}

    def look(self) -> Mapping[str, Mapping[str, Report]]:
        """By the evaluated model and the benchmark."""
        files = {
            (model, benchmark): directory / "report.json"
            for model, found in self._run.evaluated().items()
            for benchmark, directory in found.items()
        }
        stamps = {file: stamp(file) for file in files.values()}
        if stamps != self._stamps:
            self._stamps, self._reports = stamps, {}
            for (model, benchmark), file in files.items():
                if (report := read_json(file)) is not None:
                    self._reports.setdefault(model, {})[benchmark] = report
        return self._reports


def _sum(figures: Sequence[Figures]) -> Figures:
    total = Figures()
    for each in figures:
        total.update(each)
    return total


def _max_tokens(config: Config | None) -> dict[Turn, int]:
    """The most tokens of each turn, where the settings are known."""
    if config is None:
        return {}
    roles = {"student": config.student, "teacher": config.teacher}
    return {turn: roles[name].sampling.max_tokens for name, turns in TURNS_OF_ROLE.items() for turn in turns}
