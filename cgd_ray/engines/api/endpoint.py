"""The one file that imports the OpenAI client: an Engine that asks an OpenAI-compatible endpoint instead of running a model.

What may pass is tried again here and not by the client, which neither waits longer than two minutes for a Retry-After nor knows a broken
answer: overload, server errors, timeouts, cut connections, answers that are no answers. What no try can mend and no row is to blame for (a
refused key, an unknown model, a spent budget) ends the run, after the answers that are on their way have been written down. So does an
endpoint that is down: when a row's tries have run out, the row is to blame only if something else is answered. The key is read from the
environment of this process; texts that come from the endpoint are cleared of it before they go anywhere.
How to use: `engine = ApiEngine(role, role.api, run.spending); generation = await engine.generate(messages, role.sampling, seed=0)`.
"""

import asyncio
import json
import logging
import os
import random
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import openai
from openai.types.chat import ChatCompletion

from cgd_ray.config import ApiConfig, RoleConfig, SamplingConfig, identity
from cgd_ray.data.prompts import SIGN_OF_LIFE, Message
from cgd_ray.data.records import short_hash
from cgd_ray.engines.api.retrying import retry_after_s, retry_delay_s
from cgd_ray.engines.api.spending import Journal, Purchase, Spending
from cgd_ray.engines.engine import Generation, RequestError, RunEndedError

logger = logging.getLogger(__name__)

LONGEST_RETRY_AFTER_S = 1800.0  # an endpoint that wants to be left alone for longer ends the run, which would stand still unseen
RETRIED_STATUSES = (408, 409, 429)  # and all from 500 on
FINISH_REASONS = ("stop", "length")
MAX_QUOTED = 300  # characters of an endpoint's own words
POLL_S = 0.1
SENT_OTHERWISE = ("temperature", "top_p", "top_k", "max_tokens", "seed", "stop", "seed_per_request", "extra")  # than by their names
MAX_TOKENS = 10**8  # of one answer: far more than any has, and the records' columns hold sums of them in 32 bits


