"""What one rank is told, all ranks learn after the same step: what the first rank sees counts, and a preemption is told once."""

from pathlib import Path

import torch

from cgd_ray.training.notices import Notices
from tests.distributed import run_ranks

CPU = torch.device("cpu")


def ask(seen_by_first: Path, seen_by_others: Path, told: Path) -> None:
    """Run on each rank, which looks at a file of its own and writes down what it was told."""
    import torch.distributed as dist

    flag = seen_by_first if dist.get_rank() == 0 else seen_by_others
    answers = iter([False, True, True, False, True])
    always = Notices(flag, lambda: next(answers), CPU, look_interval_s=0.0)
    notices = [always.after_step() for _ in range(5)]
    assert next(answers, None) is None, "it is asked once a step"

    seldom = Notices(flag, lambda: True, CPU, look_interval_s=600.0)
    notices.append(seldom.after_step())
    seen_by_others.touch()
    notices.append(seldom.after_step())
    dist.barrier()
    seen_by_first.touch()
    dist.barrier()
    notices.append(seldom.after_step())
    (told / str(dist.get_rank())).write_text(" ".join(notice.name for notice in notices))


def test_all_ranks_learn_what_the_first_one_sees(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.mkdir()
    run_ranks(2, tmp_path / "meet", ask, tmp_path / "first", tmp_path / "others", told)
    asked_at_each_step, after_others_after_first = "NONE SAVE NONE NONE SAVE", "NONE NONE STOP"
    assert [(told / str(rank)).read_text() for rank in range(2)] == [f"{asked_at_each_step} {after_others_after_first}"] * 2
