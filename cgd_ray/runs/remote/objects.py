"""An object store behind a URL: whole objects, replaced on conditions that the store itself keeps. The only file that knows obstore.

Credentials, region and endpoint are what the environment says, as each cloud's own tools take it: AWS_*, GOOGLE_*, AZURE_*.
How to use: `store = Objects("s3://bucket/runs/a")`; `tag = store.create("lease.json", b"1")`; `store.replace("lease.json", b"2", tag)`.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
CHUNK_BYTES = 8 * 2**20
Tag = dict[str, str]
"""Names one version of an object."""


class StoreError(Exception):
    """The store does not answer, or refuses; one line."""


class ChangedError(Exception):
    """Another one has created or replaced the object."""


class Objects:
    """The objects under one URL. All methods raise StoreError."""

    def __init__(self, url: str, retry_s: float = 10.0) -> None:
        """Nothing is asked of the store yet. Raises ValueError for a URL that names none."""
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in SCHEMES or not rest.strip("/"):
            raise ValueError(f"run_dir {url} is no object store's URL; it may begin with {', '.join(f'{name}://' for name in SCHEMES)}")
        self.url = url.rstrip("/")
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        retry: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=retry_s)}
        try:
            self._store: Any = from_url(self.url, client_options={"allow_http": plain, "timeout": "10min"}, retry_config=retry)
        except (BaseError, ValueError) as error:
            raise ValueError(f"run_dir {url}: {_first_line(error)}") from None

    def read(self, name: str) -> tuple[bytes, Tag] | None:
        """An object and its version; None where there is none."""
        import obstore

        with _told(self.url):
            try:
                found = obstore.get(self._store, name)
            except FileNotFoundError:
                return None
            return bytes(found.bytes()), _tag(found.meta)

    def create(self, name: str, content: bytes) -> Tag:
        """Make an object that is not there. Raises ChangedError when it is."""
        return self._put(name, content, "create")

    def replace(self, name: str, content: bytes, tag: Tag) -> Tag:
        """Put another content in the place of a version. Raises ChangedError when another one has done so before."""
        return self._put(name, content, tag)

    def upload(self, name: str, content: Iterable[bytes]) -> None:
        """Make or replace an object, in pieces where it is large; it is there as a whole or not at all."""
        self._put(name, content, "overwrite")

    def _put(self, name: str, content: Any, mode: Any) -> Tag:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with _told(self.url):
            try:
                return _tag(obstore.put(self._store, name, content, mode=mode, chunk_size=CHUNK_BYTES))
            except (AlreadyExistsError, PreconditionError) as error:
                raise ChangedError(name) from error
            except FileNotFoundError as error:  # of an object that was to be replaced; or of the bucket
                if isinstance(mode, dict):
                    raise ChangedError(name) from error
                raise

    def download(self, name: str, to: Path) -> None:
        """Write an object to a file. Raises StoreError too when it is not there."""
        import obstore

        with _told(self.url), to.open("wb") as file:
            for piece in obstore.get(self._store, name).stream(min_chunk_size=CHUNK_BYTES):
                file.write(bytes(piece))

    def names(self, prefix: str) -> Iterator[str]:
        """Of all objects under a prefix."""
        import obstore

        with _told(self.url):
            for some in obstore.list(self._store, prefix=prefix):
                yield from (str(found["path"]) for found in some)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are gone are none's fault."""
        import obstore

        with _told(self.url):
            for name in names:
                try:
                    obstore.delete(self._store, name)
                except FileNotFoundError:
                    continue


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Raise StoreError for what obstore raises."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        raise StoreError(f"{url}: {_first_line(error)}") from error


def _tag(answer: Any) -> Tag:
    return {name: str(answer[name]) for name in ("e_tag", "version") if answer.get(name) is not None}


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:500]
