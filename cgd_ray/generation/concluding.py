"""Has an engine choose the conclusion of a critique, so that no verdict is missing or has to be read from prose.

The critique is written freely first, and then goes on from where its own conclusion began: vLLM allows no tokens but those of one of the
two words. Its prompt is a prefix that the engine still has in its cache. What is kept is a critique like any other.
How to use: `row = await concluded(engine, messages, row)` for a row whose critique was just made.
"""

from collections.abc import Sequence
from typing import Any

from cgd_ray.data.prompts import CONCLUSION, Message
from cgd_ray.engines.engine import Concluding, Engine
from cgd_ray.selection.verdicts import without_conclusion

CHOICES = (" right", " wrong")


async def concluded(engine: Engine, messages: Sequence[Message], row: dict[str, Any]) -> dict[str, Any]:
    """The row with the chosen conclusion in its critique, and its tokens counted; one whose critique was cut or is empty as it is."""
    assert isinstance(engine, Concluding), "the config refuses endpoints"
    if row["critique_finish_reason"] == "length" or not row["critique"].strip():
        return row
    beginning = f"{without_conclusion(row['critique'])}\n\n{CONCLUSION}".lstrip()
    choice = await engine.conclude(messages, beginning, CHOICES)
    counts = {"prompt_tokens": choice.prompt_tokens, "cached_tokens": choice.cached_tokens, "tokens": choice.num_tokens}
    added = {f"critique_{name}": row[f"critique_{name}"] + count for name, count in counts.items()}
    return {**row, "critique": beginning + choice.text, **added}
