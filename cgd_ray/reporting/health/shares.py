"""When a share is surely large, or surely smaller than it was.

A view looks at a run thousands of times, so a threshold that chance alone crosses now and then would cry wolf. A share counts as above a
threshold, or as changed, only where its Wilson interval of three standard deviations says so: 1 row of 32 proves nothing, 3 of 3 do.
How to use: `if is_above(failed, rows, 0.01): Advisory(level="warning", title=..., detail=...)`.
"""

from math import sqrt

DEVIATIONS = 3.0
"""Half the width of an interval. One look in 700 crosses a threshold at which the share really is; two shares that are equal come apart,
where each has its own interval, in about one look in 45,000."""


def interval(count: int, total: int) -> tuple[float, float]:
    """Wilson's interval of a share; (0, 1) where there is nothing to judge by."""
    if not total:
        return 0.0, 1.0
    share, z = count / total, DEVIATIONS
    shrink = 1 + z**2 / total
    centre = (share + z**2 / (2 * total)) / shrink
    half = z * sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def is_above(count: int, total: int, threshold: float) -> bool:
    """Whether a share is surely larger than a threshold."""
    return interval(count, total)[0] > threshold


def has_fallen(before: tuple[int, int], now: tuple[int, int], least: float) -> bool:
    """Whether the share count / total is surely smaller now, and by at least so much."""
    if not before[1] or not now[1]:
        return False
    return interval(*now)[1] < interval(*before)[0] and before[0] / before[1] - now[0] / now[1] >= least
