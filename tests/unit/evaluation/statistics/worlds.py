"""Made models whose accuracy is known: problems' log odds are normal, and an answer is right with its problem's chance.

How to use: `world = World(middle=0.5, problems=2.0)`; `world.answers(...)` against `world.accuracy`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

Floats = NDArray[np.float64]
QUANTILES = ndtri((np.arange(20_000) + 0.5) / 20_000)


@dataclass(frozen=True, kw_only=True)
class World:
    """What answers are drawn from; deviations are of log odds."""

    middle: float
    problems: float
    """Between problems, the same for all seeds and for two arms."""
    single: float = 0.0
    """Of a problem between trainings, or between arms."""
    seeds: float = 0.0
    """Of a training, on all its problems."""

    @property
    def accuracy(self) -> float:
        return self.pass_at(1)

    def pass_at(self, k: int) -> float:
        """pass@k over all problems and trainings there might be."""
        deviation = np.sqrt(self.problems**2 + self.single**2 + self.seeds**2)
        return float((1.0 - (1.0 - expit(self.middle + deviation * QUANTILES)) ** k).mean())

    def difficulties(self, generator: np.random.Generator, *shape: int) -> Floats:
        """[..., P] log odds of problems."""
        return generator.normal(self.middle, self.problems, shape)

    def rates(self, generator: np.random.Generator, difficulties: Floats, num_samples: int, gain: float = 0.0) -> Floats:
        """Shares of right samples, of the shape of the difficulties, by models that gain so much on each problem."""
        chances = expit(difficulties + gain + generator.normal(0.0, self.single, difficulties.shape))
        rates: Floats = generator.binomial(num_samples, chances) / num_samples
        return rates

    def seed_rates(
        self, generator: np.random.Generator, difficulties_P: Floats, num_seeds: int, num_samples: int, gain: float = 0.0
    ) -> Floats:
        """[S, P] shares of right samples."""
        lifted_SP = difficulties_P + generator.normal(0.0, self.seeds, (num_seeds, 1))
        return self.rates(generator, lifted_SP, num_samples, gain)
