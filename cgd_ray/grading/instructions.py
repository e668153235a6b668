"""Instructions that an answer follows or breaks (IFEval, IFBench), by the benchmarks' own checkers as the package if-verifiable keeps them.

Why this package: it has the checkers of both benchmarks, unchanged; lm-eval has those of IFEval alone, with 30 more packages behind them.
Strict and loose are defined here as there, and a test holds all four numbers equal to lm-eval's.
Two things differ from a plain import: the package's front and NLTK would load `datasets`, pandas, scipy and scikit-learn, which no checker
uses, in 5 s of CPU and 250 MB of every worker; and nothing is downloaded. Where a checker needs data of NLTK that are not there, one line
says which.
A row gives `instruction_id_list`, `kwargs` (one mapping for each) and `question`.
How to use: `grader_named("ifeval", timeout_s=5)`; `grader.kind.numbers(answers, verdicts)` has the four numbers.
"""

import difflib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cgd_ray.grading.verdict import Answer, FoundBy, Ungradable, Verdict

IFEVAL, IFBENCH = "ifeval", "ifbench"
PACKAGE = "if_verifiable"
UNUSED = ("numpy", "pandas", "scipy", "sklearn")
"""What NLTK imports where it is installed, and no checker uses."""

_DATA = re.compile(r"nltk\.download\(['\"](\w+)['\"]\)")


@dataclass(frozen=True, kw_only=True)
class Followed(Verdict):
    """Right where all instructions are followed strictly."""

    strictly: tuple[bool, ...]
    """For each instruction: does the answer as it stands follow it?"""
    loosely: tuple[bool, ...]
    """Does it without its first line, its last line or its asterisks?"""


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """The instructions of a benchmark, `ifeval` or `ifbench`. Raises ValueError where their package is not installed."""

    name: str
    ways: tuple[FoundBy, ...] = ()

    def __post_init__(self) -> None:
        if importlib.util.find_spec(PACKAGE) is None:
            raise ValueError(
                f"grader {self.name} needs the package if-verifiable, which is not installed; pip install 'cgd-ray[instructions]'"
            )

    def prepare(self) -> None:
        """Load the checkers."""
        checkers(self.name)

    def at_once(self, answer: Answer) -> Verdict | None:
        """Only an answer without text is decided here."""
        _instructions(answer)  # refused before a process is asked
        return Verdict(correct=None, extracted=None, reason="no answer") if answer.text is None else None

    def decide(self, answer: Answer) -> Verdict:
        """Which instructions are followed."""
        assert answer.text is not None, "else it is decided at once"
        strictly, loosely, given = [], [], _instructions(answer)
        for instruction, arguments in given:
            checker = _checker(self.name, instruction)
            try:
                strictly.append(_follows(checker(), arguments, answer, [answer.text]))
                loosely.append(_follows(checker(), arguments, answer, loose_variants(answer.text)))
            except MemoryError:
                raise
            except Exception as error:  # a checker may stumble over what a model wrote
                return _failed(error, self.name, instruction)
        broken = [instruction for (instruction, _), followed in zip(given, strictly, strict=True) if not followed]
        reason = f"breaks {', '.join(broken)}" if broken else f"follows all {len(given)}"
        return Followed(correct=not broken, extracted=None, reason=reason, strictly=tuple(strictly), loosely=tuple(loosely))

    def numbers(self, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[str, float]:
        """The four numbers; an answer without a text, or whose check took too long, follows nothing."""
        by_prompt: dict[str, list[tuple[bool, ...]]] = {"strict": [], "loose": []}
        for answer, verdict in zip(answers, verdicts, strict=True):
            nothing = (False,) * len(_instructions(answer))
            by_prompt["strict"].append(verdict.strictly if isinstance(verdict, Followed) else nothing)
            by_prompt["loose"].append(verdict.loosely if isinstance(verdict, Followed) else nothing)
        numbers = {}
        for how, followed in by_prompt.items():
            numbers[f"prompt_{how}"] = sum(map(all, followed)) / len(followed)
            numbers[f"instruction_{how}"] = sum(map(sum, followed)) / sum(map(len, followed))
        return numbers


def loose_variants(text: str) -> list[str]:
    """The text, and it without its first line, its last line and both, each with and without asterisks (IFEval, arXiv 2311.07911)."""
    lines = text.split("\n")
    variants = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*variants, *(variant.replace("*", "") for variant in variants)]