class _TransientError(Exception):
    """A try that failed; another one may not."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        """What the endpoint asked for."""


class _UnreachableError(_TransientError):
    """There was no connection, so no request is to blame."""


class ApiEngine:
    """An Engine on an endpoint. Holds any number of requests; the stage's `requests_in_flight` is the limit."""

    chat = None
    """The endpoint alone has the tokenizer."""

    def __init__(self, role: RoleConfig, api: ApiConfig, spending: Path) -> None:
        self._role, self._api = role, api
        self._ledger = Journal(spending)
        self._key = "" if api.key_variable is None else os.environ.get(api.key_variable, "").strip()
        self._client = openai.AsyncOpenAI(
            base_url=api.base_url,
            api_key=self._key or "none",  # for None the client would send OPENAI_API_KEY, whoever's that is
            max_retries=0,
            timeout=None,  # the client's is per read, so an endpoint that drips would never meet it
        )
        self._headers: dict[str, str | openai.Omit] = {} if self._key else {"Authorization": openai.omit}
        self._under_way = 0  # requests that the endpoint is working on
        self._num_served = 0
        """Requests that it has answered or refused."""
        self._ended = None if api.key_variable is None else _key_fault(api.key_variable, self._key)
        """Why no further request is begun."""

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        """The assistant's next turn, from the journal when it was paid for before.

        Raises RequestError when the endpoint refuses the request or answers others only, RunEndedError when it would serve no request.
        """
        fields = request_fields(self._role, self._api, messages, sampling, seed)
        key = _request_key(self._api.base_url, fields, seed)
        before = self._ledger.bought(key)
        purchase = before or await self._buy(key, fields)
        if purchase.finish_reason not in FINISH_REASONS:
            raise RequestError(f"the endpoint ended the answer with {purchase.finish_reason!r}")
        if not _is_unicode(purchase.text + (purchase.thinking or "")):
            raise RequestError("the endpoint's answer is not valid Unicode")
        return Generation(
            text=purchase.text,
            thinking=purchase.thinking,
            num_tokens=purchase.tokens,
            prompt_tokens=purchase.prompt_tokens,
            cached_tokens=purchase.cached_tokens,
            finish_reason=purchase.finish_reason,
            cost=0.0 if before else Spending().plus(purchase).cost(self._api) or 0.0,
        )

    def close(self) -> None:
        """Close the journal; the connections end with the process."""
        self._ledger.close()

    async def _buy(self, key: str, fields: Mapping[str, Any]) -> Purchase:
        """Ask until there is an answer, at most `max_retries` times more; then say whose fault it is that there is none."""
        tries = self._api.max_retries + 1
        for number in range(1, tries):
            outcome = await self._try(key, fields)
            if isinstance(outcome, Purchase):
                return outcome
            delay_s = retry_delay_s(number, outcome.retry_after_s, random.random())
            logger.warning("%s: %s; try %d of %d follows in %.1f s", self._api.base_url, outcome, number + 1, tries, delay_s)
            await self._pause(delay_s)
        num_served = self._num_served
        failure = await self._try(key, fields)
        if isinstance(failure, Purchase):
            return failure
        reason = f"{self._api.base_url} gave no answer in {tries} tries, at last: {failure}"
        if isinstance(failure, _UnreachableError):
            await self._end(f"{reason}; check teacher.api.base_url and the network, then run the same command again")
        if self._num_served == num_served:  # this may be the only row that is left, so its failure alone says nothing
            await self._look_for_life(fields, failure.retry_after_s or 0.0)
        if self._num_served == num_served:
            await self._end(f"{reason}; nor does it answer anything else: run the same command again when it does, finished rows are kept")
        raise RequestError(reason)

    async def _pause(self, delay_s: float) -> None:
        """Wait before a try, at most until there is a reason to end the run."""
        until = time.monotonic() + delay_s
        while self._ended is None and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 1.0))

    async def _look_for_life(self, fields: Mapping[str, Any], delay_s: float) -> None:
        """Ask something that is no row's; an answer counts like any other."""
        await self._pause(delay_s)
        with suppress(RequestError):
            await self._try("sign of life", {**fields, "messages": [asdict(Message(role="user", content=SIGN_OF_LIFE))]})

    async def _try(self, key: str, fields: Mapping[str, Any]) -> Purchase | _TransientError:
        """One request, unless the run is to end; its answer, or why another try may have one."""
        await self._stop_at_limit()
        try:
            purchase = await self._ask(key, fields)
        except RunEndedError as error:
            await self._end(str(error))
        except _TransientError as error:
            return error
        except RequestError:
            self._num_served += 1
            raise
        self._num_served += 1
        return purchase

    async def _ask(self, key: str, fields: Mapping[str, Any]) -> Purchase:
        """One request; what it costs is written down before anything else is done with the answer."""
        self._under_way += 1
        try:
            async with asyncio.timeout(self._api.request_timeout_s):
                # not by chat.completions.create, which knows neither all fields of all endpoints nor how to leave one out
                answer = await self._client.post(
                    "/chat/completions", cast_to=ChatCompletion, body=fields, options={"headers": self._headers}
                )
            purchase = read_answer(answer, key)
            self._ledger.add(purchase)
        except TimeoutError:
            raise _TransientError(f"no whole answer in {self._api.request_timeout_s:g} s (request_timeout_s)") from None
        except openai.APIStatusError as error:
            raise self._judged(error) from None
        except openai.APIConnectionError as error:
            raise self._connection_failure(error) from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise _TransientError("the answer is no JSON") from None
        finally:
            self._under_way -= 1
        if purchase.key is None:
            raise _TransientError("the answer holds no choices")
        return purchase

    def _judged(self, error: openai.APIStatusError) -> Exception:
        """What an error status means: for this try, for this row or for the run."""
        status, address, variable = error.status_code, self._api.base_url, self._api.key_variable
        if status in (401, 403):
            what = "wants a key; set teacher.api.key_variable" if variable is None else f"refuses the key in {variable}; set a valid one"
            return RunEndedError(f"{address} {what} on every node and run the same command again (HTTP {status})")
        if status == 404:
            return RunEndedError(f"{address} has no model {self._role.model} (HTTP 404); check teacher.model and teacher.api.base_url")
        if status == 402 or error.code == "insufficient_quota":
            return RunEndedError(f"{address} reports no credit left (HTTP {status}); top the account up and run the same command again")
        if status not in RETRIED_STATUSES and status < 500:
            return RequestError(f"{address} refuses the request (HTTP {status}): {self._quoted(error)}")
        wait_s = retry_after_s(error.response.headers.get("retry-after"), time.time())
        if wait_s is not None and wait_s > LONGEST_RETRY_AFTER_S:
            return RunEndedError(f"{address} wants no request for {wait_s:,.0f} s (HTTP {status}); run the same command again then")
        return _TransientError(f"HTTP {status}: {self._quoted(error)}", wait_s)

    def _quoted(self, error: openai.APIStatusError) -> str:
        """The endpoint's words, as one line and without the key, which some endpoints repeat."""
        body = error.body
        said = body.get("message") if isinstance(body, dict) else None
        return self._cleared(said if isinstance(said, str) else error.response.text)

    def _connection_failure(self, error: openai.APIConnectionError) -> _TransientError:
        """The client wraps what happened; its HTTP library, which is not named here, calls a missing connection Connect..."""
        cause = type(error.__cause__).__name__
        kind = _UnreachableError if cause.startswith("Connect") else _TransientError
        return kind(f"the connection failed ({cause}: {self._cleared(str(error.__cause__))})")

    def _cleared(self, words: str) -> str:
        """One short line without the key."""
        words = words.replace(self._key, "[key]") if self._key else words
        return " ".join(words.split())[:MAX_QUOTED]

    async def _stop_at_limit(self) -> None:
        """End the run when there is a reason to; every request passes here before it costs anything."""
        reason = self._ended or self._ledger.spending().reached_limit(self._api)
        if reason is not None:
            await self._end(reason)

    async def _end(self, reason: str) -> NoReturn:
        """Begin no further request, wait for the answers that are being paid for, then end the run."""
        self._ended = self._ended or reason
        while self._under_way:
            await asyncio.sleep(POLL_S)
        raise RunEndedError(self._ended)


