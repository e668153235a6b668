"""Whose fault a failed row is where its engine has answered nothing yet: the row's own, or that of what all rows have in common.

A setting that an endpoint or an engine refuses would else fail every row until too many have failed. So before the first failure counts,
something is asked that is no row's; where that is not answered either, the run ends and no row has failed.
How to use: `canary = Canary(ask)`; after an answer `canary.lives()`; on a failure `reason = await canary.refusal()`; where there is none it
is the row's own, `reasons.of(error)`.
"""

import asyncio
import logging
import textwrap
import traceback
from collections.abc import Awaitable, Callable

from cgd_ray.data.prompts import SIGN_OF_LIFE
from cgd_ray.engines.engine import RequestError

MAX_QUOTED = 300  # characters of an unexpected exception
UNANSWERED = (
    f"the engine answers nothing with these settings, not even {SIGN_OF_LIFE!r}: {{}}; mend that and run the same command again, or choose "
    "another run_dir with other settings; no row has failed of it"
)

logger = logging.getLogger(__name__)


class Canary:
    """What an actor knows of its engine; `ask` sends a request that is no row's."""

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        self._ask = ask
        self._lives = False
        self._asked: asyncio.Task[str | None] | None = None

    def lives(self) -> None:
        """Something was answered."""
        self._lives = True

    async def refusal(self) -> str | None:
        """Why the engine answers nothing at all; None where it answers, now or before. It is asked once, whoever wants to know."""
        if self._lives:
            return None
        if self._asked is None:
            self._asked = asyncio.ensure_future(self._refusal())
        return await asyncio.shield(self._asked)

    async def _refusal(self) -> str | None:
        try:
            await self._ask()
        except Exception as error:  # whatever it is, it was no row's doing
            return None if self._lives else UNANSWERED.format(str(error) or type(error).__name__)
        self._lives = True
        return None


class Reasons:
    """What failed rows say of their failures."""

    def __init__(self) -> None:
        self._logged: set[type[Exception]] = set()

    def of(self, error: Exception) -> str:
        """One line: an engine's own words, or an unexpected exception's type and message.

        Where an unexpected one came from is logged for the first of its type.
        """
        if isinstance(error, RequestError):
            return str(error)
        if type(error) not in self._logged:
            self._logged.add(type(error))
            logger.error("a row failed unexpectedly; others that fail with %s are not logged", type(error).__name__, exc_info=error)
        return textwrap.shorten("".join(traceback.format_exception_only(error)), MAX_QUOTED, placeholder=" ...")
