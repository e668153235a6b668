"""The examples of any arm as JSON lines for other trainers: TRL, and the Alpaca and ShareGPT forms that many tools read.

They are exactly those of a training with the same settings: same selection, mix, budget, critiques, shortened attempts.
A reader must put the loss on the last answer alone, as this project does. TRL does so for prompt-completion data; for alpaca and sharegpt
it is a setting of the reader (e.g. LLaMA-Factory's mask_history), since an attempt is an assistant's turn too.
How to use: `export_examples(prepare(config), "trl", Path("train.jsonl"))`, or `cgd export-data CONFIG --format trl --output train.jsonl`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from cgd_ray.data.prompts import Message
from cgd_ray.data.rundir import atomic_write
from cgd_ray.training.examples.arms import ArmExample
from cgd_ray.training.examples.preparation import Prepared

SHAREGPT_NAMES = {"system": "system", "user": "human", "assistant": "gpt"}


def trl(example: ArmExample) -> dict[str, Any]:
    """TRL's conversational prompt-completion form."""
    answer = Message(role="assistant", content=example.target)
    return {"prompt": _turns(example.messages), "completion": _turns([answer])}


def alpaca(example: ArmExample) -> dict[str, Any]:
    """The last question as the instruction; system message and earlier turns as in LLaMA-Factory."""
    system = "".join(message.content for message in example.messages if message.role == "system")
    *earlier, question = [message.content for message in example.messages if message.role != "system"]
    history = [list(pair) for pair in zip(earlier[::2], earlier[1::2], strict=True)]
    return {"instruction": question, "input": "", "output": example.target, "system": system, "history": history}


def sharegpt(example: ArmExample) -> dict[str, Any]:
    """One list of turns, the target last."""
    turns = [*example.messages, Message(role="assistant", content=example.target)]
    return {"conversations": [{"from": SHAREGPT_NAMES[turn.role], "value": turn.content} for turn in turns]}


FORMATS: dict[str, Callable[[ArmExample], dict[str, Any]]] = {"trl": trl, "alpaca": alpaca, "sharegpt": sharegpt}


def export_examples(examples: Iterable[Prepared], form: str, output: Path) -> int:
    """Write one JSON line per example; returns their number. Raises ValueError, and writes nothing, when there are none."""
    written = 0
    with atomic_write(output) as temporary:
        with temporary.open("w", encoding="utf-8") as stream:
            for item in examples:
                stream.write(json.dumps(FORMATS[form](item.conversation), ensure_ascii=False) + "\n")
                written += 1
        if written == 0:
            raise ValueError("there is no example to export; `cgd inspect` with the same settings tells why")
    return written


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
