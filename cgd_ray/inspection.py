"""Shows what a student is trained on: whole examples with the trained tokens in colour, their lengths, and what is not trained on and why.

What is shown is decoded from the token ids that training gets, so a wrong mask, a doubled BOS or a missing end token can be seen.
How to use: `inspect(config, count=3)`, or `cgd inspect CONFIG [--arm cgd] [--count 3] [--html FILE]`.
"""

import html
import re
import string
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cgd_ray.chat import Chat
from cgd_ray.config import Config
from cgd_ray.rundir import atomic_write
from cgd_ray.training.preparation import Preparation, Prepared, prepare

HEADING_STYLE, CONTEXT_STYLE, TRAINED_STYLE = "bold", "dim", "bold green"
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed: a text must not steer the terminal
PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #ccc; border-radius: 4px; padding: 0.8em; color: #777 }
mark { background: #c9f2c9; color: #063 } h2 { font-size: 1em; margin: 2em 0 0 } th { text-align: left; padding-right: 2em }
</style></head><body><h1>$title</h1><table>
$rows
</table>
<p>Trained tokens are <mark>marked</mark>; all others are context without loss.</p>
$examples
</body></html>
""")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One example, ready to be shown."""

    heading: str
    context: str
    """The tokens without loss, decoded."""
    trained: str
    """The tokens with loss, decoded; the end token is the last."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is known about the examples of a run."""

    title: str
    facts: Sequence[tuple[str, str]]
    examples: Sequence[Shown]


def inspect(config: Config, count: int, html_file: Path | None = None) -> None:
    """Show `count` examples and the counts of all on the terminal, or write them as one HTML file.

    Raises ValueError when the run directory holds no selected records, or none with the columns of the arm.
    """
    found = look(config, prepare(config), count)
    if html_file is None:
        show(found, Console(file=sys.stdout, highlight=False, soft_wrap=True))
        return
    with atomic_write(html_file) as temporary:
        temporary.write_text(as_html(found), encoding="utf-8")
    sys.stdout.write(f"{html_file}: {len(found.examples):,} examples\n")


def look(config: Config, preparation: Preparation, count: int) -> Inspection:
    """Go through all examples and keep the first `count` of them."""
    shown: list[Shown] = []
    lengths: list[int] = []
    for item in preparation:
        lengths.append(len(item.example.input_ids))
        if len(shown) < count:
            shown.append(_shown(item, preparation.chat))
    title = f"{config.training.arm_label}: what {config.student.model} is trained on"
    return Inspection(title=title, facts=_facts(preparation, lengths, config.training.context_length), examples=shown)


def show(found: Inspection, console: Console) -> None:
    """Print to a terminal."""
    for shown in found.examples:
        console.print(Text(f"\n{shown.heading}", HEADING_STYLE))
        console.print(Text.assemble((_visible(shown.context), CONTEXT_STYLE), (_visible(shown.trained), TRAINED_STYLE)))
    table = Table(title=Text(found.title), title_justify="left", show_header=False)
    for fact in found.facts:
        table.add_row(*map(Text, fact))
    console.print(table)


def as_html(found: Inspection) -> str:
    """One file without scripts or references to others; every text is escaped."""
    rows = [f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in found.facts]
    examples = [
        f"<h2>{html.escape(shown.heading)}</h2>\n<pre>{_escaped(shown.context)}<mark>{_escaped(shown.trained)}</mark></pre>"
        for shown in found.examples
    ]
    return PAGE.substitute(title=html.escape(found.title), rows="\n".join(rows), examples="\n".join(examples))


def _shown(item: Prepared, chat: Chat) -> Shown:
    ids, start = item.example.input_ids, item.example.prompt_length
    cut = f", attempt shortened by {item.attempt_tokens_cut:,} tokens" if item.attempt_tokens_cut else ""
    heading = f"{item.record_id}, {item.arm}, verdict {item.verdict}: {start:,} tokens of context, {item.num_targets:,} trained{cut}"
    return Shown(heading=heading, context=_decoded(chat, ids[:start]), trained=_decoded(chat, ids[start:]))


def _facts(preparation: Preparation, lengths: Sequence[int], context_length: int) -> list[tuple[str, str]]:
    report = preparation.report()
    facts = [("examples", f"{report['examples']:,} of {preparation.num_records:,} selected records")]
    if lengths:
        facts += [
            ("by arm", _listed(report["arms"].items())),
            ("by verdict", _listed(report["verdicts"].items())),
            ("target tokens", f"{report['target_tokens']:,} of {sum(lengths):,} tokens"),
            ("tokens of an example", f"{min(lengths):,} to {max(lengths):,}, median {median(lengths):,.0f}; at most {context_length:,}"),
        ]
    return [
        *facts,
        ("attempt shortened", f"{report['attempt_shortened']:,}"),
        ("dropped", _listed(report["dropped"].items()) or "none"),
    ]


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts)


def _decoded(chat: Chat, ids: Sequence[int]) -> str:
    return str(chat.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _visible(text: str) -> str:
    """Control characters as hexadecimal codes."""
    return CONTROL_CHARACTERS.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def _escaped(text: str) -> str:
    return html.escape(_visible(text))
