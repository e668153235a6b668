"""The rows of a source, one after another: files, directories of files, saved data sets, the hub.

Which file of a directory is of which split is found out by the datasets library, by the hub's rules. JSON and Parquet files are then read
here, since that library makes dates of texts that look like one and refuses a column of both 7 and "seven". It reads all other formats.
How to use: `for row in read_rows(source): ...`; a row is read when it is asked for, so a limit spares the rest.
"""

import difflib
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import SourceConfig
from cgd_ray.data.json_text import parse_json

SAVED_DATA_SET = ("dataset_dict.json", "state.json")
"""Files of which one is in every directory that the datasets library has saved."""
ROWS_LOOKED_AT = 100
"""A column that none of the first rows of a file has is taken for misspelt."""
SPLIT_WORDS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "tests", "testing", "testset", "eval", "evaluation", "heldout", "holdout"},
}
"""Words in the name of a file that say of which split it is."""
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


class Row(NamedTuple):
    """One row of a source."""

    file: str
    """Where it is from."""
    number: int
    """Its row there, from 1; of JSON lines, the line."""
    columns: Mapping[str, Any]
    """The mapped columns that it has."""
    fault: str = ""
    """Why it is no row at all; empty for all others."""


Names = dict[str, None]
"""The columns of a file in their order, as far as it has been read."""


def read_rows(source: SourceConfig) -> Iterator[Row]:
    """The rows of a source in its own order. Raises ValueError, which begins with a setting of the source and is one line."""
    path = Path(source.path)
    if path.is_dir():
        return _directory_rows(source, path)
    if path.suffix in READERS:
        if not path.is_file():
            raise ValueError(f"path {path} does not exist; give a file that does")
        _check_single(source, path)
        return _file_rows(source, [path])
    if path.exists() or path.is_absolute():
        raise ValueError(f"path {path} is no .jsonl, .json or .parquet file and no directory with a data set")
    return _data_set_rows(source, lambda datasets: datasets.load_dataset(source.path, source.subset, split=source.split))


def _check_single(source: SourceConfig, file: Path) -> None:
    """Settings that choose among files mean nothing for one, unless its name says the same."""
    split = "train" if _words(file.name) & _split_words(source) else source.split
    for setting, value in (("subset", source.subset), ("split", split)):
        if value not in (None, "train"):
            raise ValueError(f"{setting} is {value!r}, and path {file} is a single file without any; leave it out or give the directory")


def _directory_rows(source: SourceConfig, directory: Path) -> Iterator[Row]:
    if any((directory / name).is_file() for name in SAVED_DATA_SET):
        return _data_set_rows(source, lambda datasets: _saved_split(source, datasets.load_from_disk(source.path)))
    builder, files = _files_of_split(source, directory)
    if all(file.suffix in READERS for file in files):
        return _file_rows(source, files)
    names = {source.split: list(map(str, files))}
    return _data_set_rows(source, lambda datasets: datasets.load_dataset(builder, data_files=names, split=source.split))


def _file_rows(source: SourceConfig, files: Sequence[Path]) -> Iterator[Row]:
    """The rows of files, which must have the same columns: else they are not parts of one data set."""
    first: tuple[Path, Names] | None = None
    for file in files:
        names = Names()
        rows = READERS[file.suffix](file, _mapped(source), names)
        try:
            head = list(islice(rows, ROWS_LOOKED_AT))
            if names:
                _check_columns(source, names, file)
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


def _data_set_rows(source: SourceConfig, load: Callable[[Any], Any]) -> Iterator[Row]:
    """The rows of what a call of the datasets library returns."""
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what it complains of is in the error too, which becomes one line
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        loaded = load(datasets)
    except _RefusedSplitError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # whatever the library dies of, it is this source's
        raise ValueError(f"path {source.path} could not be loaded as a data set: {_reason(error)}") from None
    _check_columns(source, loaded.column_names, source.path)
    batches = loaded.select_columns(_mapped(source)).with_format("arrow").iter(batch_size=1000)
    for number, columns in enumerate((columns for batch in batches for columns in batch.to_pylist()), 1):
        yield Row(source.path, number, columns)


class _RefusedSplitError(ValueError):
    """The split that is asked for is not there."""


