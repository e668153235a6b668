"""Instructions are checked as IFEval's and IFBench's authors do, lm-eval being the oracle; nothing is downloaded."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.grading.grader import Grader
from cgd_ray.grading.graders import grader_named
from cgd_ray.grading.instructions import Followed
from cgd_ray.grading.verdict import Answer, Ungradable, Verdict
from tests.unit.grading.instruction_rows import KINDS, row, rows, write_nltk_data

LM_EVAL = """
import importlib.util, json, sys
sys.modules.update(dict.fromkeys(("numpy", "pandas", "scipy", "sklearn")))
for package in ("lm_eval", "lm_eval.tasks"):  # their fronts, which are not run, import the whole harness
    sys.modules[package] = importlib.util.module_from_spec(importlib.util.find_spec(package))
from langdetect import DetectorFactory
from lm_eval.tasks.ifeval.utils import agg_inst_level_acc, process_results
DetectorFactory.seed = 0
rows = json.load(sys.stdin)
found = [process_results({"key": 0, "prompt": row["question"], **row}, [row["answer"]]) for row in rows]
numbers = {f"prompt_{how}": sum(one[f"prompt_level_{how}_acc"] for one in found) / len(found) for how in ("strict", "loose")}
numbers |= {f"instruction_{how}": agg_inst_level_acc([one[f"inst_level_{how}_acc"] for one in found]) for how in ("strict", "loose")}
print(json.dumps([numbers, [[one["inst_level_strict_acc"], one["inst_level_loose_acc"]] for one in found]]))
"""


@pytest.fixture(scope="module")
def nltk_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("nltk")
    write_nltk_data(directory)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NLTK_DATA", str(directory))
        yield directory


@pytest.fixture(scope="module")
def ifeval(nltk_data: Path) -> Iterator[Grader]:
    with grader_named("ifeval", timeout_s=20.0, num_workers=1) as made:
        yield made


def answers(made: list[dict[str, Any]]) -> list[Answer]:
    return [Answer(text=one["answer"], reference=None, fields=one) for one in made]


def test_each_kind_of_instruction_is_followed_and_broken(ifeval: Grader) -> None:
    assert len({instruction for instruction, *_ in KINDS}) == 25
    following = ifeval.verdicts(answers([row([number], follows) for number, (_, _, follows, _) in enumerate(KINDS)]))
    breaking = ifeval.verdicts(answers([row([number], breaks) for number, (_, _, _, breaks) in enumerate(KINDS)]))
    assert [(verdict.correct, verdict.reason) for verdict in following] == [(True, "follows all 1")] * len(KINDS)
    assert [(verdict.correct, verdict.reason) for verdict in breaking] == [(False, f"breaks {instruction}") for instruction, *_ in KINDS]


@pytest.mark.parametrize("number", [50, pytest.param(541, marks=pytest.mark.slow)])
def test_the_four_numbers_are_those_of_lm_eval(number: int, ifeval: Grader) -> None:
    made = rows(number, seed=number)
    done = subprocess.run([sys.executable, "-c", LM_EVAL], input=json.dumps(made), capture_output=True, text=True, check=True)
    numbers, by_row = json.loads(done.stdout.splitlines()[-1])
    verdicts = ifeval.verdicts(answers(made))
    assert [[list(verdict.strictly), list(verdict.loosely)] for verdict in verdicts if isinstance(verdict, Followed)] == by_row
    assert ifeval.kind.numbers(answers(made), verdicts) == pytest.approx(numbers, abs=1e-12)
    assert 0.1 < numbers["prompt_strict"] < numbers["prompt_loose"] < 0.9


def test_an_answer_that_was_not_given_or_not_checked_in_time_follows_nothing(ifeval: Grader) -> None:
    given = answers([row([0, 1], KINDS[1][2]), row([2, 3, 4], "")])
    verdicts = [*ifeval.verdicts(given[:1]), Verdict(correct=False, extracted=None, reason="timeout")]
    assert ifeval.verdicts([Answer(text=None, reference=None, fields=given[0].fields)])[0].reason == "no answer"
    expected = {"prompt_strict": 0.5, "prompt_loose": 0.5, "instruction_strict": 0.4, "instruction_loose": 0.4}
    assert ifeval.kind.numbers(given, verdicts) == expected


def test_a_row_that_is_none_of_the_benchmark_is_refused_in_one_line(ifeval: Grader) -> None:
    for fields, line in (
        (
            {"instruction_id_list": ["punctuation:no_commas"], "kwargs": [{}]},
            "knows no instruction 'punctuation:no_commas'; did you mean punc",
        ),
        ({"instruction_id_list": ["words:start_verb"], "kwargs": [{}]}, "grader ifeval knows no instruction 'words:start_verb'"),
        (
            {"instruction_id_list": ["punctuation:no_comma"], "kwargs": []},
            r"one mapping for each of its instructions \['punctuation:no_comma'\]",
        ),
        ({"question": "?"}, "needs instruction_id_list, a list of ids; it has None"),
    ):
        with pytest.raises(Ungradable, match=line) as refused:
            ifeval.verdicts([Answer(text="a", reference=None, fields=fields)])
        assert "\n" not in str(refused.value)


def test_ifbench_is_checked_and_what_data_it_lacks_is_told(nltk_data: Path) -> None:
    def one(instruction: str, text: str, **arguments: Any) -> Answer:
        return Answer(text=text, reference=None, fields={"instruction_id_list": [instruction], "kwargs": [arguments], "question": "Write."})

    with grader_named("ifbench", timeout_s=20.0, num_workers=1) as grader:
        given = [
            one("words:start_verb", "Write of rivers."),
            one("words:start_verb", "Rivers run."),
            one("count:numbers", "1 and 2", N=2),
            one("format:no_whitespace", "a b"),
            one("format:no_whitespace", "ab"),
            one("words:palindrome", "no"),
        ]
        assert [verdict.correct for verdict in grader.verdicts(given)] == [True, False, True, False, True, False]
        (failed,) = grader.verdicts([one("count:numbers", "1 and 2", N="two")])
        assert failed.correct is None
        assert failed.reason.startswith("the checker of count:numbers raised ")
        with pytest.raises(Ungradable, match=r"the instruction ratio:stop_words needs NLTK's data stopwords, which .* set NLTK_DATA"):
            grader.verdicts([one("ratio:stop_words", "old mill", percentage=10)])
