"""What a person should know of a run, and what to do about it: said by the view beside it, by `cgd diagnose`, and on the report's page.

How to use: `Advisory(level="warning", title="Rows fail", detail="3 of 40 rows have failed; see ...")`.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Advisory:
    """One of them."""

    level: Literal["note", "warning", "error"]
    """note: nothing need be done; error: what the run makes from here on is mostly lost, or it is about to end."""
    title: str
    """A few words, without figures."""
    detail: str
    """One or two sentences with the figures and, where something is to be done, the setting to change or what to look at."""
