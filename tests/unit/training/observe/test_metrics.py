"""metrics.jsonl: each step once for every reader, through half-written lines, kills and resumed trainings."""

from pathlib import Path

from cgd_ray.training.observe.metrics import MetricsLog, MetricsTail, read_metrics


def write_steps(path: Path, steps_done: int, up_to: int, loss: float) -> None:
    log = MetricsLog(path, steps_done)
    for step in range(steps_done + 1, up_to + 1):
        log.write({"train/step": step, "train/loss": loss})
    log.close()


def steps_and_losses(lines: list[dict[str, float]]) -> list[tuple[float, float]]:
    return [(line["train/step"], line["train/loss"]) for line in lines]


def test_a_file_that_is_not_there_has_no_steps(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == MetricsTail(tmp_path / "metrics.jsonl").new_steps() == []


def test_a_line_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.write({"train/step": 1, "train/loss": 2.5})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"train/step": 1, "train/loss": 2.5}]
    log.close()


def test_resuming_drops_the_steps_that_will_be_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 0, 5, loss=1.0)
    write_steps(path, 3, 6, loss=2.0)
    assert steps_and_losses(read_metrics(path)) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]


def test_a_line_torn_by_a_kill_is_neither_read_nor_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 0, 2, loss=1.0)
    with path.open("a") as stream:
        stream.write('{"train/step": 3, "train/lo')
    assert steps_and_losses(read_metrics(path)) == [(1, 1.0), (2, 1.0)]
    write_steps(path, 2, 3, loss=2.0)
    assert steps_and_losses(read_metrics(path)) == [(1, 1.0), (2, 1.0), (3, 2.0)]


def test_a_tail_tells_each_step_once_while_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail, log, told = MetricsTail(path), MetricsLog(path, 0), []
    for step in (1, 2, 3):
        log.write({"train/step": step, "train/loss": 1.0})
        told += tail.new_steps()
    assert [line["train/step"] for line in told] == [1, 2, 3]
    assert tail.new_steps() == []
    log.close()


def test_a_tail_waits_for_the_rest_of_a_half_written_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    path.write_text('{"train/step": 1}\n{"train/st')
    assert tail.new_steps() == [{"train/step": 1}]
    with path.open("a") as stream:
        stream.write('ep": 2}\n')
    assert tail.new_steps() == [{"train/step": 2}]


def test_a_tail_follows_a_resumed_training_without_telling_a_step_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    write_steps(path, 0, 5, loss=1.0)
    told = tail.new_steps()
    write_steps(path, 3, 7, loss=2.0)
    told += tail.new_steps()
    assert steps_and_losses(told) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 1.0), (6, 2.0), (7, 2.0)]
