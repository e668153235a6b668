"""maj@k is what counting all draws and all ties gives."""

from collections import Counter
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgd_ray.evaluation.statistics.majority import Vote, maj_at_k, mean_maj_at_k

RIGHT, SILENT = Vote("12", True), Vote(None, False)


def wrong(answer: str) -> Vote:
    return Vote(answer, False)


def chance_of_right(votes: tuple[Vote, ...]) -> float:
    """By the rules in words: who votes, who leads, and a fair coin among those."""
    tally = Counter("right" if vote.correct else vote.answer for vote in votes if vote.correct or vote.answer is not None)
    leading = [answer for answer, number in tally.items() if number == max(tally.values())]
    return 1 / len(leading) if "right" in leading else 0.0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([RIGHT, Vote("24/2", True), SILENT, wrong("1"), wrong("2"), wrong("3"), wrong("4")]), min_size=1, max_size=8)
)
def test_maj_at_k_is_the_mean_over_all_draws(votes: list[Vote]) -> None:
    for k in range(1, len(votes) + 1):
        assert maj_at_k(votes, k) == pytest.approx(fmean(map(chance_of_right, combinations(votes, k))))


def test_one_vote_is_the_share_of_right_samples() -> None:
    assert maj_at_k([RIGHT, wrong("1"), SILENT, RIGHT], 1) == pytest.approx(0.5)


def test_right_answers_that_are_written_differently_are_one_answer() -> None:
    assert maj_at_k([Vote("1/2", True), Vote("0.5", True), wrong("2"), wrong("3"), wrong("4")], 5) == 1.0


def test_a_tie_is_half_won() -> None:
    assert maj_at_k([RIGHT, wrong("1")], 2) == pytest.approx(1 / 2)
    assert maj_at_k([RIGHT, wrong("1"), wrong("2")], 3) == pytest.approx(1 / 3)


def test_samples_without_an_answer_do_not_vote() -> None:
    assert maj_at_k([RIGHT, SILENT, SILENT, SILENT], 4) == 1.0
    assert maj_at_k([SILENT, SILENT], 2) == 0.0


def test_many_samples_are_counted_too() -> None:
    votes = [RIGHT] * 90 + [wrong(str(index % 20)) for index in range(166)]
    assert maj_at_k(votes, 256) == 1.0
    assert 0.9 < maj_at_k(votes, 64) < 1.0


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="maj@3 needs k from 1 to the 2 samples"):
        mean_maj_at_k([[RIGHT, RIGHT, RIGHT], [RIGHT, SILENT]], 3)
    with pytest.raises(ValueError, match="no graded problems"):
        mean_maj_at_k([], 1)
