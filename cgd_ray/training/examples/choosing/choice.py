"""Which of the examples that could be made a training takes, with a count of everything that is not taken and why.

It asks for examples one by one, in the records' own order when all are wanted, in the seeded order when a budget or a mix of verdicts takes
some, and stops when the budget is full. Who makes them, and whether they come with texts and tokens or are numbers only, is the caller's.
How to use: `choice = Choice(training, catalogue, side)`; `for item in choice.taken(made): ...`, then `choice.report()`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from cgd_ray.config import TrainingConfig
from cgd_ray.training.examples.choosing.catalogue import Catalogue, Side
from cgd_ray.training.examples.choosing.mixture import interleave, seeded_order

LEFT_TO_THE_OTHER: dict[Side, str] = {"training": "held_out", "validation": "trained_on"}
"""What a record of the other side counts as."""


class Item(Protocol):
    """What is to be known of an example."""

    @property
    def arm(self) -> str:
        """What the student sees and learns."""
        ...

    @property
    def verdict(self) -> str:
        """right, wrong or missing."""
        ...

    @property
    def num_targets(self) -> int:
        """Tokens that carry loss."""
        ...

    @property
    def attempt_tokens_cut(self) -> int:
        """Tokens taken from the end of the attempt so that the rest fits; 0 for a whole example."""
        ...


AnItem = TypeVar("AnItem", bound=Item)
Made = Callable[[np.ndarray], Iterator[AnItem | str]]
"""The examples of some records of the catalogue, in the order of their indices; in place of what cannot be one, the reason."""


def settings_of(training: TrainingConfig, side: Side) -> TrainingConfig:
    """Budgets are the training's: all that is held out is validated on."""
    return training if side == "training" else training.model_copy(update={"max_examples": None, "max_target_tokens": None})


class Choice:
    """Goes once through the records of one side; the counts are complete when that is over."""

    def __init__(self, training: TrainingConfig, catalogue: Catalogue, side: Side) -> None:
        self.catalogue, self._training = catalogue, training
        self.num_records = catalogue.num_kept
        self.num_seen = self.num_examples = self.target_tokens = self.num_shortened = 0
        self.dropped: Counter[str] = Counter()
        if num_left := catalogue.num_kept - len(catalogue):
            self.dropped[LEFT_TO_THE_OTHER[side]] = num_left
        self._arms: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()

    def taken(self, made: Made[AnItem]) -> Iterator[AnItem]:
        """The examples that the training takes."""
        training, left_over = self._training, "outside_verdict_mix"
        for item in self._mixed(made):
            if training.max_target_tokens is not None and self.target_tokens + item.num_targets > training.max_target_tokens:
                left_over = "over_max_target_tokens"
                break
            self._count(item)
            yield item
            if self.num_examples == training.max_examples:
                left_over = "over_max_examples"
                break
        if num_left_over := self.num_records - self.num_examples - self.dropped.total():
            self.dropped[left_over] += num_left_over

    def report(self) -> dict[str, Any]:
        """The counts, as the manifest of the examples holds them."""
        return {
            "arm": self._training.model_dump(mode="json")["arm"],
            "critiques": self._training.critiques,
            "examples": self.num_examples,
            "target_tokens": self.target_tokens,
            "arms": dict(self._arms),
            "verdicts": dict(self._verdicts),
            "attempt_shortened": self.num_shortened,
            "dropped": dict(self.dropped),
        }

    def _mixed(self, made: Made[AnItem]) -> Iterator[AnItem]:
        """Examples in the order in which they are wanted, with the verdicts that are wanted."""
        training, mix, catalogue = self._training, self._training.verdict_mix, self.catalogue
        if mix is None and training.max_examples is None and training.max_target_tokens is None:
            return self._usable(made(np.arange(len(catalogue), dtype=np.int32)))
        order = seeded_order(catalogue.names(), training.seed).astype(np.int32)
        if mix is None:
            return self._usable(made(order))
        shares: dict[str, float] = {name: share for name, share in mix.items() if share > 0}
        queues = {name: order[catalogue.has_verdict(name)[order]] for name in shares}
        if outside := len(order) - sum(map(len, queues.values())):
            self.dropped["outside_verdict_mix"] = outside
        return interleave({name: self._usable(made(queue)) for name, queue in queues.items()}, shares)

    def _usable(self, made: Iterator[AnItem | str]) -> Iterator[AnItem]:
        for item in made:
            self.num_seen += 1
            if isinstance(item, str):
                self.dropped[item] += 1
            else:
                yield item

    def _count(self, item: Item) -> None:
        self.num_examples += 1
        self.target_tokens += item.num_targets
        self.num_shortened += item.attempt_tokens_cut > 0
        self._arms[item.arm] += 1
        self._verdicts[item.verdict] += 1


def added_up(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The report on all records from those on parts of them, made with the same settings."""
    total: dict[str, Any] = {}
    for report in reports:
        for name, value in report.items():
            if isinstance(value, dict) and name != "arm":  # shares of arms are a setting, and so are the texts
                value = dict(Counter(total.get(name, {})) + Counter(value))
            elif isinstance(value, int):
                value += total.get(name, 0)
            total[name] = value
    return total
