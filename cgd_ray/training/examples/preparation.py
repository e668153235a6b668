"""Selected records -> the examples that a training takes, one after the other, with their texts.

The training's own files (writing.py), the exporters and `cgd inspect` take the same examples, since which they are is decided in one place
(choice.py) and each is made by one function, `prepared`. Held-out problems leave before all else: neither side's critiques, mix or budget
know of the other. Texts are read some records at a time.
How to use: `preparation = Preparation(training, chat, prompts, selected_parts(run.selected))` or `prepare(config)`, iterate over it, then
`preparation.report()`. Without budget, mix and shuffling each record is looked at alone, so that files can be prepared one by one and their
reports added up.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgd_ray.config import Config, TrainingConfig
from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.data.records import CUT, check_version
from cgd_ray.data.rundir import RunDir, manifest_parts, read_manifest
from cgd_ray.training.examples.arms import REQUIRED_COLUMNS, ArmExample
from cgd_ray.training.examples.choosing.catalogue import Catalogue, Side
from cgd_ray.training.examples.choosing.choice import Choice, settings_of
from cgd_ray.training.examples.fitting import fit
from cgd_ray.training.examples.texts import SHOWN, Texts


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One example to train on."""

    record_id: str
    arm: str
    verdict: str
    """right, wrong or missing."""
    conversation: ArmExample
    example: Example
    attempt_tokens_cut: int
    """Tokens taken from the end of the attempt so that the rest fits; 0 for a whole example."""

    @property
    def num_targets(self) -> int:
        """Tokens that carry loss."""
        return len(self.example.input_ids) - self.example.prompt_length


def prepared(row: Mapping[str, Any], training: TrainingConfig, prompts: Prompts, chat: Chat) -> Prepared | str:
    """The example of a record (a row of texts.py), or why it cannot be one."""
    if (reason := _unusable(row, row["arm"])) is not None:
        return reason
    fitted = fit({**row, "critique": row[SHOWN]}, row["arm"], prompts, chat, training.context_length)
    if fitted is None:
        return "over_context_length"
    for arm in training.usable_by:
        if _unusable(row, arm) is not None or fit(row, arm, prompts, chat, training.context_length) is None:
            return f"unusable_by_{arm}"
    return Prepared(
        record_id=row["record_id"],
        arm=row["arm"],
        verdict=row["verdict"],
        conversation=fitted.conversation,
        example=fitted.example,
        attempt_tokens_cut=fitted.attempt_tokens_cut,
    )


class Preparation(Choice):
    """Iterates once over the examples of one side in files of selected records; the counts are complete when the iteration is.

    Raises ValueError when the records lack a column of an arm, or when their critiques cannot be shuffled.
    """

    def __init__(
        self,
        training: TrainingConfig,
        chat: Chat,
        prompts: Prompts,
        selected: Sequence[Path],
        side: Side = "training",
        is_left_out: Callable[[str], bool] | None = None,
    ) -> None:
        """`is_left_out` tells of which records, by their ids, no example is wanted."""
        catalogue = Catalogue.read(training, selected, side)
        super().__init__(settings_of(training, side), catalogue if is_left_out is None else catalogue.without(is_left_out), side)
        self.chat, self._prompts = chat, prompts
        self._texts = Texts(training, prompts, selected)

    def __iter__(self) -> Iterator[Prepared]:
        return self.taken(self._made)

    def _made(self, indices: np.ndarray) -> Iterator[Prepared | str]:
        for row in self._texts.rows(self.catalogue.places(indices)):
            yield prepared(row, self._training, self._prompts, self.chat)


def prepare(config: Config) -> Preparation:
    """The preparation of a run directory. Raises ValueError when it holds no selected records."""
    run, student = RunDir(config.run_dir), config.student
    if read_manifest(run.selected) is None:
        raise ValueError(f"run_dir {run.root} holds no selected records; run `cgd generate` with the same config first")
    chat = Chat.of(student)
    return Preparation(config.training, chat, load_prompts(config.prompts), selected_parts(run.selected))


def selected_parts(directory: Path) -> list[Path]:
    """The files of selected records. Raises ValueError when the selection is unfinished or its records are of another version."""
    parts, manifest = manifest_parts(directory), read_manifest(directory)
    assert manifest is not None, "manifest_parts has read it as well"
    check_version(manifest, directory)
    return parts


def _unusable(row: Mapping[str, Any], arm: str) -> str | None:
    """Why a record cannot become an example of an arm, or None.

    A cut attempt is for selection to keep or to drop: no arm learns to write it. Where one is shown, the template ends its turn as any
    other's, which is how whoever talks to the model would send it back.
    """
    for name in REQUIRED_COLUMNS[arm]:
        if not row[name]:
            return f"no_{name}"
        if name != "attempt" and (end := str(row.get(f"{name}_finish_reason"))) in CUT:
            return f"{name}_{CUT[end]}"
    return None
