"""What the benchmarks share: a process group of one rank for those that train in their own process, and where their figures go."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def one_rank(backend: str = "gloo") -> Iterator[Path]:
    """Initialise torch.distributed for this process alone; yields a directory that is removed afterwards."""
    import torch.distributed as dist

    with tempfile.TemporaryDirectory() as root:
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")  # DeepSpeed asks for them
        dist.init_process_group(backend, init_method=f"file://{root}/meet", rank=0, world_size=1)
        try:
            yield Path(root)
        finally:
            dist.destroy_process_group()


def write_figures(figures: Mapping[str, Any], path: Path | None) -> None:
    """Print the figures as JSON, and write them to --json when it is given."""
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
