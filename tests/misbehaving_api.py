"""An OpenAI-compatible endpoint in a thread of the test's process that misbehaves by a plan and keeps count of what it would bill.

Its answer is a function of the conversation alone. `plan` names, for the n-th request of one conversation, what goes wrong; a request for
which nothing goes wrong is answered and billed. How to use: `with MisbehavingApi(plan) as api: ... api.base_url, api.billed`.
"""

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = str
"""A status such as "429", or one of the words below; those of ANSWERED are whole answers all the same, and billed."""
Plan = Callable[[str, int], Fault | None]
"""(text of all messages, number of the conversation's request from 0 on) -> what goes wrong with it."""

THOUGHTS: dict[Fault | None, str] = {"thought": "hm", "surrogate thought": "\ud800"}
"""What comes with a thought beside the answer."""
ANSWERED: dict[Fault | None, str] = {
    **dict.fromkeys((None, "slow", "surrogate", *THOUGHTS), "stop"),
    "long": "length",
    "filtered": "content_filter",
}
"""What leads to an answer, and its finish reason."""
FAULTS = ("429", "429 date", "500", "503", "408", "409", "stall", "broken json", "no choices", "no usage", "cut", "html")
PROMPT_TOKENS, TOKENS = 100, 10
SLOW_S, STALL_S = 0.3, 60.0


def seeded_plan(seed: int, share: float = 0.4, most: int = 2) -> Plan:
    """About `share` of all requests go wrong in one of FAULTS, at most `most` in a row of one conversation."""

    def plan(message: str, number: int) -> Fault | None:
        chance = random.Random(f"{seed} {message} {number}")
        return chance.choice(FAULTS) if number < most and chance.random() < share else None

    return plan


class MisbehavingApi:
    """The endpoint; `billed` counts answers by conversation, `requests` all requests, `faults` what went wrong."""

    def __init__(self, plan: Plan = lambda message, number: None, latency_s: float = 0.0, key: str | None = None) -> None:
        self.plan, self.latency_s, self.key = plan, latency_s, key
        self.billed: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.early = 0
        """Requests that came before the time that the endpoint had asked to be left alone until."""
        self.not_before: dict[str, float] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> "MisbehavingApi":
        self._server = _Server(self)
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, api: MisbehavingApi) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api

    def handle_error(self, request: object, client_address: object) -> None:
        """A client hung up, as it does after a stall."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        api = self.server.api
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        conversation = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:12]
        with api.lock:
            number = api.requests[conversation]
            api.requests[conversation] += 1
            api.bodies.append(body)
            api.headers.append({name.lower(): value for name, value in self.headers.items()})
            api.early += time.time() < api.not_before.get(conversation, 0.0)
        fault = "401" if api.key is not None and self.headers["authorization"] != f"Bearer {api.key}" else None
        fault = fault or api.plan("\n".join(message["content"] for message in body["messages"]), number)
        time.sleep(api.latency_s)
        with api.lock:
            api.faults[str(fault)] += 1
        if fault is not None and fault not in ANSWERED:
            return self._misbehave(fault, conversation)
        time.sleep(SLOW_S if fault == "slow" else 0)
        with api.lock:
            api.billed[conversation] += 1
        text = "\ud800" if fault == "surrogate" else f"{conversation} \\boxed{{1}}\nConclusion: wrong"
        self._answer(text, ANSWERED[fault], THOUGHTS.get(fault))

    def _answer(self, text: str, finish_reason: str = "stop", thought: str | None = None, **changes: Any) -> None:
        message = {"role": "assistant", "content": text, "reasoning_content": thought}
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": TOKENS, "prompt_tokens_details": {"cached_tokens": 40}}
        choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
        self._send(200, json.dumps({**answer, **changes}))

    def _misbehave(self, fault: Fault, conversation: str) -> None:
        if fault == "stall":
            time.sleep(STALL_S)
        elif fault == "broken json":
            self._send(200, '{"choices": [{"mess')
        elif fault == "no choices":
            self._answer(conversation, choices=[], usage={"prompt_tokens": 0, "completion_tokens": 0})
        elif fault == "no usage":
            self._answer(conversation, usage=None)
        elif fault == "html":
            self._send(200, "<html>Welcome</html>", content_type="text/html")
        elif fault == "cut":
            self._send(200, '{"choices": [{"mess', length=5_000)
        else:
            self._refuse(fault, conversation)
        self.close_connection = fault in ("stall", "cut")

    def _refuse(self, fault: Fault, conversation: str) -> None:
        """An error status; like some endpoints, this one repeats the key it was given."""
        status, headers = int(fault.split()[0]), {}
        if status == 429:
            now = time.time()  # a date has whole seconds, so it says up to one less
            headers["retry-after"] = {"429": "1", "429 late": "900", "429 long": "7200", "429 date": formatdate(now + 2, usegmt=True)}[
                fault
            ]
            with self.server.api.lock:
                self.server.api.not_before[conversation] = now + 1
        said = f"no, not with {self.headers['authorization']}"
        self._send(status, json.dumps({"error": {"message": said, "type": "refused", "code": status}}), headers=headers)

    def _send(
        self,
        status: int,
        text: str,
        content_type: str = "application/json",
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(content) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Nothing is logged."""
