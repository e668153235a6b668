"""What the datasets library does for a source: loads the hub's sets and saved ones, and tells of which split a directory's files are.

Files whose names say another split than the one that they would be taken for are refused: nobody trains on test rows unawares.
How to use: `builder, files = files_of_split(source, directory)`; `data_set_rows(source, lambda datasets: datasets.load_dataset(...))`.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgd_ray.config import SourceConfig
from cgd_ray.problems.rows import Row, check_columns, mapped_columns

SAVED_DATA_SET = ("dataset_dict.json", "state.json")
"""Files of which one is in every directory that the datasets library has saved."""
SPLIT_WORDS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "tests", "testing", "testset", "eval", "evaluation", "heldout", "holdout"},
}
"""Words in the name of a file that say of which split it is."""
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def is_saved(directory: Path) -> bool:
    """Whether the datasets library has saved a data set there."""
    return any((directory / name).is_file() for name in SAVED_DATA_SET)


def names_the_split(source: SourceConfig, file: Path) -> bool:
    """Whether a file's name says the split that is asked for."""
    return bool(_words(file.name) & _split_words(source))


def data_set_rows(source: SourceConfig, load: Callable[[Any], Any]) -> Iterator[Row]:
    """The rows of what a call of the datasets library returns. Raises ValueError, one line, whatever the library dies of."""
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
    check_columns(source, loaded.column_names, source.path)
    batches = loaded.select_columns(mapped_columns(source)).with_format("arrow").iter(batch_size=1000)
    for number, columns in enumerate((columns for batch in batches for columns in batch.to_pylist()), 1):
        yield Row(source.path, number, columns)


class _RefusedSplitError(ValueError):
    """The split that is asked for is not there."""


def saved_split(source: SourceConfig, saved: Any) -> Any:
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


def files_of_split(source: SourceConfig, directory: Path) -> tuple[str, list[Path]]:
    """The datasets library's name for the format of a directory's files, and those of the split that is asked for.

    Raises ValueError, one line, where there are none, or where their names leave it open.
    """
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


def _reason(error: Exception) -> str:
    """What the datasets library died of, on one line: it wraps the cause in an error that tells nothing."""
    message = str(error if "\n" in str(error) or error.__cause__ is None else error.__cause__)
    return " ".join(message.split())[:300] or type(error).__name__
