"""The engine on an endpoint: when it tries again, what fails a row, what ends the run, what is paid once."""

import asyncio
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from cgd_ray.config import ApiConfig, RoleConfig, SamplingConfig
from cgd_ray.data.prompts import SIGN_OF_LIFE, Message
from cgd_ray.engines.api.endpoint import ApiEngine, read_answer, request_fields
from cgd_ray.engines.api.spending import Spending, spent
from cgd_ray.engines.engine import Generation, RequestError, RunEndedError
from cgd_ray.engines.real import RealEngines
from tests.misbehaving_api import PROMPT_TOKENS, TOKENS, MisbehavingApi

KEY = "sk-canary-0123456789"


def make_role(base_url: str = "http://127.0.0.1:9/v1", **settings: Any) -> RoleConfig:
    role = {name: settings.pop(name) for name in ("sampling", "chat_template_kwargs") if name in settings}
    return RoleConfig(model="m", api=ApiConfig(base_url=base_url, **{"request_timeout_s": 30.0, "max_retries": 1, **settings}), **role)


def make_engine(role: RoleConfig, spending: Path) -> ApiEngine:
    assert role.api is not None
    return ApiEngine(role, role.api, spending)


def says(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def ask(engine: ApiEngine, *texts: str) -> list[Any]:
    """Generations, or the exceptions in their place."""

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*[engine.generate(says(text), SamplingConfig(), seed=7) for text in texts], return_exceptions=True)

    return asyncio.run(all_at_once())


def test_an_answer_is_what_the_endpoint_says_and_counts(tmp_path: Path) -> None:
    with MisbehavingApi(lambda message, number: "long" if message == "much" else None) as api:
        stopped, cut = ask(make_engine(make_role(api.base_url), tmp_path), "little", "much")
    assert isinstance(stopped, Generation)
    assert stopped.text.endswith("Conclusion: wrong")
    assert (stopped.finish_reason, cut.finish_reason) == ("stop", "length")
    assert (stopped.prompt_tokens, stopped.cached_tokens, stopped.num_tokens) == (PROMPT_TOKENS, 40, TOKENS)
    assert spent(tmp_path) == Spending(answers=2, prompt_tokens=2 * PROMPT_TOKENS, cached_tokens=80, tokens=2 * TOKENS)


def test_what_an_endpoint_has_kept_apart_as_thinking_comes_with_the_answer_and_with_what_is_in_the_journal(tmp_path: Path) -> None:
    with MisbehavingApi(lambda message, number: "thought" if message == "think" else None) as api:
        for _ in range(2):
            thoughtful, plain = ask(make_engine(make_role(api.base_url), tmp_path), "think", "say")
            assert (thoughtful.thinking, plain.thinking) == ("hm", None)
        assert api.requests.total() == 2


@pytest.mark.parametrize(("field", "thinking"), [("reasoning_content", "hm"), ("reasoning", "hm"), ("other", None)])
def test_servers_call_their_thinking_differently(field: str, thinking: str | None) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "4", field: "hm"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    tree = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    assert read_answer(ChatCompletion.model_validate(tree), "key").thinking == thinking


def test_a_request_holds_what_differs_from_the_defaults_and_the_users_fields_have_the_last_word() -> None:
    def fields(sampling: SamplingConfig, **settings: Any) -> dict[str, Any]:
        role = make_role(sampling=sampling, **settings)
        assert role.api is not None
        return request_fields(role, role.api, says("x"), sampling, seed=3)

    greedy = {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 0.0, "max_tokens": 1024}
    assert fields(SamplingConfig()) == greedy
    drawn = SamplingConfig(temperature=0.7, top_p=0.9, top_k=5, stop=("END",))
    rest = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "stop": ["END"], "seed": 3}
    assert fields(drawn) == {**greedy, **rest}
    unseeded = SamplingConfig(temperature=0.7, seed_per_request=False, min_p=0.1, min_tokens=2, stop_token_ids=(3,), logit_bias={5: -1.0})
    rest = {"temperature": 0.7, "min_p": 0.1, "min_tokens": 2, "stop_token_ids": [3], "logit_bias": {"5": -1.0}}
    assert fields(unseeded) == {**greedy, **rest}
    changes = {"max_tokens": None, "max_completion_tokens": 9, "temperature": None}
    template = {"enable_thinking": False}
    expected = {"model": "m", "messages": greedy["messages"], "max_completion_tokens": 9, "chat_template_kwargs": template}
    assert fields(SamplingConfig(), request_fields=changes, chat_template_kwargs=template) == expected


