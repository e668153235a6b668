"""The teacher check counts what it says, tells it once, ends a run whose teacher fails and holds when the run goes on."""

import pickle
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import Config
from cgd_ray.data.records import PROBLEM_SCHEMA, RECORD_SCHEMA
from cgd_ray.data.rundir import RunDir, read_json
from cgd_ray.generation.progress import CountSender, Tally
from cgd_ray.generation.teacher.check import RowSender, TeacherCheck, check_teacher, first_rows
from cgd_ray.generation.teacher.findings import LEAST_JUDGED, READS, REMEDIES, Findings, Row, findings
from cgd_ray.grading.grader import Grader
from cgd_ray.problems.work_list import make_work_list, write_work_list
from tests.builders import tiny_records

WEAK: dict[str, Any] = {"refinement": "It is \\boxed{-1}."}
PROBLEMS = pa.Table.from_pylist([{"problem_id": str(number), "question": "?"} for number in range(1000)], schema=PROBLEM_SCHEMA)
CUT: dict[str, Any] = {"critique_finish_reason": "length", "verdict": None, "refinement": None, "refinement_finish_reason": None}


def rows_of(count: int, first: int = 0, **columns: Any) -> list[dict[str, Any]]:
    """Records of a teacher that is right about everything, but for these columns."""
    rows = [{**row, "record_id": f"record-{number}"} for number, row in enumerate(tiny_records(first + count))]
    return [{**row, **columns} for row in rows[first:]]


def found(rows: Sequence[Row]) -> Findings:
    with Grader(timeout_s=20.0, num_workers=1) as grader:
        return findings(rows, grader, "use")


class Kept:
    """A tally in this process."""

    def __init__(self, most_rows: int) -> None:
        self._tally = Tally({}, most_rows)

    def keep(self, row: Row) -> None:
        self._tally.keep(row)

    def num_kept(self) -> int:
        return self._tally.num_kept()

    def kept(self) -> list[Row]:
        return self._tally.kept()


