"""An engine is started again where what kept it from starting may pass, and refused at once where it cannot."""

import errno
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from cgd_ray.config import RoleConfig
from cgd_ray.engines.engine import Engine
from cgd_ray.engines.starting import WAITS_S, may_pass, started
from tests.fakes import FakeEngines

ROLE = RoleConfig(model="small")


class HubError(OSError):
    """As a hub's client raises it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.response = SimpleNamespace(status_code=status)


class ConnectError(Exception):
    """As HTTP libraries call a missing connection."""


def wrapped(cause: Exception) -> ValueError:
    """As what loads a tokenizer wraps what it meets, without showing it."""
    try:
        try:
            raise cause
        except Exception as error:
            raise ValueError(f"model m has no loadable tokenizer: {error}") from None
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (HubError(429), True),
        (wrapped(HubError(503)), True),
        (wrapped(HubError(404)), False),
        (wrapped(ConnectError("no route")), True),
        (wrapped(FileNotFoundError("tokenizer.json")), False),
        (ValueError("Free memory on device cuda:0 (3.1/139.8 GiB) on startup is less than desired GPU memory utilization"), True),
        (ValueError("max_model_len 9000 is larger than the model's 8192"), False),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_0': 1}"), True),
        (RuntimeError("quantization gguf is not known for this model"), False),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError("m does not appear to have a file named config.json"), False),
        (ImportError("no module"), False),
    ],
)
def test_what_may_pass_is_told_from_what_no_wait_mends(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes


def failing(times: int, error: Exception) -> tuple[Callable[[RoleConfig], Engine], list[int]]:
    """A factory that fails so often, and the tries it has seen."""
    tries: list[int] = []

    def start(role: RoleConfig) -> Engine:
        tries.append(len(tries))
        if len(tries) <= times:
            raise error
        return FakeEngines()(role)

    return start, tries


def test_a_start_is_tried_again_after_ever_longer_waits() -> None:
    factory, tries = failing(3, HubError(429))
    waits: list[float] = []
    started(factory, ROLE, waits.append)
    assert len(tries) == 4
    assert all(0.5 * wait <= waited <= 1.5 * wait for wait, waited in zip(WAITS_S[:3], waits, strict=True))


def test_a_start_that_never_succeeds_raises_its_last_error() -> None:
    factory, tries = failing(99, HubError(429))
    with pytest.raises(HubError):
        started(factory, ROLE, lambda seconds: None)
    assert len(tries) == len(WAITS_S) + 1


def test_a_refused_setting_is_refused_at_once_and_in_one_line() -> None:
    factory, tries = failing(99, ValueError("1 validation error\n  max_num_seqs is -1\n  for further information visit"))
    with pytest.raises(ValueError, match=r"^1 validation error max_num_seqs is -1 for further information visit$"):
        started(factory, ROLE, lambda seconds: None)
    assert len(tries) == 1
