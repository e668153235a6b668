"""Several comparisons at once: of six arms tested against one, at 5 % each, one in four would differ by chance alone.

Holm's correction (1979) keeps the chance of any false difference at the level asked for, however the tests hang together.
How to use: `holm({"sft": 0.01, "cft": 0.04})["sft"].adjusted`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from statsmodels.stats.multitest import multipletests


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """One of several comparisons."""

    p_value: float
    adjusted: float
    """The p-value that counts, given the other comparisons."""
    significant: bool


def holm(p_values: Mapping[str, float], level: float = 0.05) -> dict[str, Corrected]:
    """Each comparison's p-value corrected for the others; in the order given. Raises ValueError for what is no p-value."""
    for name, p_value in p_values.items():
        if not 0.0 <= p_value <= 1.0:
            raise ValueError(f"the comparison {name!r} has the p-value {p_value}; it must lie between 0 and 1")
    if not p_values:
        return {}
    rejected, adjusted, _, _ = multipletests(list(p_values.values()), alpha=level, method="holm")
    return {
        name: Corrected(p_value=p_value, adjusted=float(corrected), significant=bool(reject))
        for (name, p_value), corrected, reject in zip(p_values.items(), adjusted, rejected, strict=True)
    }
