"""The working copy of a run directory that is on an object store: brought when a command begins, published while it works and at its end.

All of a run works in a directory, as engines, DeepSpeed and Ray want files; the store gets snapshots of it (snapshots.py). A copy that has
come further than the store, because its driver was killed, goes on from there; on another machine what was published last goes on.
How to use: `with working_copy(config, say, take_over) as config: ...`, whose run_dir is a directory then.
"""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from cgd_ray.config import Config
from cgd_ray.config.paths import is_url
from cgd_ray.data.rundir import RunDir
from cgd_ray.process.faults import GO_ON, RefusedError, StageFailedError
from cgd_ray.runs.lease import EXIT_LOST, HEARTBEAT_S, Say, may_be_held
from cgd_ray.runs.remote.leasing import Lease, LostError
from cgd_ray.runs.remote.objects import Objects, StoreError
from cgd_ray.runs.remote.snapshots import Snapshots

PUBLISH_EVERY_S = 10.0
AGAIN_S = 0.5
"""Before the next try where something was committed while a snapshot was taken."""
LAST_TRIES_S = 300.0
"""For so long the last snapshot is tried to be brought to a store that does not answer."""


def directory_of(config: Config) -> Path:
    """Where a run works: in its run directory, or in the working copy of that."""
    if not is_url(config.run_dir):
        return Path(config.run_dir)
    url = config.run_dir.rstrip("/")
    place = Path(config.working_dir) if config.working_dir is not None else Path.home() / ".cache" / "cgd_ray" / "runs"
    return place / f"{url.rpartition('/')[2]}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


@contextmanager
def working_copy(config: Config, say: Say, take_over: bool) -> Iterator[Config]:
    """Yield the config with a run directory on disk, which is published to the config's URL while the body works; a path stays as it is.

    Raises RefusedError when the store refuses, or a living driver holds the run directory, StageFailedError when the last snapshot could
    not be brought there. The process ends with one line when another driver takes over.
    """
    if not is_url(config.run_dir):
        yield config
        return
    root = _made(directory_of(config))
    try:
        store = Objects(config.run_dir)
        lease = Lease.take(store, say, take_over)
    except (ValueError, StoreError) as error:
        raise _refusal(error) from error
    with _living(lease, say):  # also while files come and while the last ones go, which takes long for large models
        try:
            snapshots = Snapshots(store, root)
            came = snapshots.restore(lease.number)
        except (ValueError, StoreError) as error:
            raise _refusal(error) from error
        except LostError as error:
            raise RefusedError(str(error)) from error
        say(f"run_dir: {store.url}, worked on in {root}" + (f", {came:,} files came from there" if came else ""))
        publisher = _Publisher(store.url, snapshots, root, say)
        try:
            yield config.model_copy(update={"run_dir": str(root)})
        finally:
            publisher.end()


@contextmanager
def _living(lease: Lease, say: Say) -> Iterator[None]:
    """Show that this driver lives, from a thread of its own, and release the lease at the end."""
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(HEARTBEAT_S):
            with suppress(StoreError):  # the store is away: so it is for all others
                try:
                    lease.show_life()
                except LostError as error:
                    _lose(error, say)

    thread = threading.Thread(target=live, daemon=True, name="lease")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(StoreError, LostError):  # a lease that is not released counts as nobody's after a while
            lease.release()


def _lose(error: LostError, say: Say) -> NoReturn:
    say(str(error))
    os._exit(EXIT_LOST)


def looked_at(config: Config) -> Config:
    """The config with a run directory on disk for a command that only reads. Raises ValueError when the store refuses."""
    if not is_url(config.run_dir):
        return config
    root = _made(directory_of(config))
    if not may_be_held(RunDir(root).lease):  # else a driver works in it, and it is newer than all snapshots
        try:
            Snapshots(Objects(config.run_dir), root).look()
        except StoreError as error:
            raise ValueError(str(_refusal(error))) from error
    return config.model_copy(update={"run_dir": str(root)})


def _made(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefusedError(f"working_dir: {root} cannot be made ({error.strerror}); set working_dir to a directory with room") from error
    return root


def _refusal(error: Exception) -> RefusedError:
    if isinstance(error, ValueError):
        return RefusedError(str(error))
    return RefusedError(
        f"run_dir: the store refuses: {error}; check the bucket, and in the environment credentials, region and endpoint "
        "(AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL and the like)"
    )


class _Publisher:
    """A thread that publishes."""

    def __init__(self, url: str, snapshots: Snapshots, root: Path, say: Say) -> None:
        self._url, self._snapshots, self._root, self._say = url, snapshots, root, say
        self._ended = threading.Event()
        self._fault = ""
        """Why the store has not taken the last snapshot."""
        self._thread = threading.Thread(target=self._publish, daemon=True, name="snapshots")
        self._thread.start()

    def end(self) -> None:
        """Publish once more. Raises StageFailedError when the store does not take it."""
        self._ended.set()
        self._thread.join()
        deadline = time.monotonic() + LAST_TRIES_S
        while not self._try():
            if time.monotonic() > deadline:
                raise StageFailedError(
                    f"{self._url} does not take the last snapshot ({self._fault}); the run is kept in {self._root}, {GO_ON}"
                )
            time.sleep(AGAIN_S)

    def _publish(self) -> None:
        wait_s, was_away = PUBLISH_EVERY_S, False
        while not self._ended.wait(wait_s):
            is_published = self._try()
            if self._fault and not was_away:
                self._say(f"{self._fault}; the run goes on in {self._root} and is published when the store answers")
            was_away = bool(self._fault)
            wait_s = PUBLISH_EVERY_S if is_published or was_away else AGAIN_S

    def _try(self) -> bool:
        self._fault = ""
        try:
            return self._snapshots.publish()
        except StoreError as error:
            self._fault = str(error)
            return False
        except LostError as error:
            _lose(error, self._say)