def contents(api: MisbehavingApi) -> Counter[str]:
    """How often the endpoint was asked what."""
    return Counter(body["messages"][-1]["content"] for body in api.bodies)


@pytest.mark.parametrize("fault", ["408", "409", "429", "500", "503", "stall", "broken json", "no choices", "no usage", "cut", "html"])
def test_a_fault_that_may_pass_is_tried_again_and_fails_the_row_when_it_does_not(fault: str, tmp_path: Path) -> None:
    def plan(message: str, number: int) -> str | None:
        return fault if message == "poison" or (message == "passing" and number == 0) else None

    with MisbehavingApi(plan) as api:
        # the time of an answer is left to a busy machine, that of a stall is not waited for
        engine = make_engine(make_role(api.base_url, request_timeout_s=2.0 if fault == "stall" else 30.0), tmp_path)
        passing, poison = ask(engine, "passing", "poison")
    assert isinstance(passing, Generation)
    assert isinstance(poison, RequestError)
    assert "gave no answer in 2 tries, at last: " in str(poison)
    asked = contents(api)
    assert (asked["passing"], asked["poison"]) == (2, 2)
    assert api.early == 0


@pytest.mark.parametrize("fault", ["429", "500", "cut"])
def test_an_endpoint_that_answers_nothing_any_more_ends_the_run_and_fails_no_row(fault: str, tmp_path: Path) -> None:
    with MisbehavingApi(lambda message, number: None if message == "before the storm" else fault) as api:
        before, *outcomes = ask(make_engine(make_role(api.base_url, max_retries=2), tmp_path), "before the storm", "a", "b", "c")
    assert isinstance(before, Generation)
    assert [type(outcome) for outcome in outcomes] == [RunEndedError] * 3
    expected = rf"{api.base_url} gave no answer in 3 tries, at last: .*; nor does it answer anything else: run the same command again when"
    with pytest.raises(RunEndedError, match=expected) as ended:
        raise outcomes[0]
    assert len(str(ended.value).splitlines()) == 1


@pytest.mark.parametrize("sign_of_life", [None, "400"])
def test_a_row_that_is_alone_and_never_answered_fails_where_the_endpoint_serves_anything_else(
    sign_of_life: str | None, tmp_path: Path
) -> None:
    with MisbehavingApi(lambda message, number: "500" if message == "bad" else sign_of_life) as api:
        (outcome,) = ask(make_engine(make_role(api.base_url), tmp_path), "bad")
    assert isinstance(outcome, RequestError)
    assert "gave no answer in 2 tries, at last: HTTP 500" in str(outcome)
    assert contents(api) == {"bad": 2, SIGN_OF_LIFE: 1}
    assert spent(tmp_path).answers == (1 if sign_of_life is None else 0)


@pytest.mark.parametrize(
    ("fault", "reason"), [("400", r"refuses the request \(HTTP 400\)"), ("422", r"\(HTTP 422\)"), ("filtered", "with 'content_filter'")]
)
def test_a_refused_request_fails_its_row_alone_and_is_not_repeated(fault: str, reason: str, tmp_path: Path) -> None:
    with MisbehavingApi(lambda message, number: fault if message == "bad" else None) as api:
        bad, good = ask(make_engine(make_role(api.base_url), tmp_path), "bad", "good")
    assert isinstance(good, Generation)
    with pytest.raises(RequestError, match=reason):
        raise bad
    assert set(api.requests.values()) == {1}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("401", "refuses the key in API_TEST_KEY; set a valid one on every node"),
        ("403", "refuses the key in API_TEST_KEY"),
        ("404", "has no model m"),
        ("402", "reports no credit left"),
    ],
)
def test_what_concerns_all_rows_ends_the_run_after_the_answers_on_their_way(
    status: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TEST_KEY", KEY)
    with MisbehavingApi(lambda message, number: {"slow": "slow", "first": status}.get(message)) as api:
        engine = make_engine(make_role(api.base_url, key_variable="API_TEST_KEY"), tmp_path)
        outcomes = ask(engine, "slow", "first")
        outcomes += ask(engine, "later")
    assert isinstance(outcomes[0], Generation)
    for ended in outcomes[1:]:
        with pytest.raises(RunEndedError, match=reason):
            raise ended
    assert KEY not in str(outcomes)
    assert len(api.requests) == 2
    assert spent(tmp_path).answers == 1


def test_an_ended_run_does_not_wait_for_rows_that_wait_for_their_next_try(tmp_path: Path) -> None:
    with MisbehavingApi(lambda message, number: "429 late" if message == "busy" else "404") as api:
        outcomes = ask(make_engine(make_role(api.base_url), tmp_path), "busy", "first")  # busy is to be asked again in 15 minutes
    assert all(isinstance(outcome, RunEndedError) for outcome in outcomes)


def test_an_endpoint_that_cannot_be_reached_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunEndedError, match=r"gave no answer in 2 tries, at last: the connection failed \(ConnectError.*base_url"):
        raise ask(make_engine(make_role("http://127.0.0.1:9/v1"), tmp_path), "x")[0]


