"""A user's own grader: a function by its import path, `package.module:function`.

It is called as `function(text, reference, fields)` with two texts and the row's further fields, and returns a bool, or a Verdict with its
reason. It runs in processes that are killed at the limit, so what it imports is imported there too. Only what Python can import is
taken: no path of a file, no expression.
How to use: `grader_named("my_package.grading:is_right", timeout_s=5)`.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cgd_ray.grading.verdict import Answer, FoundBy, Ungradable, Verdict

_PATH = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


@dataclass(frozen=True)
class Custom:
    """A function that the user has written. Raises ValueError where there is none by that name, or none to be called with three values."""

    name: str
    ways: tuple[FoundBy, ...] = ()

    def __post_init__(self) -> None:
        function_named(self.name)

    def prepare(self) -> None:
        """Import the function's module."""
        function_named(self.name)

    def at_once(self, answer: Answer) -> Verdict | None:
        """Only an answer without text is decided here: nobody knows what the function does."""
        return Verdict(correct=None, extracted=None, reason="no answer") if answer.text is None else None

    def decide(self, answer: Answer) -> Verdict:
        """What the function says; nothing where it fails."""
        try:
            said = function_named(self.name)(answer.text, answer.reference, answer.fields)
        except MemoryError:
            raise
        except Exception as error:  # a user's function may raise whatever it likes
            return Verdict(
                correct=None, extracted=None, reason=f"{self.name} raised {type(error).__name__}: {' '.join(str(error).split())}"
            )
        if isinstance(said, Verdict):
            return said
        if not isinstance(said, bool):
            raise Ungradable(
                f"grader {self.name} must return a bool or a Verdict, it returned {said!r} for the reference {answer.reference!r}"
            )
        return Verdict(correct=said, extracted=None, reason=f"{self.name} says so")

    def numbers(self, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[str, float]:
        """None: what else it may tell is in its reasons."""
        return {}


def is_import_path(name: str) -> bool:
    """Is this written as `package.module:function`?"""
    return _PATH.fullmatch(name) is not None


def function_named(path: str) -> Callable[..., Any]:
    """The function at an import path. Raises ValueError, one line that names it, where there is none that takes three values."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise ValueError(f"grader {path!r} is no import path; write package.module:function")
    try:
        module = importlib.import_module(found[1])
    except Exception as error:  # a module is a program: it may fail in any way
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"grader {path}: the module {found[1]} cannot be imported ({reason}); install it, or set PYTHONPATH") from None
    function = getattr(module, found[2], None)
    if not callable(function):
        what = "has no" if function is None else "has something else than a function as"
        raise ValueError(f"grader {path}: the module {found[1]} {what} {found[2]}")
    try:
        inspect.signature(function).bind("text", "reference", {})
    except (TypeError, ValueError):
        raise ValueError(f"grader {path} must take three values: text, reference and fields") from None
    return cast("Callable[..., Any]", function)
