"""Numbered pieces of work, done by Ray Data on all CPUs of the cluster, or in this process where there are few: one function, two places.

The function is made once in each process, from arguments that cross processes. What a piece consists of it finds by the piece's number,
mostly in files, and what it makes goes into files too, so the driver sees numbers and small results only. Results come in the order of the
pieces, whoever was first, so that nothing depends on how many CPUs there are.
How to use, with Ray initialised: `for result in spread(Tokenising, (paths, chat), num_pieces): ...`; `in_turn(...)` does them here.
"""

import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Protocol, TypeVar

import pyarrow as pa

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


def is_worth_spreading(num_rows: int, few: int) -> bool:
    """Whether rows are so many that the seconds which other processes take to begin are well spent, and Ray is there to begin them."""
    import ray

    return num_rows > few and ray.is_initialized()


def in_turn(make: Make[Result], arguments: tuple[Any, ...], num_pieces: int) -> Iterator[Result]:
    """The results of all pieces, each made in this process when it is asked for."""
    with closing(make(*arguments)) as work:
        yield from map(work, range(num_pieces))


def spread(make: Make[Result], arguments: tuple[Any, ...], num_pieces: int) -> Iterator[Result]:
    """The results of all pieces, made by one process per CPU of the cluster; one that is lost is replaced and its piece done again."""
    import ray
    from ray.data import ActorPoolStrategy

    from cgd_ray.process.data_context import quiet_data_context

    num_processes = max(1, min(int(ray.cluster_resources().get("CPU", 1)), num_pieces))
    with quiet_data_context() as context:
        context.execution_options.preserve_order = True
        numbers = ray.data.from_arrow([pa.table({"number": [number]}) for number in range(num_pieces)])
        results = numbers.map_batches(
            _Process,
            fn_constructor_args=(make, arguments),
            batch_size=None,  # a block, which is a piece
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1, initial_size=num_processes, max_size=num_processes),
            num_cpus=1,
        )
        for batch in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for result in batch["result"]:
                yield pickle.loads(result.as_py())  # noqa: S301 (from our own processes)


class _Process:
    """What an actor of the pool does."""

    def __init__(self, make: Make[Any], arguments: tuple[Any, ...]) -> None:
        self._work = make(*arguments)

    def __call__(self, pieces: pa.Table) -> pa.Table:
        results = [pickle.dumps(self._work(number)) for number in pieces["number"].to_pylist()]
        return pa.table({"result": pa.array(results, pa.large_binary())})