class Remote:
    """A remote method that keeps what it is called with."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def remote(self, row: Row) -> None:
        self.rows.append(row)


class ListTally:
    """The handle of an actor that takes rows."""

    def __init__(self) -> None:
        self.keep = Remote()


class Checked:
    """A generation of `total` rows whose stages the test plays."""

    def __init__(self, root: Path, total: int = 1000, **settings: Any) -> None:
        role = {"model": "some-body/some-model"}
        tree = {"run_dir": str(root), "problems": {"path": "p"}, "student": role, "teacher": role}
        self.config = Config.model_validate({**tree, "generation": {"teacher_check": {"rows": 20, **settings}}})
        self.run, self.total = RunDir(root), total
        self.run.generation_state.mkdir(parents=True, exist_ok=True)
        self.stop_flag, self.said = root / "stop", list[str]()

    def begun(self, parts: Sequence[Path] = ()) -> TeacherCheck:
        check = TeacherCheck(self.config, self.run, self.total, self.said.append)
        check.begin(parts)
        return check

    def play(self, rows: Sequence[Row], parts: Sequence[Path] = (), is_enough: bool = True) -> TeacherCheck:
        """One actor finishes these rows, after a former run has written parts; the run lasts until they are judged, if they are enough."""
        check = self.begun(parts)
        with check.watching(Kept(check.num_wanted), self.stop_flag) as sample:
            for row in rows:
                sample(row)
            if is_enough:
                wait_for(lambda: read_json(self.run.generation_state / "teacher_check.json") is not None)
        return check

    def write_part(self, rows: Sequence[dict[str, Any]]) -> Path:
        part = self.run.root / "part.parquet"
        pq.write_table(
            pa.Table.from_pylist([{name: row[name] for name in RECORD_SCHEMA.names} for row in rows], schema=RECORD_SCHEMA), part
        )
        return part


def wait_for(is_there: Any) -> None:
    deadline = time.monotonic() + 60
    while not is_there():
        assert time.monotonic() < deadline, "nothing has come"
        time.sleep(0.02)


def test_every_figure_is_counted_over_the_rows_that_can_tell_it() -> None:
    rows = [
        *rows_of(4),
        *rows_of(3, **WEAK),
        *rows_of(2, verdict="right", critique="Conclusion: right"),
        *rows_of(1, verdict=None),
        *rows_of(2, attempt="I do not know."),  # its verdict cannot be judged, for it may be right in words
        *rows_of(2, attempt_finish_reason="length"),
        *rows_of(5, reference_answer=None),
        *rows_of(2, **CUT),
        *rows_of(1, error="critique: refused", critique=None, critique_finish_reason=None),
    ]
    assert found(rows) == Findings(
        rows=22,
        lost={"critique_truncated": 2, "failed": 1},
        critiques=19,
        concluding=18,
        empty=2,
        judged=4 + 3 + 2 + 2,
        judged_rightly=4 + 3 + 2,
        graded=4 + 3 + 2 + 1 + 2 + 2,
        right=4 + 2 + 1 + 2 + 2,
    )


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({}, None),
        (CUT, "can be trained on"),
        ({"error": "critique: refused"}, "can be trained on"),
        ({"verdict": None}, "critiques conclude"),
        ({"verdict": "right"}, "verdicts are right"),
        (WEAK, "refinements are right"),
        ({**WEAK, "verdict": "right", "reference_answer": None}, None),
    ],
)
def test_the_first_share_that_is_too_small_is_named(columns: dict[str, Any], what: str | None) -> None:
    assert found(rows_of(LEAST_JUDGED, **columns)).shortfall(0.05) == what
    assert found(rows_of(LEAST_JUDGED - 1, **columns)).shortfall(0.05) is None, "too few to judge by"
    assert found(rows_of(LEAST_JUDGED, **columns)).shortfall(0.0) is None
    assert what is None or what in REMEDIES


def test_a_sound_teacher_is_told_once_and_the_run_goes_on(tmp_path: Path) -> None:
    checked = Checked(tmp_path)
    check = checked.play(rows_of(40))
    (line,) = checked.said
    assert line == (
        "teacher check, first 20 rows: 20 of 20 rows can be trained on; 20 of 20 critiques conclude, 0 say nothing else; "
        "20 of 20 verdicts are right; 20 of 20 refinements are right"
    )
    assert not checked.stop_flag.exists()
    assert (check.num_wanted, check.finish([]).right) == (0, 20)


def test_a_teacher_that_fails_ends_the_run_with_figures_and_remedy_in_one_line_and_stays_refused(tmp_path: Path) -> None:
    checked = Checked(tmp_path)
    check = checked.play(rows_of(20, **WEAK))
    wait_for(checked.stop_flag.exists)
    reason = checked.stop_flag.read_text()
    assert reason == (
        "the teacher fails the check of the first 20 rows: 20 of 20 rows can be trained on; 20 of 20 critiques conclude, 0 say nothing "
        "else; 20 of 20 verdicts are right; 0 of 20 refinements are right. Too few refinements are right: generation.teacher_check.least "
        "is 5.0%. Take a stronger teacher or easier problems, or a wording that has it box its answer (prompts), in another run_dir with "
        f"generation.reuse=[{tmp_path}/records]; or lower generation.teacher_check.least (0 never stops) and run the same command again"
    )
    write_work_list(make_work_list(PROBLEMS, 1), checked.run.work_list)
    again = partial(check_teacher, checked.config, checked.run)
    for refused in (partial(check.finish, []), checked.begun, again):  # also where all rows came in time, and when it is begun again
        with pytest.raises(ValueError, match="the teacher fails the check") as raised:
            refused()
        assert str(raised.value) == reason
    assert len(checked.said) == 1


def test_a_lower_threshold_goes_on_without_judging_again(tmp_path: Path) -> None:
    Checked(tmp_path).play(rows_of(20, **WEAK))
    lower = Checked(tmp_path, least=0.0)
    check_teacher(lower.config, lower.run)
    check = lower.begun()
    assert (check.num_wanted, check.finish([]).right, lower.said) == (0, 0, [])


def test_more_rows_than_were_looked_at_are_looked_at_anew(tmp_path: Path) -> None:
    Checked(tmp_path).play(rows_of(20, **WEAK))
    assert Checked(tmp_path, rows=30).begun().num_wanted == 30


def test_rows_of_a_former_run_count_first(tmp_path: Path) -> None:
    checked = Checked(tmp_path)
    part = checked.write_part(rows_of(15, **WEAK))
    checked.play(rows_of(4, first=15), [part], is_enough=False)
    assert checked.said == []
    checked.play(rows_of(5, first=15), [part])
    assert "; 5 of 20 refinements are right" in checked.said[0]


def test_rows_that_were_written_before_any_engine_starts_are_judged_at_once(tmp_path: Path) -> None:
    checked = Checked(tmp_path)
    part = checked.write_part(rows_of(25, **WEAK))
    check = checked.begun([part])
    with check.watching(Kept(check.num_wanted), checked.stop_flag):
        wait_for(checked.stop_flag.exists)


def test_a_short_run_is_told_and_not_stopped_and_what_is_written_stands_in_for_lost_rows(tmp_path: Path) -> None:
    checked = Checked(tmp_path, total=12)
    check = checked.begun()
    assert check.num_rows == 12
    with check.watching(Kept(check.num_wanted), checked.stop_flag):
        pass  # the tally's node was lost
    assert check.finish([checked.write_part(rows_of(12, **WEAK))]).right == 0
    assert len(checked.said) == 1
    assert not checked.stop_flag.exists()


def test_a_row_that_comes_twice_is_kept_once_and_an_actor_sends_no_more_than_is_wanted() -> None:
    kept, (row, *others) = Kept(3), rows_of(9)
    sample, again = RowSender(kept, 3), RowSender(kept, 3)
    for sender in (sample, again):
        sender(row)
    assert kept.num_kept() == 1
    for other in others:
        sample(other)
    assert [found["record_id"] for found in kept.kept()] == ["record-0", "record-1", "record-2"]
    assert {name for found in kept.kept() for name in found} == set(READS)
    again(others[-1])
    assert kept.num_kept() == 3


def test_what_sends_rows_crosses_processes() -> None:
    sample = pickle.loads(pickle.dumps(RowSender(CountSender(tally=ListTally()), 1)))  # noqa: S301
    for row in rows_of(2):
        sample(row)
    assert [row["record_id"] for row in sample._keeper.tally.keep.rows] == ["record-0"]


def test_the_first_rows_are_read_over_as_many_parts_as_they_take(tmp_path: Path) -> None:
    parts = [Checked(tmp_path / str(number)).write_part(rows_of(4, first=4 * number)) for number in range(3)]
    assert [row["record_id"] for row in first_rows(parts, 6)] == [f"record-{number}" for number in range(6)]
    assert len(first_rows(parts, 50)) == 12
    assert first_rows([], 50) == []
