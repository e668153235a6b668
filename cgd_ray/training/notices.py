"""What reaches a training from outside between two steps, told to all ranks after the same step: save and end, or save and go on.

To end it is asked by a file, which the driver writes when it gets SIGTERM. To save it is asked by Ray, when a node under one of the ranks
is about to be taken away (a spot instance, say): when that happens, Ray starts the group again on the nodes that are left.
How to use: `notices = Notices(job.stop_flag, is_preempted, device)`; `notices.after_step()` on all ranks.
"""

import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import torch
import torch.distributed as dist

LOOK_INTERVAL_S = 5.0
"""Between questions to Ray, which polls at the same interval itself; one costs a round trip of all ranks to an actor."""


class Notice(IntEnum):
    """What the ranks are asked for."""

    NONE = 0
    SAVE = 1
    STOP = 2
    """Save and end."""


class Notices:
    """One rank's part in asking."""

    def __init__(
        self, stop_flag: Path, is_preempted: Callable[[], bool], device: torch.device, look_interval_s: float = LOOK_INTERVAL_S
    ) -> None:
        """`is_preempted` is a collective, and says the same on all ranks."""
        self._stop_flag, self._is_preempted, self._device, self._look_interval_s = stop_flag, is_preempted, device, look_interval_s
        self._looked = time.monotonic()
        self._is_known = False

    def after_step(self) -> Notice:
        """The same on all ranks; a collective. A preemption is told once."""
        is_due = time.monotonic() - self._looked >= self._look_interval_s
        asked = torch.tensor([self._stop_flag.exists(), is_due], dtype=torch.uint8, device=self._device)
        dist.broadcast(asked, src=0)  # what the first rank has seen
        must_stop, must_look = asked.tolist()
        if must_stop:
            return Notice.STOP
        if not must_look:
            return Notice.NONE
        self._looked, was_known = time.monotonic(), self._is_known
        self._is_known = self._is_preempted()
        return Notice.SAVE if self._is_known and not was_known else Notice.NONE
