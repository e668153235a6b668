"""The feeder: each kept record is dealt out to one step, whatever was killed when, and what is on the disk stays the order."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import Config
from cgd_ray.data.durable import IDS, PENDING_SUFFIX
from cgd_ray.data.records import RECORD_SCHEMA, RECORDS_VERSION, WORK_SCHEMA
from cgd_ray.data.rundir import RunDir, read_manifest, write_manifest
from cgd_ray.generation.pipeline import records_fingerprint
from cgd_ray.problems.work_list import write_work_list
from cgd_ray.runs.live import Feeder
from cgd_ray.selection.selection import Selector
from cgd_ray.training.feed.step_writer import SHARE
from cgd_ray.training.job import TrainJob
from tests.builders import tiny_adapter, tiny_model, tiny_records, tiny_tokenizer

ROWS_PER_PART, NUM_PARTS, ROWS_PER_STEP = 10, 8, 4
FAILED, TRUNCATED = 3, -1  # which records of the run are not kept


class KilledError(BaseException):
    """Stands for a kill."""


class Killer:
    """Ends whatever is about to let a file appear, at the rename with a given number; renames outside of `ending` do not count."""

    def __init__(self) -> None:
        self.left: int | None = None
        self._armed = False
        sys.addaudithook(self._watch)

    def ending(self, work: Any, *arguments: Any) -> bool:
        """Do the work; whether it was killed."""
        self._armed = True
        try:
            work(*arguments)
        except KilledError:
            return True
        finally:
            self._armed = False
        return False

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and self._armed and self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise KilledError


KILLER = Killer()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny_tokenizer().save_pretrained(str(path))
    return path


class Played:
    """A run directory whose generation the test plays."""

    def __init__(self, root: Path, model: Path) -> None:
        role = {"model": str(model)}
        training = {"streaming": True, "arm": "refined_only", "context_length": 512, "global_batch_size": ROWS_PER_STEP}
        tree = {"run_dir": str(root), "problems": {"path": "unused"}, "student": role, "teacher": role, "training": training}
        self.config, self.run = Config.model_validate(tree), RunDir(root)
        rows = tiny_records(ROWS_PER_PART * NUM_PARTS, reference_answer=None)
        self.records = [{name: row[name] for name in RECORD_SCHEMA.names} for row in rows]
        self.records[FAILED]["error"] = "critique: refused"
        self.records[TRUNCATED]["refinement_finish_reason"] = "length"
        work = [{name: row[name] for name in WORK_SCHEMA.names} for row in rows]
        write_work_list(pa.Table.from_pylist(work, schema=WORK_SCHEMA), self.run.work_list)

    def write_part(self, number: int, suffix: str = ".parquet") -> None:
        """What the two-phase commit leaves of a part; with PENDING_SUFFIX before its second phase."""
        ids = self.run.generation_state / IDS
        for directory in (self.run.records, ids):
            directory.mkdir(parents=True, exist_ok=True)
        rows = pa.Table.from_pylist(self.records[number * ROWS_PER_PART : (number + 1) * ROWS_PER_PART], schema=RECORD_SCHEMA)
        pq.write_table(rows, self.run.records / f"write_{number:06}-0.parquet")
        pq.write_table(rows.select(["record_id"]), ids / f"write_{number:06}{suffix}")

    def play(self, order: Sequence[int], kill: int | None = None) -> None:
        """Parts arrive in this order, and the generation ends; a killed feeder is followed by one that knows nothing but the disk."""
        KILLER.left = kill
        feeder = Feeder(self.config, self.run)
        with Selector(self.config.selection) as selector:
            for number in order:
                self.write_part(number)
                if KILLER.ending(feeder.look, selector):
                    feeder = Feeder(self.config, self.run)
            details = {"version": RECORDS_VERSION, "rows": len(self.records)}
            write_manifest(self.run.records, "made so", self.run.records.glob("*.parquet"), details)
            while KILLER.ending(feeder.finish, selector):
                feeder = Feeder(self.config, self.run)

    def steps(self) -> list[Path]:
        return sorted(self.run.packed.glob("step-*.parquet"))

    def dealt(self) -> list[str]:
        return [name for step in self.steps() for names in pq.read_table(step)["record_ids"].to_pylist() for name in names]

    def kept(self) -> list[str]:
        dropped = {self.records[place]["record_id"] for place in (FAILED, TRUNCATED)}
        return [record["record_id"] for record in self.records if record["record_id"] not in dropped]

    def shares(self) -> list[float]:
        return [float(pq.read_metadata(step).metadata[SHARE]) for step in self.steps()]

    def manifest(self, directory: Path) -> dict[str, Any]:
        manifest = read_manifest(directory)
        assert manifest is not None
        return manifest

    def assert_complete(self) -> None:
        """Each kept record in one step, steps that only the last leaves short, shares that grow, and manifests that add up."""
        assert sorted(self.dealt()) == sorted(self.kept())
        rows = [pq.read_metadata(step).num_rows for step in self.steps()]
        assert len(rows) > 3
        assert rows[:-1] == [ROWS_PER_STEP] * (len(rows) - 1)
        shares = self.shares()
        assert shares == sorted(set(shares))
        assert (shares[0] > 0, shares[-1]) == (True, 1.0)
        packed, examples, selected = (self.manifest(directory) for directory in (self.run.packed, self.run.examples, self.run.selected))
        assert (packed["steps"], packed["rows"], packed["examples"]) == (len(rows), sum(rows), len(self.kept()))
        assert examples["examples"] == selected["kept"] == len(self.kept())
        assert (selected["written"], selected["failed"], selected["dropped"]) == (len(self.records), 1, {"refinement_truncated": 1})
        assert {manifest["fingerprint"] for manifest in (packed, examples, selected)} == {"made so"}


def test_steps_are_dealt_out_while_records_arrive(model: Path, tmp_path: Path) -> None:
    played = Played(tmp_path, model)
    feeder = Feeder(played.config, played.run)
    with Selector(played.config.selection) as selector:
        for number in range(NUM_PARTS // 2):
            played.write_part(number)
            feeder.look(selector)
        assert played.steps()
        assert set(played.dealt()) < {record["record_id"] for record in played.records[: NUM_PARTS // 2 * ROWS_PER_PART]}
    assert read_manifest(played.run.packed) is None
    begun = {step: step.read_bytes() for step in played.steps()}
    played.play([7, 4, 6, 5])
    assert {step: step.read_bytes() for step in begun} == begun, "what was dealt out stays as it was"
    played.assert_complete()


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_feeder_killed_before_any_of_its_files_appears_deals_nothing_twice_and_loses_nothing(
    every: int, model: Path, tmp_path: Path
) -> None:
    whole = Played(tmp_path / "whole", model)
    whole.play(range(NUM_PARTS))
    whole.assert_complete()
    num_renames = 2 * NUM_PARTS + len(whole.steps()) + 3  # selected parts and reports on them, steps, manifests
    for kill in range(0, num_renames, every):
        played = Played(tmp_path / str(kill), model)
        played.play(range(NUM_PARTS), kill)
        assert KILLER.left is None, "the feeder should have been killed"
        played.assert_complete()
    Played(tmp_path / "more", model).play(range(NUM_PARTS), num_renames)
    assert KILLER.left == 0, "there should be no further file to be killed before"


def test_a_resumed_feeder_makes_no_example_again_that_was_dealt_out(model: Path, tmp_path: Path) -> None:
    played = Played(tmp_path, model)
    first = Feeder(played.config, played.run)
    with Selector(played.config.selection) as selector:
        for number in range(NUM_PARTS):
            played.write_part(number)
            first.look(selector)
        assert first.num_prepared == len(played.kept())
        waiting = len(played.kept()) - len(played.dealt())
        second = Feeder(played.config, played.run)
        second.look(selector)
    assert 0 < waiting == second.num_prepared < len(played.kept()) / 2
    played.play([])
    played.assert_complete()
    third = Feeder(played.config, played.run)
    with Selector(played.config.selection) as selector:
        third.look(selector)
    assert third.num_prepared == 0


def test_a_feeder_goes_on_from_what_an_older_version_has_selected(model: Path, tmp_path: Path) -> None:
    played = Played(tmp_path, model)
    with Selector(played.config.selection) as selector:
        played.write_part(0)
        Feeder(played.config, played.run).look(selector)
        (selected,) = played.run.selected.glob("*.parquet")
        pq.write_table(pq.read_table(selected).drop_columns(["critique_is_empty"]), selected)
    played.play(range(1, NUM_PARTS))
    played.assert_complete()


def test_a_part_that_is_not_committed_is_not_taken(model: Path, tmp_path: Path) -> None:
    played = Played(tmp_path, model)
    feeder = Feeder(played.config, played.run)
    for number in range(NUM_PARTS):
        played.write_part(number, PENDING_SUFFIX)
    with Selector(played.config.selection) as selector:
        feeder.look(selector)
    assert not played.run.selected.exists()
    assert not played.steps()


def test_no_record_to_train_on_is_told_with_the_reasons(model: Path, tmp_path: Path) -> None:
    played = Played(tmp_path, model)
    for record in played.records:
        record["error"] = "attempt: refused"
    with pytest.raises(ValueError, match="nothing to train on for arm refined_only: no record was kept by the selection; loosen selection"):
        played.play(range(NUM_PARTS))
    assert read_manifest(played.run.packed) is None


def test_a_student_with_an_adapter_is_trained_with_it(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    adapter = tiny_adapter(tmp_path / "adapter", model)
    config = Played(tmp_path / "run", model).config
    config = config.model_copy(update={"student": config.student.model_copy(update={"adapter": str(adapter)})})
    job = TrainJob.of(config, RunDir(config.run_dir))
    assert (job.model, job.adapter) == (str(model), str(adapter))
    assert records_fingerprint(config) != records_fingerprint(Played(tmp_path / "run", model).config)
