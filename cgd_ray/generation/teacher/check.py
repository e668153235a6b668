"""The teacher check: what becomes of the first rows is graded and told while the engines go on, and ends a run that would be for nothing.

The teacher's actors send copies of their first finished rows to the tally (progress.py), which keeps as many as are wanted, each once. A
thread of the driver waits for them, grades them, says what it has found, and ends itself; a teacher that fails sets the flag by which
engines end a run. Rows that a former run has written count first, so a resumed run is judged by them, and what was found is kept: it holds
until the threshold or the number of rows is another. In live mode it ends the training too, as anything that ends the generation.
How to use: `check = TeacherCheck(config, run, total, say)`, `check.begin(parts)`, `with check.watching(report, stop_flag) as sample: ...`,
`check.finish(parts)`.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import pyarrow.parquet as pq
import ray

from cgd_ray.config import Config
from cgd_ray.data.rundir import RunDir, read_json, write_json
from cgd_ray.generation.draining import end_run
from cgd_ray.generation.teacher.findings import READS, REMEDIES, Findings, Row, findings
from cgd_ray.grading.grader import Grader

LOOK_INTERVAL_S = 0.5
NUM_GRADERS = 2


class Keeper(Protocol):
    """Keeps the rows that it is sent, each once, as progress.CountSender does."""

    def keep(self, row: Row) -> None:
        """Take a finished row, without keeping anybody waiting."""
        ...

    def num_kept(self) -> int:
        """How many rows there are."""
        ...

    def kept(self) -> list[Row]:
        """The rows."""
        ...


class RowSender:
    """Sends the first rows that an actor finishes to their keeper; it crosses processes before it has sent any."""

    def __init__(self, keeper: Keeper, num_rows: int) -> None:
        self._keeper, self._num_left = keeper, num_rows

    def __call__(self, row: Row) -> None:
        """Send a finished row, if it is among the first."""
        if self._num_left > 0:
            self._num_left -= 1
            self._keeper.keep({name: row.get(name) for name in READS})


class TeacherCheck:
    """The check of one generation."""

    def __init__(self, config: Config, run: RunDir, total: int, say: Callable[[str], None] | None) -> None:
        """`total` are the rows of the whole run; `say` gets a line for the user, from another thread."""
        assert config.generation.teacher_check is not None, "the caller skips a run without"
        self._settings, self._selection = config.generation.teacher_check, config.selection
        self._records, self._state, self._say = run.records, run.generation_state / "teacher_check.json", say
        self._is_sparing = total >= self._settings.rows
        self._before: list[Row] = []
        self._found: Findings | None = None
        self.num_rows = min(total, self._settings.rows)
        """That are looked at."""

    @property
    def num_wanted(self) -> int:
        """Rows that are still to be sent; 0 once it is known what they tell."""
        return self.num_rows if self._found is None else 0

    def take_up(self) -> None:
        """Take up what a former run has found. Raises ValueError where its teacher failed by the settings of now."""
        known = read_json(self._state)
        if known is not None and known["rows"] == self.num_rows:
            self._found = Findings(**known)
            self._require()

    def begin(self, parts: Sequence[Path]) -> None:
        """Take up what a former run has found, or else the first rows that it has written. Raises ValueError as take_up()."""
        self.take_up()
        if self._found is None:
            self._before = first_rows(parts, self.num_rows)

    @contextmanager
    def watching(self, keeper: Keeper, stop_flag: Path) -> Iterator[RowSender]:
        """Yield what the teacher's actors send rows by; meanwhile, judge them as soon as they are there, and end the run where it fails."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(keeper, stop_flag, over), name="teacher-check", daemon=True)
        if self._found is None:
            thread.start()
        try:
            yield RowSender(keeper, self.num_wanted)
        finally:
            over.set()
            if thread.ident is not None:
                thread.join()

    def finish(self, parts: Sequence[Path]) -> Findings:
        """What was found; judged now by the first written rows where the tally and its rows were lost. Raises ValueError as take_up()."""
        if self._found is None:
            self._judge(first_rows(parts, self.num_rows))
        self._require()
        assert self._found is not None, "it has just been made"
        return self._found

    def _watch(self, keeper: Keeper, stop_flag: Path, over: threading.Event) -> None:
        rows: Sequence[Row] = self._before
        while len(rows) < self.num_rows:
            if over.wait(LOOK_INTERVAL_S):
                return
            with suppress(ray.exceptions.RayError):  # the tally's node may be gone; finish() looks at what is written then
                if len(self._before) + keeper.num_kept() >= self.num_rows:
                    rows = [*self._before, *keeper.kept()][: self.num_rows]
        self._judge(rows)
        try:
            self._require()
        except ValueError as error:
            end_run(stop_flag, error)

    def _judge(self, rows: Sequence[Row]) -> None:
        with Grader(self._selection.grading_timeout_s, NUM_GRADERS) as grader:
            found = findings(rows, grader, self._selection.cut_attempts)
        write_json(self._state, found.as_dict())
        if self._say is not None:
            self._say(f"teacher check, first {found.rows:,} rows: {found.text()}")
        self._found = found

    def _require(self) -> None:
        """Raise ValueError where the teacher failed and there is something to be spared."""
        assert self._found is not None, "it is called when there is something to judge by"
        what = self._found.shortfall(self._settings.least)
        if what is None or not self._is_sparing:
            return
        raise ValueError(
            f"the teacher fails the check of the first {self._found.rows:,} rows: {self._found.text()}. Too few {what}: "
            f"generation.teacher_check.least is {self._settings.least:.1%}. {REMEDIES[what]}, in another run_dir with "
            f"generation.reuse=[{self._records}]; or lower generation.teacher_check.least (0 never stops) and run the same command again"
        )


def check_teacher(config: Config, run: RunDir) -> None:
    """Raise ValueError where the teacher of an unfinished generation is known to fail, before anything is started for it again."""
    if config.generation.teacher_check is not None and run.work_list.exists():
        TeacherCheck(config, run, pq.read_metadata(run.work_list).num_rows, None).take_up()


def first_rows(parts: Sequence[Path], count: int) -> list[Row]:
    """So many rows (READS) of the first of these parts."""
    batches = (batch for part in parts for batch in pq.ParquetFile(part).iter_batches(count, columns=list(READS), use_threads=False))
    return list(islice(chain.from_iterable(batch.to_pylist() for batch in batches), count))