def checkers(name: str) -> Mapping[str, Callable[[str], Any]]:
    """The benchmark's checkers by the ids of their instructions; for a process of their own, as what they do not use is kept out of it."""
    if PACKAGE not in sys.modules:
        sys.modules.update({unused: None for unused in UNUSED if unused not in sys.modules})  # type: ignore[misc] # None: it is not there
        spec = importlib.util.find_spec(PACKAGE)
        assert spec is not None, "the grader looks for it"
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)  # not run: it would import `datasets`
        from langdetect import DetectorFactory

        DetectorFactory.seed = 0  # else the language of a short text is a matter of luck
    with _nothing_downloaded():
        registry: Mapping[str, Callable[[str], Any]] = importlib.import_module(f"{PACKAGE}.{name}").INSTRUCTION_DICT
    return registry


@contextmanager
def _nothing_downloaded() -> Iterator[None]:
    """While the checkers are imported: those of IFBench ask for data at once, whatever is then needed."""
    import nltk

    download, nltk.download = nltk.download, lambda *names, **options: False
    try:
        yield
    finally:
        nltk.download = download


def _follows(checker: Any, arguments: Mapping[str, Any], answer: Answer, variants: Sequence[str]) -> bool:
    checker.build_description(**arguments)
    if "prompt" in (checker.get_instruction_args() or {}):
        checker.build_description(prompt=answer.fields.get("question"))
    return any(bool(variant.strip() and checker.check_following(variant)) for variant in variants)


def _checker(name: str, instruction: str) -> Callable[[], Any]:
    known = checkers(name)
    if instruction not in known:
        near = difflib.get_close_matches(instruction, known, n=2)
        meant = f"did you mean {' or '.join(near)}?" if near else f"it knows {len(known)} others; is this a row of another benchmark?"
        raise Ungradable(f"grader {name} knows no instruction {instruction!r}; {meant}")
    return lambda: known[instruction](instruction)


def _instructions(answer: Answer) -> list[tuple[str, dict[str, Any]]]:
    """The row's instructions with their arguments; null arguments, as a table's columns have them, are none."""
    ids, arguments = answer.fields.get("instruction_id_list"), answer.fields.get("kwargs")
    if not isinstance(ids, list | tuple) or not ids:
        raise Ungradable(f"a row of instructions needs instruction_id_list, a list of ids; it has {ids!r}")
    if not isinstance(arguments, list | tuple) or len(arguments) != len(ids):
        raise Ungradable(f"a row of instructions needs kwargs, one mapping for each of its instructions {list(ids)}; it has {arguments!r}")
    given = [{name: value for name, value in (each or {}).items() if value is not None} for each in arguments]
    return list(zip(ids, given, strict=True))


def _failed(error: Exception, name: str, instruction: str) -> Verdict:
    """What failed, as a row's verdict; where data of NLTK are missing no row can be checked, and their page of advice becomes a line."""
    missing = _DATA.search(re.sub(r"\x1b\[\d+m", "", str(error))) if isinstance(error, LookupError) else None
    if missing is None:
        said = " ".join(str(error).split())
        return Verdict(correct=None, extracted=None, reason=f"the checker of {instruction} raised {type(error).__name__}: {said}")
    raise Ungradable(
        f"grader {name}: the instruction {instruction} needs NLTK's data {missing[1]}, which this machine has not; fetch it with "
        f"`python -m nltk.downloader -d DIRECTORY {missing[1]}` where there is a network, and set NLTK_DATA to the directory"
    ) from None
