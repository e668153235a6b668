"""Graders as users write them, good and bad, for the tests of custom graders."""

import os
import time
from collections.abc import Mapping
from typing import Any

from cgd_ray.grading.verdict import Verdict

NO_FUNCTION = 4


def says_the_word(text: str, reference: str | None, fields: Mapping[str, Any]) -> bool:
    """Does the text hold the row's word?"""
    return str(fields["word"]) in text


def says_why(text: str, reference: str | None, fields: Mapping[str, Any]) -> Verdict:
    """A verdict with its reason."""
    return Verdict(correct=len(text) == 3, extracted=text[:3], reason="three letters are asked for")


def does_what_it_is_told(text: str, reference: str | None, fields: Mapping[str, Any]) -> Any:
    """Hangs, eats memory, dies, fails, or returns something else, as the text says."""
    if text == "hang":
        time.sleep(600)
    if text == "eat":
        return bool(bytearray(2**32))
    if text == "die":
        os._exit(1)
    if text == "fail":
        raise RuntimeError("as\ntold")
    return "perhaps" if text == "hesitate" else True


def takes_two(text: str, reference: str) -> bool:
    """Not what is called."""
    return text == reference
