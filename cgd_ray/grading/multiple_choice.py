r"""Multiple choice: the letter of an option, however it is written, or the option's own text.

Read are "B", "(B)", "B) 5 cm", "**B**", `\boxed{\text{B}}`, "Answer: B", "the correct option is B", and "5 cm" where that is what option B
says. A letter inside a word is none, nor is the article in "A dog" or the pronoun in "I think", and two letters are no answer.
The last box counts, else a final-answer phrase, else the last line where that is an option or has one in brackets.
A row gives its options in `choices`; its reference is a letter or the text of an option.
"""

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cgd_ray.grading.boxed_math import compared_by_algebra, load_algebra
from cgd_ray.grading.extraction import Found, boxed_answer, innermost, last_line, phrased_answer
from cgd_ray.grading.verdict import Answer, FoundBy, Ungradable, Verdict, no_verdict

LETTERS = string.ascii_uppercase
NUM_LETTERS = 10
"""That are taken for options where a row does not tell its choices."""

_DECORATION = re.compile(
    r"\\(?:text|math)(?:bf|rm|it|sf|tt|normal)?\s*(?=\{)|\\(?:left|right|displaystyle)(?![a-zA-Z])|\\[()\[\],;! ]|[{}$*`~]"
)
_ALONE = re.compile(r"[(\[]?([A-Za-z])[)\]]?[.:,;)]?")
_NAMED = re.compile(r"(?i:(?:the\s+)?(?:answer|option|choice)\s*(?:is\s*)?:?\s*)[(\[]?([A-Z])[)\]]?(?![a-zA-Z'])")
_WITH_ITS_TEXT = re.compile(r"[(\[]([A-Z])[)\]]|([A-Z])[).:](?=\s|$)")
_IN_A_SENTENCE = re.compile(r"([B-HJ-Z])(?=[\s,;])")  # not A, I: an article and a pronoun
_ONE_LETTER = r"(?:[oO]ptions?\s+)?[(\[]?[A-Z][)\]]?(?![a-zA-Z'])"
_SEVERAL = re.compile(rf"{_ONE_LETTER}(?:\s*(?:,|/|&|,?\s*\band\b|,?\s*\bor\b)\s*{_ONE_LETTER})+")
_BRACKETED = re.compile(r"(?<![a-zA-Z0-9])\(([A-Z])\)")


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """The right option."""

    name: str = "multiple-choice"
    ways: tuple[FoundBy, ...] = ("box", "phrase", "last line")

    def prepare(self) -> None:
        """Load math-verify and sympy: an option's text may be mathematics."""
        load_algebra()

    def at_once(self, answer: Answer) -> Verdict | None:
        """The verdict where a letter is named."""
        if (verdict := no_verdict(answer)) is not None:
            return verdict
        found = None
        for found in _places(answer):
            if (letter := letter_of(found)) is not None:
                return _verdict(answer, found, letter, "its letter")
            if _choices(answer):
                return None  # this place may say what an option says
        return _verdict(answer, found, None, "") if found else Verdict(correct=False, extracted=None, reason="no option named")

    def decide(self, answer: Answer) -> Verdict:
        """The verdict where an option's text may be what is said, which can take algebra."""
        choices, found = _choices(answer), None
        for found in _places(answer):
            if (letter := letter_of(found)) is not None:
                return _verdict(answer, found, letter, "its letter")
            saying = [place for place, choice in enumerate(choices) if compared_by_algebra(found, choice).correct]
            if len(saying) == 1:
                return _verdict(answer, found, LETTERS[saying[0]], "its text")
        assert found is not None, "else it is decided at once"
        return _verdict(answer, found, None, "")

    def numbers(self, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[str, float]:
        """None."""
        return {}


def letter_of(found: Found) -> str | None:
    """The one option whose letter is named; None where none is, or several are."""
    bare = _bare(found.answer)
    if alone := _ALONE.fullmatch(bare):
        return alone[1].upper()
    if _SEVERAL.match(bare):
        return None
    if named := _NAMED.match(bare) or _WITH_ITS_TEXT.match(bare):
        return next(letter for letter in named.groups() if letter)
    if found.by == "phrase" and (named := _IN_A_SENTENCE.match(bare)):
        return named[1]
    if found.by == "last line":
        bracketed = set(_BRACKETED.findall(bare))
        return bracketed.pop() if len(bracketed) == 1 else None
    return None


def _places(answer: Answer) -> Iterator[Found]:
    """Where an option may be named, the best place first: a box alone, where there is one."""
    assert answer.text is not None, "else there is no verdict"
    if (boxed := boxed_answer(answer.text)) is not None:
        yield Found(answer=innermost(boxed), by="box")
        return
    others: tuple[tuple[str | None, FoundBy], ...] = ((phrased_answer(answer.text), "phrase"), (last_line(answer.text), "last line"))
    yield from (Found(answer=said, by=by) for said, by in others if said is not None)


def _verdict(answer: Answer, found: Found, letter: str | None, how: str) -> Verdict:
    choices, wanted = _choices(answer), _wanted(answer)
    if letter is None:
        return Verdict(correct=False, extracted=found.answer, reason="no option, or several", found_by=found.by)
    if letter not in LETTERS[: len(choices) or NUM_LETTERS]:
        return Verdict(correct=False, extracted=letter, reason=f"none of the {len(choices) or NUM_LETTERS} options", found_by=found.by)
    return Verdict(
        correct=letter == wanted, extracted=letter, reason=f"{how}{'' if letter == wanted else f', not {wanted}'}", found_by=found.by
    )


def _choices(answer: Answer) -> Sequence[str]:
    choices = answer.fields.get("choices")
    if choices is None:
        return ()
    if isinstance(choices, str) or not all(isinstance(choice, str) for choice in choices) or not 2 <= len(choices) <= len(LETTERS):
        raise Ungradable(
            f"choices must be a list of 2 to {len(LETTERS)} texts, the row with reference {answer.reference!r} has {choices!r}"
        )
    return list(choices)


def _wanted(answer: Answer) -> str:
    """The right option's letter."""
    assert answer.reference is not None, "else there is no verdict"
    choices = _choices(answer)
    saying = [LETTERS[place] for place, choice in enumerate(choices) if choice.strip() == answer.reference.strip()]
    if len(saying) == 1:
        return saying[0]
    letter = _ALONE.fullmatch(_bare(answer.reference))
    if letter is None or letter[1].upper() not in LETTERS[: len(choices) or NUM_LETTERS]:
        options = f"its choices {list(choices)}" if choices else f"the letters {LETTERS[0]} to {LETTERS[NUM_LETTERS - 1]}"
        raise Ungradable(f"multiple-choice needs an option as reference, and {answer.reference!r} is none of {options}")
    return letter[1].upper()


def _bare(text: str) -> str:
    return _DECORATION.sub("", text).strip().strip("_").strip()
