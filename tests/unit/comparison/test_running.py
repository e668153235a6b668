"""Runs are processes: all are carried out, and of each that fails the reason is known."""

import os
from pathlib import Path

from cgd_ray.comparison.running import Task, _Processes, _Work


def test_all_tasks_are_tried_and_those_that_fail_are_told_with_their_last_words(tmp_path: Path) -> None:
    said: list[str] = []
    tasks = [Task(name=name, command="run", config=tmp_path / f"{name}.yaml", log=tmp_path / f"{name}.log") for name in ("a", "b")]
    problems = _Processes(2, said.append, os.environ).run(tasks)
    assert problems == {name: f"config {tmp_path / name}.yaml does not exist; jobs/configs/ holds examples" for name in ("a", "b")}
    assert [line.split(" (")[0] for line in said[:2]] == ["a: run begins", "b: run begins"]
    assert sorted(line.split(" has failed")[0] for line in said[2:]) == ["a: run", "b: run"]


def test_what_an_earlier_try_died_of_is_not_taken_for_the_last_words(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("cgd: the disk is full\n")
    work = _Work(task=Task(name="a", command="run", config=tmp_path, log=log), began=0.0, logged_before=log.stat().st_size)
    assert work.last_words(-9) == f"exit code -9, see {log}"
    log.write_text("cgd: the disk is full\ngenerate 3/10 records\ncgd: the store is away\nmore\n")
    assert work.last_words(1) == "the store is away"
