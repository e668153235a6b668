"""Numbered pieces of work, done by Ray actors on all CPUs of the cluster, or in this process where there are few: one function, two places.

The function is made once in each process, from arguments that cross processes. What a piece consists of it finds by the piece's number,
mostly in files, and what it makes goes into files too, so the driver sees numbers and small results only. Results come in the order of the
pieces, whoever was first, so that nothing depends on how many CPUs there are.

Why not Ray Data: a piece would be a block, and the driver keeps 60 KB for each block, which for a million records is as much as all that it
has to know of them.
How to use, with Ray initialised: `for result in spread(Tokenising, (paths, chat), num_pieces): ...`; `in_turn(...)` does them here.
"""

import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")
Made = TypeVar("Made", covariant=True)


class Work(Protocol[Made]):
    """What is done with each piece."""

    def __call__(self, number: int) -> Made:
        """Do the piece with this number."""
        ...

    def close(self) -> None:
        """Give back what the work holds."""
        ...


Make = Callable[..., Work[Result]]

PIECES_AHEAD = 2
"""That a process has been given and has not answered, so that it works on while its results are looked at."""
MOST_RETRIES = 5
"""Of a piece that is lost with its process, as when that is killed for its memory."""


def is_worth_spreading(num_rows: int, few: int) -> bool:
    """Whether rows are so many that the seconds which other processes take to begin are well spent, and Ray is there to begin them."""
    import ray

    return num_rows > few and ray.is_initialized()


def in_turn(make: Make[Result], arguments: tuple[Any, ...], num_pieces: int) -> Iterator[Result]:
    """The results of all pieces, each made in this process when it is asked for."""
    with closing(make(*arguments)) as work:
        yield from map(work, range(num_pieces))


def spread(make: Make[Result], arguments: tuple[Any, ...], num_pieces: int) -> Iterator[Result]:
    """The results of all pieces, made by one process per CPU of the cluster; one that is lost is replaced and its pieces done again.

    Raises RayError when a piece fails, or has been lost with its process again and again.
    """
    import ray

    start = ray.remote(_Process).options(num_cpus=1, max_restarts=-1, max_task_retries=MOST_RETRIES)
    num_processes = max(1, min(int(ray.cluster_resources().get("CPU", 1)), num_pieces))
    begun = [start.remote(make, arguments) for _ in range(num_processes)]
    # who answers this has begun; where other jobs hold CPUs some may never do so, and get no piece
    pending = {process.begun.remote(): process for process in begun for _ in range(PIECES_AHEAD)}
    del begun  # a process ends when nobody holds it any more
    numbers, number_of, finished, next_number = iter(range(num_pieces)), dict[Any, int](), dict[int, bytes](), 0
    try:
        while next_number < num_pieces:
            (answer,), _ = ray.wait(list(pending))
            process, result = pending.pop(answer), ray.get(answer)
            if answer in number_of:
                finished[number_of.pop(answer)] = result
            if (number := next(numbers, None)) is not None:
                asked = process.done.remote(number)
                pending[asked], number_of[asked] = process, number
            elif process not in pending.values():
                process.close.remote()  # its CPU may be what one needs that was lost with its node and begins anew here
            del process  # or it would be held while the next answer is waited for
            while next_number in finished:
                yield pickle.loads(finished.pop(next_number))  # noqa: S301 (from our own processes)
                next_number += 1
    finally:
        for process in set(pending.values()):
            process.close.remote()  # after what it is doing


class _Process:
    """An actor that does one piece after the other."""

    def __init__(self, make: Make[Any], arguments: tuple[Any, ...]) -> None:
        self._work = make(*arguments)

    def begun(self) -> None:
        """Answers once it is there."""

    def done(self, number: int) -> bytes:
        return pickle.dumps(self._work(number))  # as Ray passes arrays on they could not be written to

    def close(self) -> None:
        self._work.close()
