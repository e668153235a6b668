"""Generation and training at the same time: records are trained on while others are still being generated on other accelerators.

Generation writes its parts as ever. A thread of the driver, the feeder, takes each part once it is durable, selects, prepares and deals its
examples out to optimizer steps; the training, in a process of its own, takes a step as soon as its file is there. All three meet in files
alone, so each goes on after a kill from what is on the disk. SIGTERM sets both flags: the generation drains while the training saves its
step. What fails takes the others along: the generation is asked to end as by SIGTERM, the training is killed.
How to use, with Ray initialised: `report = run_live(config, run, on_generation, on_step)`.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow.parquet as pq

from cgd_ray.config import Config, SelectionConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.durable import Arrivals
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.records import RECORDS_VERSION, SELECTED_SCHEMA
from cgd_ray.data.rundir import RunDir, read_json, read_manifest, write_json, write_manifest
from cgd_ray.engines.engine import EngineFactory
from cgd_ray.generation.draining import end_run
from cgd_ray.generation.pipeline import STOP_FLAG, generate, records_fingerprint
from cgd_ray.generation.progress import ProgressFn
from cgd_ray.process.stopping import StoppedError
from cgd_ray.selection.selection import COUNTED, Counts, Selector
from cgd_ray.training.background import BackgroundTraining, training_in_background
from cgd_ray.training.driver import OnStep
from cgd_ray.training.examples.choosing.choice import added_up
from cgd_ray.training.examples.preparation import Preparation
from cgd_ray.training.examples.writing import nothing_left
from cgd_ray.training.feed.step_writer import StepWriter
from cgd_ray.training.job import TrainJob

LOOK_INTERVAL_S = 0.5
PATIENCE_S = 5.0  # for a feeder in the middle of something, when the run ends early; what it has not written, the next one does


class Feeder:
    """Brings records from generation's parts to the training's steps, each once, whatever was killed before.

    A part's report on its examples is kept, so that a later feeder makes only those again that were not dealt out yet.
    """

    def __init__(self, config: Config, run: RunDir) -> None:
        student = config.student
        self._config, self._run, self._started = config, run, time.monotonic()
        self._chat = Chat.of(student)
        self._prompts = load_prompts(config.prompts)
        self._arrivals = Arrivals(run)
        self._counts, self._reports, self._parts = Counts(), list[Mapping[str, Any]](), list[Path]()
        self._steps = StepWriter(config.training, run.packed, pq.read_metadata(run.work_list).num_rows)
        self.num_prepared = 0
        """Records that this feeder has made examples of, or has tried to."""

    def look(self, selector: Selector) -> None:
        """Bring along what has arrived since the last look."""
        new = self._arrivals.new()
        known = {part for part in new if self._selected(part).exists()}
        for part in sorted(known):  # first, so that nothing is dealt before all that a former feeder saw is counted as seen
            self._take(part)
        for part in (part for part in new if part not in known):
            selector.write([part], self._selected(part))
            self._take(part)
            self._steps.write(self._counts.written)

    def finish(self, selector: Selector) -> None:
        """Bring along the rest of a finished generation and publish the manifests of selection, examples and packing."""
        self.look(selector)
        records = read_manifest(self._run.records)
        assert records is not None, "generation is finished"
        prepared = added_up(self._reports)
        if not prepared["examples"]:
            raise nothing_left(self._config.training, prepared["dropped"])
        details = {"version": RECORDS_VERSION, **self._counts.as_dict(), "seconds": time.monotonic() - self._started}
        write_manifest(self._run.selected, records["fingerprint"], self._parts, details)
        write_manifest(self._run.examples, records["fingerprint"], [], prepared)  # they went into the packed rows directly
        self._steps.finish(self._counts.written, records["fingerprint"])

    def _report(self, part: Path) -> Path:
        """Where the report on the examples of a part of the generation is kept, once they are all in the pool or dealt out."""
        return self._run.examples / f"{part.stem}.json"

    def _selected(self, part: Path) -> Path:
        """Where the records of a part of the generation are once they are selected."""
        return self._run.selected / part.name

    def _take(self, part: Path) -> None:
        """Count the selected records of a part and have their examples dealt out."""
        selected = self._selected(part)
        records = pq.read_table(selected, columns=["record_id", *COUNTED], schema=SELECTED_SCHEMA)  # an older version's lacks some
        self._parts.append(selected)
        self._counts.add(records)
        report, is_dealt = read_json(self._report(part)), self._steps.is_dealt
        if report is None or sum(map(is_dealt, records["record_id"].to_pylist())) < report["examples"]:
            left_out = None if report is None else is_dealt  # without a report it takes all of them to make one
            preparation = Preparation(self._config.training, self._chat, self._prompts, [selected], is_left_out=left_out)
            self._steps.add(preparation)
            self.num_prepared += preparation.num_seen
            if report is None:
                report = preparation.report()
                write_json(self._report(part), report)
        self._reports.append(report)


class Feeding(threading.Thread):
    """Runs a feeder, and looks after the training, while the generation runs in the main thread, which gets the signals."""

    def __init__(self, feeder: Feeder, selection: SelectionConfig, training: BackgroundTraining, stop_flag: Path) -> None:
        super().__init__(daemon=True, name="feeding")
        self._feeder, self._selection, self._training, self._stop_flag = feeder, selection, training, stop_flag
        self._ended = threading.Event()
        self._is_generated = False
        self._error: Exception | None = None

    def __enter__(self) -> "Feeding":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self.join(PATIENCE_S)

    def run(self) -> None:
        """Feed until the end of the generation, or until something fails, which then ends the generation too."""
        try:
            with Selector(self._selection) as selector:
                while not self._ended.wait(LOOK_INTERVAL_S):
                    self._training.check()
                    self._feeder.look(selector)
                if self._is_generated:
                    self._feeder.finish(selector)
        except Exception as error:  # a thread has nobody to tell; check() does
            self._error = error
            while not self._ended.wait(LOOK_INTERVAL_S):  # more than once: a generation that begins just now removes old flags
                with suppress(FileNotFoundError):
                    end_run(self._stop_flag, error)

    def finish(self) -> None:
        """The generation is finished: feed what is left of it. Raises what went wrong."""
        self._is_generated = True
        self._ended.set()
        self.join()
        self.check()

    def check(self) -> None:
        """Raise what the feeder or the training has failed of, if they have."""
        if self._error is not None:
            raise self._error


def run_live(
    config: Config,
    run: RunDir,
    on_generation: ProgressFn | None = None,
    on_step: OnStep | None = None,
    engine_factory: EngineFactory | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Generate the records of `run.work_list`, train on them meanwhile, publish the student; returns what driver.train does.

    The run directory then holds what the stages one after the other would have left in it, but for the examples' own file. Raises what
    generate() and train() do, StoppedError once both have ended in order, and ValueError when nothing is left to train on.
    """
    with training_in_background(TrainJob.of(config, run, stream=records_fingerprint(config)), on_step) as training:
        if read_manifest(run.packed) is None:  # else a former driver has dealt everything out
            feeder = Feeder(config, run)
            with Feeding(feeder, config.selection, training, run.generation_state / STOP_FLAG) as feeding:
                try:
                    generate(config, run, on_generation, engine_factory, say=say)
                except (ValueError, StoppedError):
                    feeding.check()  # what asked the generation to end has more to tell
                    raise
                feeding.finish()
        return training.result()
