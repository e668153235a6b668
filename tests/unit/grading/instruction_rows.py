"""Rows of all 25 kinds of IFEval's instructions with answers that follow or break them, made here, and the data of NLTK that they need."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLAIN = "The river runs past the old mill. Children play on its banks in summer. Nobody remembers who built the mill"
JSON = '{"river": "long", "mill": "old"}'
SHOUTED = "THE RIVER RUNS PAST THE OLD MILL. CHILDREN PLAY ON ITS BANKS IN SUMMER."
FRENCH = "La rivière passe devant le vieux moulin. Les enfants jouent sur ses rives en été."

# Instruction, its arguments, an answer that follows it, one that breaks it.
KINDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["mill", "river"]}, PLAIN, "The river is long."),
    ("keywords:frequency", {"keyword": "mill", "frequency": 2, "relation": "at least"}, PLAIN, "One mill."),
    ("keywords:forbidden_words", {"forbidden_words": ["bridge"]}, PLAIN, "A bridge, then."),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 1, "let_relation": "less than"}, PLAIN, "Quite so."),
    ("language:response_language", {"language": "fr"}, FRENCH, PLAIN),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "less than"},
        "One mill. Two rivers.",
        PLAIN + ". Or so. Or not.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "First.\n***\nSecond.", "First.\n\nSecond."),
    ("length_constraints:number_words", {"num_words": 10, "relation": "at least"}, PLAIN, "Few words."),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "mills"},
        "Rivers run.\n\nMills grind.",
        "Rivers run.\n\nThe mills grind.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "Dear [name], from [place].", "Dear [name]."),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "A letter.\n\nP.S. Come soon.", "A letter."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n* two", "* one\n* two\n* three"),
    ("detectable_format:constrained_response", {}, "My answer is yes.", "Yes, it is."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "An *old* mill, a *long* river.", "An *old* mill."),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb",
        "Section 1\na",
    ),
    ("detectable_format:json_format", {}, JSON, "{river: long}"),
    ("detectable_format:title", {}, "<<the mill>>\n" + PLAIN, PLAIN),
    ("combination:two_responses", {}, "One way.******Another way.", "One way.******One way."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Tell me of the mill."}, "Tell me of the mill. " + PLAIN, PLAIN),
    ("startend:end_checker", {"end_phrase": "That is all."}, PLAIN + ". That is all.", "That is all. " + PLAIN),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "An OLD and QUIET mill.",
        "An OLD mill.",
    ),
    ("change_case:english_capital", {}, SHOUTED, PLAIN),
    ("change_case:english_lowercase", {}, PLAIN.lower(), PLAIN),
    ("punctuation:no_comma", {}, PLAIN, "A mill, a river."),
    ("startend:quotation", {}, f'"{PLAIN}"', PLAIN),
]
WRAPPED = ("{}", "Sure, here it is:\n{}", "{}\nI hope that this helps!", "**Note**\n{}\n**End**", "**{}**", " \n{}\n")
"""What models write around an answer; the loose numbers look past it."""
COLUMNS = sorted({name for _, arguments, _, _ in KINDS for name in arguments})


def row(kinds: Sequence[int], answer: str) -> dict[str, Any]:
    """A row with these kinds; each argument's mapping has all columns, null where they are not the instruction's, as tables have them."""
    chosen = [KINDS[kind] for kind in kinds]
    kwargs = [dict.fromkeys(COLUMNS) | arguments for _, arguments, _, _ in chosen]
    return {"question": "Write.", "instruction_id_list": [instruction for instruction, *_ in chosen], "kwargs": kwargs, "answer": answer}


def rows(number: int, seed: int) -> list[dict[str, Any]]:
    """As many rows with one to three instructions each, and an answer that follows or breaks one of them, or all, or is empty."""
    choose = random.Random(seed)
    made = []
    for place in range(number):
        kinds = [place % len(KINDS), *choose.sample(range(len(KINDS)), choose.randrange(3))]
        said = choose.choice([KINDS[choose.choice(kinds)][choose.choice((2, 3))], KINDS[kinds[0]][2], PLAIN])
        made.append(row(kinds, choose.choice(WRAPPED).format(said) if place % 50 else choose.choice(("", " \n"))))
    return made


def write_nltk_data(directory: Path) -> None:
    """The least with which NLTK cuts sentences and words, and tells verbs; it gets no stop words."""
    punkt, tagger = (directory / part for part in ("tokenizers/punkt_tab/english", "taggers/averaged_perceptron_tagger_eng"))
    for part in (punkt, tagger):
        part.mkdir(parents=True)
    for name, text in (("abbrev_types.txt", "dr\nmr"), ("sent_starters.txt", "the"), ("collocations.tab", ""), ("ortho_context.tab", "")):
        (punkt / name).write_text(text)
    for name, value in (("weights", {}), ("tagdict", {"Write": "VB", "Rivers": "NNS"}), ("classes", ["NN", "NNS", "VB"])):
        (tagger / f"averaged_perceptron_tagger_eng.{name}.json").write_text(json.dumps(value))
