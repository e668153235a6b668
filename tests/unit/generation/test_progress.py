"""What a meter counts: failures that are alike together, and never more kinds of them than Prometheus can bear."""

from collections import Counter

from cgd_ray.data.reasons import MOST_KINDS
from cgd_ray.generation.progress import FAILED_BECAUSE, Meter


def counted(*reasons: str) -> Counter[str]:
    """The failures that are reported for rows with these reasons."""
    counts: Counter[str] = Counter()
    meter = Meter(counts.update, "teacher")
    for reason in reasons:
        meter.fail(reason)
    meter.flush()
    return Counter({name.removeprefix(FAILED_BECAUSE): count for name, count in counts.items() if name.startswith(FAILED_BECAUSE)})


def test_failures_that_differ_in_numbers_alone_are_of_one_kind() -> None:
    assert counted("prompt of 1,024 tokens", "prompt of 9,999 tokens") == {"prompt of N tokens": 2}


def test_an_endpoint_that_says_something_else_each_time_makes_a_bounded_number_of_kinds() -> None:
    kinds = counted(*["too long"] * 3, *["request " + "abcdefghij"[n % 10] * (n // 10 + 1) for n in range(100)], "too long")
    assert len(kinds) == MOST_KINDS + 1
    assert (kinds["too long"], kinds["other reasons"], kinds.total()) == (4, 101 - MOST_KINDS, 104)


def test_a_reason_in_any_script_is_counted() -> None:
    assert counted("数学 \ud800") == {"数学 \ud800": 1}