def test_a_very_long_retry_after_ends_the_run(tmp_path: Path) -> None:
    with MisbehavingApi(lambda message, number: "429 long") as api, pytest.raises(RunEndedError, match="wants no request for 7,200 s"):
        raise ask(make_engine(make_role(api.base_url), tmp_path), "x")[0]


@pytest.mark.parametrize(("value", "reason"), [(None, "API_TEST_KEY is not set"), (f"{KEY}…", "holds characters that no key has")])
def test_a_key_that_cannot_be_sent_ends_the_run_before_anything_is_sent(
    value: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("API_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("API_TEST_KEY", value)
    with MisbehavingApi() as api, pytest.raises(RunEndedError, match=reason) as ended:
        raise ask(make_engine(make_role(api.base_url, key_variable="API_TEST_KEY"), tmp_path), "x")[0]
    assert KEY not in str(ended.value)
    assert not api.requests


def test_without_a_key_none_is_sent_not_even_one_that_is_lying_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MisbehavingApi() as api:
        ask(make_engine(make_role(api.base_url), tmp_path), "x")
    assert "authorization" not in api.headers[0]
    assert KEY not in str(api.headers)


def test_a_key_is_sent_and_what_the_endpoint_repeats_of_it_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TEST_KEY", f"{KEY}\n")
    with MisbehavingApi(lambda message, number: message if message.isdigit() else None, key=KEY) as api:
        outcomes = ask(make_engine(make_role(api.base_url, key_variable="API_TEST_KEY", max_retries=0), tmp_path), "400", "500")
    assert all(header["authorization"] == f"Bearer {KEY}" for header in api.headers)
    assert [str(outcome).endswith("no, not with Bearer [key]") for outcome in outcomes] == [True, True]


def test_a_budget_ends_the_run_and_a_higher_one_goes_on_without_paying_again(tmp_path: Path) -> None:
    texts = [f"question {number}" for number in range(10)]

    def one_after_the_other(limit: int) -> Sequence[Any]:
        return [ask(make_engine(make_role(api.base_url, max_tokens_total=limit), tmp_path), text)[0] for text in texts]

    with MisbehavingApi() as api:
        before = one_after_the_other(4 * (PROMPT_TOKENS + TOKENS))
        assert [isinstance(outcome, Generation) for outcome in before] == [True] * 4 + [False] * 6
        assert str(before[-1]).startswith("teacher.api.max_tokens_total 440 is reached: 440 tokens spent, 4 answers")
        after = one_after_the_other(20 * (PROMPT_TOKENS + TOKENS))
    assert all(isinstance(outcome, Generation) for outcome in after)
    assert after[:4] == before[:4]
    assert set(api.billed.values()) == {1}
    assert spent(tmp_path).answers == 10


def test_text_that_is_no_unicode_fails_its_row_on_either_side(tmp_path: Path) -> None:
    with MisbehavingApi(lambda message, number: message if "surrogate" in message else None) as api:
        sent, *received = ask(make_engine(make_role(api.base_url), tmp_path), "lone \ud800", "surrogate", "surrogate thought")
    with pytest.raises(RequestError, match="lone surrogate"):
        raise sent
    for error in received:
        with pytest.raises(RequestError, match="the endpoint's answer is not valid Unicode"):
            raise error


def test_the_factory_makes_a_client_only_for_a_role_with_an_endpoint_and_crosses_processes(tmp_path: Path) -> None:
    engines = RealEngines(spending=tmp_path)
    assert pickle.loads(pickle.dumps(engines)) == engines  # noqa: S301
    assert isinstance(engines(make_role()), ApiEngine)
