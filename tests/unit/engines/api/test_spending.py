"""What an API was paid for: sums that outlive processes, money by the prices of today, limits that say how to go on."""

import multiprocessing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cgd_ray.config import ApiConfig, Config
from cgd_ray.data.records import PROBLEM_SCHEMA
from cgd_ray.data.rundir import RunDir
from cgd_ray.engines.api.spending import Account, Journal, Purchase, Spending, spent
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.reporting.summary import closing_rows, summarise
from tests.chaos.dying import die_at


def bought(key: str | None = "k", text: str = "answer") -> Purchase:
    return Purchase(key=key, prompt_tokens=1_000, cached_tokens=400, tokens=50, text=text, finish_reason="stop")


def api(**settings: Any) -> ApiConfig:
    return ApiConfig(base_url="http://127.0.0.1/v1", **settings)


PRICES = {"price_per_million_input_tokens": 2.0, "price_per_million_output_tokens": 10.0}


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ({}, None),
        ({"price_per_million_input_tokens": 2.0}, None),
        (PRICES, 0.0025),  # 1,000 x 2 + 50 x 10
        ({**PRICES, "price_per_million_cached_tokens": 0.5}, 0.0019),  # 600 x 2 + 400 x 0.5 + 50 x 10
    ],
)
def test_tokens_cost_what_their_prices_say(prices: dict[str, float], cost: float | None) -> None:
    assert Spending().plus(bought()).cost(api(**prices)) == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({}, None),
        ({"max_tokens_total": 2_101}, None),
        (
            {"max_tokens_total": 2_100},
            "teacher.api.max_tokens_total 2,100 is reached: 2,100 tokens spent, 2 answers with 2,000 input and 100",
        ),
        ({**PRICES, "max_cost": 0.0051}, None),
        ({**PRICES, "max_cost": 0.005, "currency": "EUR"}, "teacher.api.max_cost 0.005 EUR is reached: 0.0050 EUR spent on 2 answers"),
    ],
)
def test_a_limit_is_reached_by_what_was_spent(limits: dict[str, Any], line: str | None) -> None:
    reason = Spending().plus(bought()).plus(bought()).reached_limit(api(**limits))
    assert reason is None if line is None else str(reason).startswith(line)
    assert reason is None or reason.endswith("raise it and run the same command again to go on")