def _saved_split(source: SourceConfig, saved: Any) -> Any:
    """One split of what the datasets library has saved: several splits, or one that may know its name."""
    import datasets

    if source.subset is not None:
        raise _RefusedSplitError(f"subset is {source.subset!r}, but {source.path} is a saved data set, which has none; leave it out")
    if isinstance(saved, datasets.DatasetDict):
        if source.split not in saved:
            raise _RefusedSplitError(f"split {source.split!r} is not in {source.path}; it has {', '.join(saved)}")
        return saved[source.split]
    name = "train" if saved.split is None else str(saved.split)
    if source.split not in {name, name.partition("[")[0]}:
        raise _RefusedSplitError(f"split {source.split!r} is not in {source.path}; it has {name}")
    return saved


def _files_of_split(source: SourceConfig, directory: Path) -> tuple[str, list[Path]]:
    """The datasets library's name for the format of a directory's files, and those of the split that is asked for."""
    import datasets

    base, subset = directory.resolve(), source.subset
    described = _has_subsets(directory)
    if subset is not None and not described:
        base, subset = base / subset, None
        if not base.is_dir():
            folders = sorted(path.name for path in directory.iterdir() if path.is_dir())
            raise ValueError(f"subset {source.subset!r} is not in {directory}; it has {', '.join(folders) or 'no folders'}")
    try:
        with _without_warnings():
            builder = datasets.load_dataset_builder(str(base), subset)
    except Exception as error:  # whatever the library dies of, it is this source's
        raise ValueError(f"path {source.path} could not be loaded as a data set: {_reason(error)}") from None
    splits = {str(split): list(map(Path, files)) for split, files in (builder.config.data_files or {}).items()}
    if source.split not in splits:
        raise ValueError(f"split {source.split!r} is not in {source.path}; it has {', '.join(splits)}")
    if not described:
        _check_belonging(source, base, splits[source.split])
    return builder.name, splits[source.split]


def _has_subsets(directory: Path) -> bool:
    """Whether a README, as on the hub, says which files are of which subset and split."""
    from huggingface_hub import DatasetCard

    card = directory / "README.md"
    try:
        with _without_warnings():
            return card.is_file() and bool(DatasetCard.load(card, ignore_metadata_errors=True).data.get("configs"))
    except Exception as error:  # whatever the library dies of, it is this file's
        raise ValueError(f"path {card} cannot be read: {_reason(error)}") from None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Without those of the hub's library on a README that is only that."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _check_belonging(source: SourceConfig, base: Path, files: Sequence[Path]) -> None:
    """Files whose names say another split, or that are in several folders, are not taken for one and the same."""
    places = [file.relative_to(base) for file in files]
    mine = _split_words(source)
    others = set().union(*SPLIT_WORDS.values()) - mine
    for place in places:
        words = _words(str(place.with_suffix("")))
        if words & others and not words & mine:
            raise ValueError(
                f"split {source.split!r} of {source.path} would be {place} too, whose name says {min(words & others)}; name the files like "
                "train.jsonl and test.jsonl, or give a single file"
            )
    folders = sorted({place.parts[0] for place in places if len(place.parts) > 1})
    if len(folders) + any(len(place.parts) == 1 for place in places) > 1:
        raise ValueError(f"subset is {source.subset!r}, and {source.path} has files in {', '.join(folders)}; set subset to one of them")


def _words(name: str) -> set[str]:
    return {word.lower() for word in _WORDS.findall(name)}


def _split_words(source: SourceConfig) -> set[str]:
    return SPLIT_WORDS.get(source.split, {source.split})


def _mapped(source: SourceConfig) -> list[str]:
    return list(dict.fromkeys(column for column in source.fields.model_dump().values() if column is not None))


def _check_columns(source: SourceConfig, names: Collection[str], where: str | Path) -> None:
    for setting, column in source.fields.model_dump().items():
        if column is not None and column not in names:
            near = difflib.get_close_matches(column, list(names), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, names))}"
            raise ValueError(f"fields.{setting} names column {column!r}, which {where} lacks; {hint}")


def _reason(error: Exception) -> str:
    """What the datasets library died of, on one line: it wraps the cause in an error that tells nothing."""
    message = str(error if "\n" in str(error) or error.__cause__ is None else error.__cause__)
    return " ".join(message.split())[:300] or type(error).__name__
