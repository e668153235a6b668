"""Reasons are counted by kind, and each kind is told by a real reason."""

from cgd_ray.data.reasons import MOST_KINDS, ReasonCounts, kind_of


def test_reasons_of_one_kind_differ_in_their_numbers_alone() -> None:
    assert kind_of("prompt of 1,234 tokens, 0.5 s") == kind_of("prompt of 7 tokens, 12 s") == "prompt of N tokens, N s"
    assert kind_of("prompt of 7 tokens") != kind_of("prompt of 7 words")


def test_the_most_common_kinds_are_told_by_their_first_reason() -> None:
    reasons = ReasonCounts()
    for reason in ["rare", "prompt of 9 tokens", *(f"prompt of {number} tokens" for number in range(100)), *map(chr, range(97, 123))]:
        reasons.add(reason)
    assert reasons.total() == 128
    assert list(reasons.most_common().items())[:2] == [("prompt of 9 tokens", 101), ("rare", 1)]
    assert len(reasons.most_common()) == MOST_KINDS
