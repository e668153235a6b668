"""The rows of a source, one after another: files, directories of files, saved data sets, the hub.

Which file of a directory is of which split is found out by the datasets library, by the hub's rules. JSON and Parquet files are then read
here, since that library makes dates of texts that all look like one, and copies all of it into a cache first. It reads all other formats.
How to use: `for row in read_rows(source): ...`; a row is read when it is asked for, so a limit spares the rest.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import SourceConfig
from cgd_ray.data.json_text import parse_json
from cgd_ray.problems.data_sets import data_set_rows, files_of_split, is_saved, names_the_split, saved_split
from cgd_ray.problems.rows import Row, check_columns, mapped_columns

ROWS_LOOKED_AT = 100
"""A column that none of the first rows of a file has is taken for misspelt."""
Names = dict[str, None]
"""The columns of a file in their order, as far as it has been read."""


def read_rows(source: SourceConfig) -> Iterator[Row]:
    """The rows of a source in its own order. Raises ValueError, which begins with a setting of the source and is one line."""
    path = Path(source.path)
    if path.is_dir():
        if source.revision is not None:
            raise ValueError(f"revision is {source.revision!r}, and path {path} is a directory, which is as it is; leave it out")
        return _directory_rows(source, path)
    if path.suffix in READERS:
        if not path.is_file():
            raise ValueError(f"path {path} does not exist; give a file that does")
        _check_single(source, path)
        return _file_rows(source, [path])
    if path.exists() or path.is_absolute():
        raise ValueError(f"path {path} is no .jsonl, .json or .parquet file and no directory with a data set")
    on_hub = {"split": source.split, "revision": source.revision}
    return data_set_rows(source, lambda datasets: datasets.load_dataset(source.path, source.subset, **on_hub))


def _check_single(source: SourceConfig, file: Path) -> None:
    """Settings that choose among files mean nothing for one, unless its name says the same."""
    split = "train" if names_the_split(source, file) else source.split
    for setting, value in (("subset", source.subset), ("revision", source.revision), ("split", split)):
        if value not in (None, "train"):
            raise ValueError(f"{setting} is {value!r}, and path {file} is a single file without any; leave it out or give the directory")


def _directory_rows(source: SourceConfig, directory: Path) -> Iterator[Row]:
    if is_saved(directory):
        return data_set_rows(source, lambda datasets: saved_split(source, datasets.load_from_disk(source.path)))
    builder, files = files_of_split(source, directory)
    if all(file.suffix in READERS for file in files):
        return _file_rows(source, files)
    names = {source.split: list(map(str, files))}
    return data_set_rows(source, lambda datasets: datasets.load_dataset(builder, data_files=names, split=source.split))


def _file_rows(source: SourceConfig, files: Sequence[Path]) -> Iterator[Row]:
    """The rows of files, which must have the same columns: else they are not parts of one data set."""
    first: tuple[Path, Names] | None = None
    for file in files:
        names = Names()
        rows = READERS[file.suffix](file, mapped_columns(source), names)
        try:
            head = list(islice(rows, ROWS_LOOKED_AT))
            if names:
                check_columns(source, names, file)
            yield from head
            yield from rows
        except UnicodeDecodeError as error:
            raise ValueError(f"path {file} is not UTF-8 text ({error}); convert it") from None
        except OSError as error:
            raise ValueError(f"path {file} cannot be read ({error.strerror or error}); make it readable") from None
        if first is None and names:
            first = file, names
        elif first is not None and names and names.keys() != first[1].keys():
            name = min(names.keys() ^ first[1].keys())
            has, lacks = (file, first[0]) if name in names else (first[0], file)
            raise ValueError(
                f"path {source.path} holds files of different columns: {has.name} has {name!r} and {lacks.name} has not; give one of them, "
                "or the others too under problems.mix"
            )


def _parquet_rows(file: Path, mapped: Collection[str], names: Names) -> Iterator[Row]:
    try:
        parquet = pq.ParquetFile(file)
        names.update(dict.fromkeys(parquet.schema_arrow.names))
        batches = parquet.iter_batches(columns=[name for name in mapped if name in names])
        for number, columns in enumerate((columns for batch in batches for columns in batch.to_pylist()), 1):
            yield Row(str(file), number, columns)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"path {file} is no Parquet: {str(error).splitlines()[0]}; copy it again") from None


def _json_lines(file: Path, mapped: Collection[str], names: Names) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    value = parse_json(line)
                except ValueError as error:
                    yield Row(str(file), number, {}, fault=str(error))
                else:
                    yield _object_row(file, number, value, mapped, names)


def _json_rows(file: Path, mapped: Collection[str], names: Names) -> Iterator[Row]:
    try:
        content = parse_json(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        if "Extra data" in str(error):  # JSON lines under another name
            yield from _json_lines(file, mapped, names)
            return
        raise ValueError(f"path {file} holds {error}; correct it") from None
    if not isinstance(content, list):
        raise ValueError(f"path {file} holds {type(content).__name__}, not a list of problems; put [...] around them")
    for number, value in enumerate(content, 1):
        yield _object_row(file, number, value, mapped, names)


READERS: dict[str, Callable[[Path, Collection[str], Names], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
}
"""How the files of each kind are read; a reader adds the columns that it meets to the names that it is given."""


def _object_row(file: Path, number: int, value: Any, mapped: Collection[str], names: Names) -> Row:
    if not isinstance(value, dict):
        return Row(str(file), number, {}, fault=f"it is {type(value).__name__}, not an object with named columns")
    names.update(dict.fromkeys(value))
    return Row(str(file), number, {name: value[name] for name in mapped if name in value})
