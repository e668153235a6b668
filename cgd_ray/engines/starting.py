"""Starts an engine, and again a little later where what kept it from starting may pass.

Of many replicas one or the other meets a hub that has been asked too often, or a GPU whose memory a dead process still holds; that must
not end a run. Whatever is not known to pass is told at once: a wait of minutes would hide it. Ray Data's own repetitions of a constructor
know no waits and no difference.
How to use, in the process that uses the engine: `engine = started(factory, role, pause=time.sleep)`.
"""

import errno
import gc
import logging
import random
from collections.abc import Callable, Iterator
from typing import NoReturn

from cgd_ray.config import RoleConfig
from cgd_ray.engines.engine import Engine, EngineFactory

logger = logging.getLogger(__name__)

WAITS_S = (10.0, 30.0, 90.0, 180.0)
"""Before each further try, give or take a half, so that replicas that were refused together do not come back together."""
PASSING_STATUSES = (408, 425, 429)  # of HTTP, and all from 500 on
PASSING_WORDS = (
    "Free memory on device",  # vLLM's refusal of a GPU on which another process holds memory: a ValueError like those of settings
    "out of memory",
    "busy or unavailable",  # CUDA's, of a GPU that another process has to itself
    "NCCL error",
    "EADDRINUSE",  # torch's, of a port for its processes that another one was faster to take
    "initialization failed",  # vLLM's, of an engine core or a worker in another process; the cause is in that one's log only
)
"""In the words of what passes, whatever its class."""
PASSING_ERRNOS = (errno.EAGAIN, errno.EBUSY, errno.EIO, errno.ENOMEM, errno.ESTALE, errno.EADDRINUSE, errno.ENETUNREACH, errno.EHOSTUNREACH)
"""Of the system: storage or a network that is away for a while, memory that is taken; a full disk is nobody's to wait for."""
CONNECTION_FAULTS = ("Connect", "Timeout", "RemoteProtocol", "ReadError")
"""In the names of what HTTP libraries raise where there was no answer; which library a hub's client uses changes."""


def started(factory: EngineFactory, role: RoleConfig, pause: Callable[[float], None]) -> Engine:
    """The engine, by at most 5 tries; `pause` waits so many seconds. Raises what the last try did, or the first that no wait can mend.

    Among them ValueError, in one line, for settings that the engine refuses.
    """
    for wait_s in WAITS_S:
        try:
            return factory(role)
        except Exception as error:
            if not may_pass(error):
                _refuse(error)
            delay_s = wait_s * (0.5 + random.random())
            logger.warning("the engine of %s did not start; another try follows in %.0f s", role.model, delay_s, exc_info=True)
        gc.collect()  # what the failed engine holds is in the frames of its exception
        pause(delay_s)
    return factory(role)


def may_pass(error: BaseException) -> bool:
    """Whether the same start may go well later: by what the error was raised from too, since libraries wrap what they meet."""
    chain = list(_chain(error))
    statuses = [status for cause in chain if (status := _http_status(cause)) is not None]
    if statuses:
        return all(status in PASSING_STATUSES or status >= 500 for status in statuses)
    return any(_is_known_to_pass(cause) for cause in chain)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what was being handled when it was raised, also where that is not shown (`from None`)."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _http_status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_known_to_pass(error: BaseException) -> bool:
    if any(words in str(error) for words in PASSING_WORDS):
        return True
    if isinstance(error, OSError) and error.errno in PASSING_ERRNOS:
        return True
    names = (kind.__name__ for kind in type(error).__mro__)
    return isinstance(error, ConnectionError | TimeoutError) or any(fault in name for name in names for fault in CONNECTION_FAULTS)


def _refuse(error: Exception) -> NoReturn:
    """Raise it again; a refusal's reason may be in any of its lines, and only one is told in the end."""
    if isinstance(error, ValueError) and "\n" in str(error):
        raise ValueError(" ".join(str(error).split())) from error
    raise error
