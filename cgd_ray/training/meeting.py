"""Where the ranks wait for one of them that works alone: choosing and loading a checkpoint, reading the model, publishing, exporting.

A collective of the training's own group ends all ranks after training.collective_timeout_s, 30 minutes by default, which hashing, reading
or writing hundreds of GB takes longer than. So these meet in a group of their own, over gloo, which waits a day; a rank that dies is
noticed at once all the same, by its closed connection and by Ray.
How to use: `meeting = Meeting()` on all ranks at once, then `meeting.wait()`, `meeting.told(value)`, `meeting.all(value)`; collectives all.
"""

from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

PATIENCE = timedelta(days=1)

T = TypeVar("T")


class Meeting:
    """One rank's part."""

    def __init__(self) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE)

    def wait(self) -> None:
        """Return once all ranks are here."""
        dist.barrier(group=self._group)

    def told(self, value: T) -> T:
        """What rank 0 has given; it pickles."""
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._group)
        return values[0]

    def all(self, value: T) -> list[T]:
        """What each rank has given, by rank; it pickles."""
        values = [value] * self.world_size
        dist.all_gather_object(values, value, group=self._group)
        return values
