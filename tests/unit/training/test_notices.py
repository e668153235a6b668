"""What one rank is told, all ranks learn after the same step: what the first rank sees counts, and a preemption is told once."""

from pathlib import Path

import torch

from cgd_ray.training.notices import Notice, Notices
from tests.distributed import run_ranks

CPU = torch.device("cpu")


def ask(seen_by_first: Path, seen_by_others: Path) -> None:
    """Run on each rank; each looks at a file of its own."""
    import torch.distributed as dist

    flag = seen_by_first if dist.get_rank() == 0 else seen_by_others
    answers = iter([False, True, True, False, True])
    always = Notices(flag, lambda: next(answers), CPU, look_interval_s=0.0)
    assert [always.after_step() for _ in range(5)] == [Notice.NONE, Notice.SAVE, Notice.NONE, Notice.NONE, Notice.SAVE]
    assert next(answers, None) is None

    seldom = Notices(flag, lambda: True, CPU, look_interval_s=600.0)
    assert seldom.after_step() == Notice.NONE
    seen_by_others.touch()
    assert seldom.after_step() == Notice.NONE
    dist.barrier()
    seen_by_first.touch()
    dist.barrier()
    assert seldom.after_step() == Notice.STOP


def test_all_ranks_learn_what_the_first_one_sees(tmp_path: Path) -> None:
    run_ranks(2, tmp_path / "meet", ask, tmp_path / "first", tmp_path / "others")
