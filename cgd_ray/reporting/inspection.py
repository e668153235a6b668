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
from itertools import groupby
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cgd_ray.config import Config
from cgd_ray.data.chat import Chat
from cgd_ray.data.rundir import atomic_write
from cgd_ray.training.examples.preparation import Preparation, Prepared, prepare

HEADING_STYLE, CONTEXT_STYLE, TRAINED_STYLE = "bold", "dim", "bold green"
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed: a text must not steer the terminal
PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title><style>
:root { color-scheme: light dark; --text: #1f2328; --quiet: #59636e; --line: #d1d9e0; --paper: #fff; --inset: #f6f8fa;
  --trained: #c8f0cf; --on-trained: #0b3d17; --control: #8250df; --right: #1a7f37; --wrong: #cf222e }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --quiet: #9198a1; --line: #3d444d; --paper: #0d1117; --inset: #151b23;
  --trained: #12401f; --on-trained: #b4f1c0; --control: #c297ff; --right: #3fb950; --wrong: #ff7b72 } }
body { font: 15px/1.55 system-ui, sans-serif; max-width: 62em; margin: 2.5em auto; padding: 0 1.2em; color: var(--text);
  background: var(--paper); overflow-wrap: anywhere }
h1 { font-size: 1.4em; line-height: 1.3 } h2 { font-size: 1em; margin: 2.2em 0 0.4em; display: flex; flex-wrap: wrap; gap: 0.6em }
table { border-collapse: collapse } th, td { text-align: left; vertical-align: top; padding: 0.25em 2em 0.25em 0 }
th { font-weight: normal; color: var(--quiet); white-space: nowrap } p, .counts { color: var(--quiet) } .counts { font-weight: normal }
code, pre { font: 13px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
pre { white-space: pre-wrap; margin: 0; padding: 1em; border: 1px solid var(--line); border-radius: 0 0 6px 6px; background: var(--inset);
  color: var(--quiet) }
mark { background: var(--trained); color: var(--on-trained); border-radius: 2px } i { color: var(--control); font-style: normal }
.right { color: var(--right) } .wrong { color: var(--wrong) }
.bar { display: flex; height: 5px; background: var(--line); border-radius: 6px 6px 0 0; overflow: hidden }
.bar span { background: var(--quiet) } .bar b { background: var(--right) }
</style></head><body><h1>$title</h1><table>
$rows
</table>
<p><mark>Trained tokens</mark> carry loss, all others are context. <i>Control tokens</i> are the chat template's own; what looks like
one and is not coloured so is data. A bar shows an example's part of the $context_length tokens of a row.</p>
$examples
</body></html>
""")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Neighbouring tokens of one kind, decoded."""

    text: str
    is_control: bool
    """Whether they are tokens of the chat template, and not of data that may spell the same."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One example, ready to be shown."""

    record_id: str
    arm: str
    verdict: str
    counts: str
    """How many tokens it has of which kind, in words."""
    num_context: int
    num_trained: int
    context: Sequence[Piece]
    """The tokens without loss."""
    trained: Sequence[Piece]
    """The tokens with loss; the end token is the last."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is known about the examples of a run."""

    title: str
    facts: Sequence[tuple[str, str]]
    examples: Sequence[Shown]
    context_length: int
    """Tokens of a row, the most that an example can have."""


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
    context_length = config.training.context_length
    return Inspection(title=title, facts=_facts(preparation, lengths, context_length), examples=shown, context_length=context_length)


def show(found: Inspection, console: Console) -> None:
    """Print to a terminal."""
    for shown in found.examples:
        console.print(Text(f"\n{shown.record_id}, {shown.arm}, verdict {shown.verdict}: {shown.counts}", HEADING_STYLE))
        context, trained = (_visible("".join(piece.text for piece in pieces)) for pieces in (shown.context, shown.trained))
        console.print(Text.assemble((context, CONTEXT_STYLE), (trained, TRAINED_STYLE)))
    table = Table(title=Text(found.title), title_justify="left", show_header=False)
    for fact in found.facts:
        table.add_row(*map(Text, fact))
    console.print(table)


def as_html(found: Inspection) -> str:
    """One file without scripts or references to others; every text is escaped."""
    rows = [f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in found.facts]
    return PAGE.substitute(
        title=html.escape(found.title),
        rows="\n".join(rows),
        context_length=f"{found.context_length:,}",
        examples="\n".join(_example_as_html(shown, found.context_length) for shown in found.examples),
    )


def _example_as_html(shown: Shown, context_length: int) -> str:
    context_share, trained_share = (100 * count / context_length for count in (shown.num_context, shown.num_trained))
    return (
        f'<h2><code>{html.escape(shown.record_id)}</code> {html.escape(shown.arm)} <span class="{html.escape(shown.verdict)}">'
        f'verdict {html.escape(shown.verdict)}</span> <span class="counts">{html.escape(shown.counts)}</span></h2>\n'
        f'<div class="bar"><span style="width:{context_share:.2f}%"></span><b style="width:{trained_share:.2f}%"></b></div>\n'
        f"<pre>{_pieces_as_html(shown.context)}<mark>{_pieces_as_html(shown.trained)}</mark></pre>"
    )


def _pieces_as_html(pieces: Sequence[Piece]) -> str:
    texts = [(html.escape(_visible(piece.text)), piece.is_control) for piece in pieces]
    return "".join(f"<i>{text}</i>" if is_control else text for text, is_control in texts)


def _shown(item: Prepared, chat: Chat) -> Shown:
    ids, start = item.example.input_ids, item.example.prompt_length
    cut = f", attempt shortened by {item.attempt_tokens_cut:,} tokens" if item.attempt_tokens_cut else ""
    return Shown(
        record_id=item.record_id,
        arm=item.arm,
        verdict=item.verdict,
        counts=f"{start:,} tokens of context, {item.num_targets:,} trained{cut}",
        num_context=start,
        num_trained=item.num_targets,
        context=_pieces(chat, ids[:start]),
        trained=_pieces(chat, ids[start:]),
    )


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


def _pieces(chat: Chat, ids: Sequence[int]) -> list[Piece]:
    """The tokens as text, cut where control tokens begin and end."""
    runs = groupby(ids, key=lambda token: token in chat.control_ids)
    return [Piece(text=_decoded(chat, list(run)), is_control=is_control) for is_control, run in runs]


def _decoded(chat: Chat, ids: Sequence[int]) -> str:
    return str(chat.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _visible(text: str) -> str:
    """Control characters as hexadecimal codes."""
    return CONTROL_CHARACTERS.sub(lambda found: f"\\x{ord(found.group()):02x}", text)
