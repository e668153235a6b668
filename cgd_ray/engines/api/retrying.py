"""How long to wait before an endpoint is asked again.

Why not the client's own waits: it takes no Retry-After of more than two minutes. How to use:
`await asyncio.sleep(retry_delay_s(tries, retry_after_s(header, time.time()), random.random()))`.
"""

import math
from email.utils import parsedate_to_datetime

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 60.0


def retry_after_s(header: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, which is a number of seconds or an HTTP date; None when it says neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def retry_delay_s(tries: int, retry_after_s: float | None, chance: float) -> float:
    """Seconds until the next try: doubling, half of it by chance in [0, 1), so that those refused together do not come back together.

    It is added to what the endpoint asked for: never earlier than that.
    """
    longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(tries - 1, 30))
    return (retry_after_s or 0.0) + longest * (1 + chance) / 2