def test_every_engine_knows_what_all_have_bought_in_this_life_and_before(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.add(bought("one", "lone \ud800 surrogate\n"))
    second.add(bought("two"))
    second.add(bought(None))
    for ledger in (first, second, Journal(tmp_path)):
        assert ledger.spending() == Spending(answers=3, prompt_tokens=3_000, cached_tokens=1_200, tokens=150) == spent(tmp_path)
        assert ledger.bought("one") == bought("one", "lone \ud800 surrogate\n")
        assert ledger.bought("two") == bought("two")
        assert ledger.bought("three") is None


def test_an_account_follows_what_is_spent(tmp_path: Path) -> None:
    account, ledger = Account(tmp_path), Journal(tmp_path)
    for answers in (1, 2, 3):
        ledger.add(bought(str(answers)))
        assert account.spending().answers == answers


def test_looking_writes_nothing(tmp_path: Path) -> None:
    assert spent(tmp_path / "none") == Spending()
    assert Journal(tmp_path / "none").bought("k") is None
    assert list(tmp_path.iterdir()) == []


def test_a_line_torn_by_a_kill_is_not_counted_until_it_is_whole(tmp_path: Path) -> None:
    Journal(tmp_path).add(bought())
    file = next(tmp_path.glob("*.jsonl"))
    line = file.read_bytes()
    reader = Journal(tmp_path)
    for length in (1, len(line) // 2, len(line) - 1):
        file.write_bytes(line + line[:length])
        assert reader.spending().answers == 1
    file.write_bytes(line + line)
    assert reader.spending().answers == 2
    file.write_bytes(line + line + b'{"key": \n' + line)  # damage in the middle
    assert reader.spending().answers == 3


def test_following_the_others_reads_no_texts(tmp_path: Path) -> None:
    ledger = Journal(tmp_path)
    for key in "abc":
        ledger.add(bought(key, text="x" * 10_000))
    (file,) = tmp_path.glob("*.jsonl")
    texts = file.read_bytes()
    file.write_bytes(b"?" * len(texts))
    assert spent(tmp_path).answers == 3
    assert file.with_suffix(".index").stat().st_size < 0.02 * len(texts)
    assert Journal(tmp_path).bought("b") is None  # what is damaged is bought again
    file.write_bytes(texts)
    assert Journal(tmp_path).bought("b") == bought("b", text="x" * 10_000)


@pytest.mark.parametrize("kept", ["none", "one line", "half a line", "damaged"])
def test_what_an_index_lacks_is_read_from_the_journal(kept: str, tmp_path: Path) -> None:
    ledger = Journal(tmp_path)
    for key in "abc":
        ledger.add(bought(key))
    (index,) = tmp_path.glob("*.index")
    first, second, third = index.read_bytes().splitlines(keepends=True)
    content = {"one line": first, "half a line": first + second[:9], "damaged": first + b"{}\n" + third}
    index.unlink() if kept == "none" else index.write_bytes(content[kept])  # an older version had none
    assert spent(tmp_path) == Spending(answers=3, prompt_tokens=3_000, cached_tokens=1_200, tokens=150)
    assert [Journal(tmp_path).bought(key) is not None for key in "abcd"] == [True, True, True, False]


def buy_and_tell(root: Path, step: int, moment: str) -> None:
    """Buy three answers, telling of each once it is written down, and end at the given durable step."""
    ledger = Journal(root / "spending")
    die_at(["write", "fsync"], step, moment)
    for key in "abc":
        ledger.add(bought(key))
        with (root / "told").open("a") as told:
            told.write(key)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", range(1, 10))
def test_a_process_that_ends_at_a_durable_step_loses_at_most_the_purchase_it_was_writing(step: int, moment: str, tmp_path: Path) -> None:
    (tmp_path / "told").touch()
    dying = multiprocessing.get_context("fork").Process(target=buy_and_tell, args=(tmp_path, step, moment))
    dying.start()
    dying.join(60)
    assert dying.exitcode == 9
    told, ledger = (tmp_path / "told").read_text(), Journal(tmp_path / "spending")
    known = "".join(key for key in "abc" if ledger.bought(key) is not None)
    assert known in (told, told + "abc"[len(told)])  # written, and not yet told
    ledger.add(bought("next"))
    assert spent(tmp_path / "spending").answers == len(known) + 1


def test_the_summary_tells_what_was_spent_on_an_endpoint(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    problem = {"problem_id": "p", "question": "q", "reference_answer": None, "reference_solution": None, "error": None}
    write_work_list(make_work_list(pa.Table.from_pylist([problem], schema=PROBLEM_SCHEMA), num_samples=1), run.work_list)
    Journal(run.spending).add(bought())
    tree = {"run_dir": str(tmp_path), "problems": {"path": "p"}, "student": {"model": "s"}, "teacher": {"model": "t"}}
    assert summarise(Config.model_validate(tree), run)["spending"] is None
    tree["teacher"] = {"model": "t", "api": {"base_url": "http://127.0.0.1/v1", **PRICES}}
    summary = summarise(Config.model_validate(tree), run)
    assert summary["spending"] == {
        "answers": 1,
        "prompt_tokens": 1_000,
        "cached_tokens": 400,
        "tokens": 50,
        "cost": 0.0025,
        "currency": "USD",
    }
    assert {"stage": "teacher's API", "result": "1 answers, 1,000 input and 50 output tokens, 0.0025 USD"} in closing_rows(summary)
