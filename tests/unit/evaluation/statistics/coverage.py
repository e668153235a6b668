"""How often each interval holds the truth, over many made evaluations: the share of hits, one for each world.

The quick tests ask for few evaluations, the slow ones for all sizes. The table: `python -m tests.unit.evaluation.statistics.coverage`.
"""

from collections.abc import Callable
from itertools import product

import numpy as np
from scipy.stats import binom, multinomial

from cgd_ray.evaluation.statistics.bands import pass_at_k_band
from cgd_ray.evaluation.statistics.intervals import Interval, mean_interval, mid_p
from cgd_ray.evaluation.statistics.paired import compare_paired, tango_interval
from cgd_ray.evaluation.statistics.seeds import arm_over_seeds, difference_over_seeds, difference_with_shared_seeds
from tests.unit.evaluation.statistics.worlds import Floats, World

SIZES = (30, 40, 200, 1319)
WORLDS = [World(middle=middle, problems=problems, single=0.5) for middle, problems in product((-2.0, 0.0, 1.0, 3.0), (1.0, 3.0))]
SEED_WORLDS = [
    World(middle=middle, problems=problems, single=0.5, seeds=seeds)
    for middle, problems, seeds in product((-2.0, 0.5), (1.0, 3.0), (0.0, 0.1, 0.4))
]


def single_samples(num_problems: int) -> Floats:
    """[1000] the exact coverage at each of a thousand accuracies."""
    right_X = np.arange(num_problems + 1.0)
    low_X, high_X = mid_p(right_X / num_problems, np.full_like(right_X, num_problems), 0.95)
    accuracy_A1 = ((np.arange(1000) + 0.5) / 1000)[:, None]
    held_AX = (low_X <= accuracy_A1) & (accuracy_A1 <= high_X)
    covered: Floats = (binom.pmf(right_X, num_problems, accuracy_A1) * held_AX).sum(axis=1)
    return covered


def several_samples(num_problems: int, num_samples: int, num_sets: int) -> Floats:
    """[worlds] of an accuracy from several samples of each problem."""
    generator = np.random.default_rng(1)
    covered = []
    for world in WORLDS:
        rates = world.rates(generator, world.difficulties(generator, num_sets, num_problems), num_samples)
        low, high = mean_interval(rates, num_problems * num_samples, 0.95)
        covered.append(((low <= world.accuracy) & (world.accuracy <= high)).mean())
    return np.array(covered)


def bands(num_problems: int, ks: list[int], num_sets: int) -> Floats:
    """[worlds] of the whole pass@k curve, from as many samples as its last k."""

    def held(world: World, generator: np.random.Generator) -> bool:
        rates_P = world.rates(generator, world.difficulties(generator, num_problems), ks[-1])
        right_P = np.rint(rates_P * ks[-1])[:, None]
        band = pass_at_k_band((np.arange(ks[-1]) < right_P).tolist(), ks)
        return all(band[k].low <= world.pass_at(k) <= band[k].high for k in ks)

    return _share(WORLDS, held, num_sets)


def paired_single_samples(num_problems: int, num_sets: int) -> Floats:
    """[shares] of a difference between single samples, at several shares of problems that one arm or the other alone has right."""
    covered = []
    for discordance, of_second in product((0.1, 0.2, 0.3, 0.5), (0.5, 0.65, 0.8, 1.0)):
        only = np.array([discordance * (1 - of_second), discordance * of_second])
        drawn = multinomial.rvs(num_problems, [*only, 1 - discordance], num_sets, np.random.default_rng(2)).astype(float)
        low, high = tango_interval(drawn[:, 0], drawn[:, 1], num_problems, 0.95)
        truth = only[1] - only[0]
        covered.append(((low <= truth) & (truth <= high)).mean())
    return np.array(covered)


def paired_several_samples(num_problems: int, num_samples: int, num_sets: int, gain: float = 0.7) -> Floats:
    """[worlds] of a difference between several samples of each problem."""

    def held(world: World, generator: np.random.Generator) -> bool:
        difficulties_P = world.difficulties(generator, num_problems)
        first, second = (
            {
                str(problem): [sample < right for sample in range(num_samples)]
                for problem, right in enumerate(np.rint(rates_P * num_samples))
            }
            for rates_P in (world.rates(generator, difficulties_P, num_samples, lifted) for lifted in (0.0, gain))
        )
        return _in(compare_paired(first, second).interval, _gained(world, gain))

    return _share(WORLDS, held, num_sets)


def seeds_of_an_arm(num_seeds: int, num_problems: int, num_samples: int, num_sets: int) -> Floats:
    """[worlds] of an arm's accuracy over seeds and problems."""

    def held(world: World, generator: np.random.Generator) -> bool:
        difficulties_P = world.difficulties(generator, num_problems)
        arm = arm_over_seeds(world.seed_rates(generator, difficulties_P, num_seeds, num_samples), num_samples)
        return _in(arm.over_both, world.accuracy)

    return _share(SEED_WORLDS, held, num_sets)


def seeds_of_a_difference(num_seeds: int, num_problems: int, num_samples: int, num_sets: int, shared: bool = False) -> Floats:
    """[worlds] of a difference over seeds and problems."""
    compare, gain = (difference_with_shared_seeds if shared else difference_over_seeds), 0.5

    def held(world: World, generator: np.random.Generator) -> bool:
        difficulties_P = world.difficulties(generator, num_problems)
        first_SP, second_SP = (world.seed_rates(generator, difficulties_P, num_seeds, num_samples, lifted) for lifted in (0.0, gain))
        return _in(compare(first_SP, second_SP, num_samples).over_both, _gained(world, gain))

    return _share(SEED_WORLDS, held, num_sets)


def _share(worlds: list[World], held: Callable[[World, np.random.Generator], bool], num_sets: int) -> Floats:
    generator = np.random.default_rng(3)
    return np.array([np.mean([held(world, generator) for _ in range(num_sets)]) for world in worlds])


def _in(interval: Interval | None, truth: float) -> bool:
    assert interval is not None
    return interval.low <= truth <= interval.high


def _gained(world: World, gain: float) -> float:
    lifted = World(middle=world.middle + gain, problems=world.problems, single=world.single, seeds=world.seeds)
    return lifted.accuracy - world.accuracy


INTERVALS: dict[str, Callable[[int], Floats]] = {
    "one sample": single_samples,
    "4 samples": lambda size: several_samples(size, 4, 1000),
    "16 samples": lambda size: several_samples(size, 16, 1000),
    "pass@k band, 16 samples": lambda size: bands(size, [1, 2, 4, 8, 16], 100),
    "paired, one sample": lambda size: paired_single_samples(size, 10_000),
    "paired, 4 samples": lambda size: paired_several_samples(size, 4, 200),
    "3 seeds, an arm": lambda size: seeds_of_an_arm(3, size, 1, 100),
    "5 seeds, an arm": lambda size: seeds_of_an_arm(5, size, 1, 100),
    "3 seeds, a difference": lambda size: seeds_of_a_difference(3, size, 1, 300),
    "5 seeds, a difference": lambda size: seeds_of_a_difference(5, size, 1, 300),
    "5 shared seeds, a difference": lambda size: seeds_of_a_difference(5, size, 1, 300, shared=True),
}
"""From the number of problems to the coverage in each world."""


if __name__ == "__main__":
    for size, (name, interval) in product(SIZES, INTERVALS.items()):
        covered = interval(size)
        print(f"{size:5d} problems, {name:28s} mean {100 * covered.mean():.1f} %, least {100 * covered.min():.1f} %", flush=True)
