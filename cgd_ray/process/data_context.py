"""Ray Data's settings for one piece of this project's work, which shows its own progress.

How to use: `with quiet_data_context() as context: context.execution_options.preserve_order = True; ray.data.range(3).materialize()`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ray.data import DataContext


@contextmanager
def quiet_data_context() -> Iterator[DataContext]:
    """Yield a copy of the caller's settings that shows nothing but warnings; changed before a dataset is made, it holds for that one.

    The caller's own are back afterwards.
    """
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with DataContext.current(context):
            yield context
    finally:
        logger.setLevel(level)
