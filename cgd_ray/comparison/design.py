"""What a comparison can see, told before anything runs: the least difference between two arms that its problems and seeds can show.

How to use: `for line in least_effects(comparison, base, place, notes): say(line)`.
"""

from collections.abc import Iterator

import pyarrow.compute as pc

from cgd_ray.comparison.cells import Place
from cgd_ray.config import Config
from cgd_ray.config.comparison import ComparisonConfig
from cgd_ray.evaluation.statistics.power import Design, least_effect_sentence
from cgd_ray.runs.work_lists import make_evaluation_lists


def designs(comparison: ComparisonConfig, base: Config, place: Place, notes: list[str]) -> Iterator[tuple[str, Design]]:
    """Each benchmark and what is asked of it. Raises ValueError for problems that cannot be read, or are not those it was begun with."""
    evaluation = base.evaluation
    assert evaluation is not None, "base_config has refused it"
    for path, rows in make_evaluation_lists("run", evaluation, evaluation, place.shared, notes).items():
        yield (
            path.stem,
            Design(
                num_problems=len(pc.unique(rows["problem_id"])),
                num_samples=pc.max(rows["sample_index"]).as_py() + 1,
                num_seeds=len(comparison.seeds),
            ),
        )


def least_effects(comparison: ComparisonConfig, base: Config, place: Place, notes: list[str]) -> dict[str, str]:
    """A sentence for each benchmark. Raises ValueError as designs()."""
    return {name: least_effect_sentence(design) for name, design in designs(comparison, base, place, notes)}
