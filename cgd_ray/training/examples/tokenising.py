"""Tokenises records on all CPUs, or here where they are few, into example files; of each the driver gets a few numbers.

Where a budget takes some records in a seeded order, they are tokenised in waves: each is as large as all before it together, so at most
twice as many are made as are taken, and each wave reads its records in the order of the files.
How to use: `waves = Waves(training, prompts, chat, catalogue, directory)`; `for item in choice.taken(waves.made): ...`
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.process.spreading import in_turn, is_worth_spreading, spread
from cgd_ray.training.examples.choosing.catalogue import PLACE_TYPE, VERDICTS, Catalogue
from cgd_ray.training.examples.choosing.mixture import arms_of
from cgd_ray.training.examples.example_files import example_file, example_table, example_writer
from cgd_ray.training.examples.preparation import Prepared, prepared
from cgd_ray.training.examples.texts import ROWS_PER_BATCH, Texts

ROWS_PER_PIECE = 2048
"""Records in one example file, before some turn out not to be examples; a process has a batch of them in memory."""
FIRST_WAVE = 2**14
"""Records of the first wave where the budget is one of tokens."""
FEW_ROWS = 10_000
"""Up to which they are tokenised in this process, at some thousand a second; others begin to work after seconds."""
OUTCOME_TYPE = np.dtype(
    [
        ("file", "i4"),
        ("row", "i4"),  # of the example file
        ("num_tokens", "i4"),
        ("num_targets", "i4"),
        ("attempt_tokens_cut", "i4"),
        ("arm", "i1"),  # among arms_of(training)
        ("reason", "i1"),  # 1 + index of why it cannot be an example; 0: it is one
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenised:
    """An example on the disk."""

    index: int
    """Of the catalogue."""
    file: int
    row: int
    num_tokens: int
    num_targets: int
    attempt_tokens_cut: int
    arm: str
    verdict: str


class Tokenising:
    """The writing of one example file after the other, a piece of work each (process/spreading.py)."""

    def __init__(
        self, training: TrainingConfig, prompts: Prompts, chat: Chat, parts: Sequence[Path], places: Path, directory: Path, first_file: int
    ) -> None:
        """`places` is a file with PLACE_TYPE of all records of the wave."""
        self._training, self._prompts, self._chat = training, prompts, chat
        self._arms, self._texts = arms_of(training), Texts(training, prompts, parts)
        self._places, self._directory, self._first_file = np.load(places, mmap_mode="r"), directory, first_file

    def __call__(self, number: int) -> tuple[np.ndarray, list[str]]:
        """Write one file; returns OUTCOME_TYPE of its records and the reasons that there are."""
        places = self._places[number * ROWS_PER_PIECE : (number + 1) * ROWS_PER_PIECE]
        outcomes, reasons = np.zeros(len(places), OUTCOME_TYPE), dict[str, int]()
        outcomes["file"] = self._first_file + number
        num_written, batch = 0, list[Prepared]()
        with example_writer(example_file(self._directory, self._first_file + number)) as writer:
            for outcome, row in zip(outcomes, self._texts.rows(places), strict=True):
                item = prepared(row, self._training, self._prompts, self._chat)
                if isinstance(item, str):
                    outcome["reason"] = 1 + reasons.setdefault(item, len(reasons))
                    continue
                outcome["row"], outcome["arm"], num_written = num_written, self._arms.index(item.arm), num_written + 1
                outcome["num_tokens"], outcome["num_targets"] = len(item.example.input_ids), item.num_targets
                outcome["attempt_tokens_cut"] = item.attempt_tokens_cut
                batch.append(item)
                if len(batch) == ROWS_PER_BATCH:
                    writer.write(_table(batch))
                    batch = []
            writer.write(_table(batch))
        return outcomes, list(reasons)

    def close(self) -> None:
        """Nothing is held open."""


class Waves:
    """Makes the examples that a Choice asks for."""

    def __init__(
        self,
        training: TrainingConfig,
        prompts: Prompts,
        chat: Chat,
        catalogue: Catalogue,
        directory: Path,
        on_progress: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._training, self._prompts, self._chat, self._catalogue = training, prompts, chat, catalogue
        self._directory, self._on_progress, self._arms = directory, on_progress, arms_of(training)
        self.num_files = self.num_records = 0

    def made(self, indices: np.ndarray) -> Iterator[Tokenised | str]:
        """The examples of these records, in their order."""
        start, size = 0, self._first_wave(len(indices))
        while start < len(indices):
            yield from self._wave(indices[start : start + size])
            start += size
            size = start

    def _first_wave(self, num_records: int) -> int:
        training, wanted = self._training, num_records
        if training.max_examples is not None:
            largest_share = 1.0 if training.verdict_mix is None else max(training.verdict_mix.values())
            wanted = math.ceil(training.max_examples * largest_share)
        return wanted if training.max_target_tokens is None else min(wanted, FIRST_WAVE)

    def _wave(self, indices: np.ndarray) -> Iterator[Tokenised | str]:
        if (np.diff(indices) > 0).all():  # as when all are wanted: no more than a piece is held
            start = 0
            for outcomes, reasons in self._pieces(indices):
                yield from self._found(indices[start : start + len(outcomes)], outcomes, reasons)
                start += len(outcomes)
            return
        rising = np.sort(indices)
        all_outcomes, reasons = self._together(rising)
        for start in range(0, len(indices), ROWS_PER_PIECE):  # some at a time become Python objects
            here = indices[start : start + ROWS_PER_PIECE]
            yield from self._found(here, all_outcomes[np.searchsorted(rising, here)], reasons)

    def _found(self, indices: np.ndarray, outcomes: np.ndarray, reasons: Sequence[str]) -> Iterator[Tokenised | str]:
        rows = zip(indices.tolist(), self._catalogue.verdict_R[indices].tolist(), outcomes.tolist(), strict=True)
        for index, verdict, (file, row, tokens, targets, cut, arm, reason) in rows:
            if reason:
                yield reasons[reason - 1]
                continue
            yield Tokenised(
                index=index,
                file=file,
                row=row,
                num_tokens=tokens,
                num_targets=targets,
                attempt_tokens_cut=cut,
                arm=self._arms[arm],
                verdict=VERDICTS[verdict],
            )

    def _together(self, rising: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """OUTCOME_TYPE of these records, and what its reasons mean."""
        outcomes, reasons, start = np.empty(len(rising), OUTCOME_TYPE), dict[str, int](), 0
        for found, their_reasons in self._pieces(rising):
            numbers = np.array([0, *(1 + reasons.setdefault(name, len(reasons)) for name in their_reasons)], np.int8)
            found["reason"] = numbers[found["reason"]]
            outcomes[start : start + len(found)] = found
            start += len(found)
        return outcomes, list(reasons)

    def _pieces(self, rising: np.ndarray) -> Iterator[tuple[np.ndarray, list[str]]]:
        """What Tokenising returns for these records, piece by piece."""
        num_pieces, first_file = -(-len(rising) // ROWS_PER_PIECE), self.num_files
        self.num_files, self.num_records = self.num_files + num_pieces, self.num_records + len(rising)
        run = spread if is_worth_spreading(len(rising), FEW_ROWS) else in_turn
        with tempfile.TemporaryDirectory(prefix=".wave-", dir=self._directory) as wave:
            places = Path(wave) / "places.npy"
            self._write_places(rising, places)
            arguments = (self._training, self._prompts, self._chat, self._catalogue.parts, places, self._directory, first_file)
            for outcomes, reasons in run(Tokenising, arguments, num_pieces):
                self._on_progress(len(outcomes))
                yield outcomes, reasons

    def _write_places(self, rising: np.ndarray, path: Path) -> None:
        """Write PLACE_TYPE of these records, which the processes map into their memory."""
        places = np.lib.format.open_memmap(path, mode="w+", dtype=PLACE_TYPE, shape=rising.shape)
        for start in range(0, len(rising), ROWS_PER_PIECE):
            places[start : start + ROWS_PER_PIECE] = self._catalogue.places(rising[start : start + ROWS_PER_PIECE])
        places.flush()


def _table(items: Sequence[Prepared]) -> pa.Table:
    return example_table((item.record_id, item.example) for item in items)
