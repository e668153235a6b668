"""TensorBoard event files: `tensorboard --logdir RUN_DIR/training/tensorboard`; the only file that knows tensorboardX."""

from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter


class TensorBoardTracker:
    """Writes one more event file with every start; what is logged again replaces what it was."""

    def __init__(self, directory: Path, run_id: str, steps_done: int) -> None:
        self._writer = SummaryWriter(str(directory), purge_step=steps_done + 1, filename_suffix=f".after-{steps_done}")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One scalar for each metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        self._writer.close()