def request_fields(role: RoleConfig, api: ApiConfig, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> dict[str, Any]:
    """The body of a request: settings that differ from every endpoint's default, then `api.request_fields`.

    Raises RequestError for text that is not valid Unicode.
    """
    if not all(_is_unicode(message.content) for message in messages):
        raise RequestError("text holds a lone surrogate, which is not valid Unicode; clean the source")
    fields: dict[str, Any] = {
        "model": role.model,
        "messages": [asdict(message) for message in messages],
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "top_p": sampling.top_p if sampling.top_p < 1 else None,
        "top_k": sampling.top_k,
        "stop": list(sampling.stop) or None,
        **identity(sampling, exclude=SENT_OTHERWISE),  # those that are set, which not every endpoint knows
        "seed": seed if role.seeds_requests and sampling.temperature > 0 else None,
        "chat_template_kwargs": dict(role.chat_template_kwargs) or None,
        **api.request_fields,
    }
    return {name: value for name, value in fields.items() if value is not None}


def read_answer(answer: Any, key: str) -> Purchase:
    """What an answer says and costs; without `key` when it has no choice. Raises _TransientError for what is no answer at all."""
    usage: Any = getattr(answer, "usage", None)  # the client does not check what it hands out
    prompt_tokens, tokens = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    cached_tokens = getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None) or 0
    if not (_is_count(prompt_tokens) and _is_count(tokens) and _is_count(cached_tokens)):
        raise _TransientError("the answer is no chat completion with its usage")
    choice = answer.choices[0] if isinstance(answer.choices, list) and answer.choices else None
    message = getattr(choice, "message", None)
    text = getattr(message, "content", None)
    thinking = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)  # the latter in newer vLLM servers
    return Purchase(
        key=None if choice is None else key,
        prompt_tokens=prompt_tokens,
        cached_tokens=min(cached_tokens, prompt_tokens),
        tokens=tokens,
        text=text if isinstance(text, str) else "",
        finish_reason=str(getattr(choice, "finish_reason", None)),
        thinking=thinking if isinstance(thinking, str) else None,
    )


def _request_key(base_url: str, fields: Mapping[str, Any], seed: int) -> str:
    """Names one turn of one record: the seed is its own even where it is not sent."""
    return short_hash(json.dumps([base_url, fields, seed], sort_keys=True))


def _key_fault(variable: str, key: str) -> str | None:
    """One line on a key that cannot be sent."""
    host = socket.gethostname()
    if not key:
        return f"teacher.api.key_variable {variable} is not set in the environment of {host}; set it there before Ray starts"
    if not key.isascii() or not key.isprintable():
        return f"{variable} (teacher.api.key_variable) holds characters that no key has on {host}; set it anew"
    return None


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value <= MAX_TOKENS


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
