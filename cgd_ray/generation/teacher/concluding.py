"""Has an engine choose the conclusion of a critique, so that no verdict is missing or has to be read from prose.

The critique is written freely first, and then goes on from where its own conclusion began: vLLM allows no tokens but those of one of the
two words. What is kept is a critique like any other. The engine has the prompt in its cache still, and the critique unless a thought came
before it, which the choice is not shown.
How to use: `row = await concluded(choose, row)` for a row whose critique was just made.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from cgd_ray.data.prompts import CONCLUSION
from cgd_ray.data.records import CUT
from cgd_ray.engines.engine import Generation
from cgd_ray.selection.verdicts import without_conclusion

CHOICES = (" right", " wrong")


async def concluded(choose: Callable[[str], Awaitable[Generation]], row: dict[str, Any]) -> dict[str, Any]:
    """The row with the chosen conclusion in its critique, and its tokens counted; one whose critique was cut or is empty as it is.

    `choose` has the engine go on from what it is given with one of CHOICES.
    """
    if row["critique_finish_reason"] in CUT or not row["critique"].strip():
        return row
    beginning = f"{without_conclusion(row['critique'])}\n\n{CONCLUSION}".lstrip()
    choice = await choose(beginning)
    counts = {"prompt_tokens": choice.prompt_tokens, "cached_tokens": choice.cached_tokens, "tokens": choice.num_tokens}
    added = {f"critique_{name}": row[f"critique_{name}"] + count for name, count in counts.items()}
    return {**row, "critique": beginning + choice.text, **added}
