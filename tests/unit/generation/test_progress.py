"""What a meter counts: tokens also while answers are written; alike failures together, of no more kinds than Prometheus can bear."""

from collections import Counter

from cgd_ray.data.reasons import MOST_KINDS
from cgd_ray.engines.engine import Generation, Load
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


def test_what_engines_have_written_of_unfinished_answers_is_counted_until_they_are_finished() -> None:
    counts: Counter[str] = Counter()
    meter = Meter(counts.update, "student")
    for unfinished in (100, 250, 40):
        meter.load(Load(running=2, waiting=0, kv_cache_use=0.5, preemptions=0, unfinished_tokens=unfinished))
    finished = Generation(text="4", num_tokens=210, prompt_tokens=3, cached_tokens=0, finish_reason="stop")
    meter.tokens(finished)
    meter.row(is_unusable=False)
    meter.flush()
    assert (counts["unfinished_tokens"], counts["tokens"]) == (40, 210)
    assert (counts["student_rows_made"], counts["student_tokens_made"]) == (1, 210)


def test_a_reason_in_any_script_is_counted() -> None:
    assert counted("数学 \ud800") == {"数学 \ud800": 1}
