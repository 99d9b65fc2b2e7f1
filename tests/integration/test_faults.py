"""What callers, the provider, the ledger and the circuit breaker see when a provider misbehaves.

The matrix: every fault x the provider that has it x one target or two x a whole answer or a stream. Each case says
which status and error the caller gets, how often each provider is asked (as the provider counts, and as the headers
say), what the ledger holds, and what the circuit has learned.
"""

from __future__ import annotations

import itertools
import json
import math
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from typing import Any

import pytest

from tests.integration.support import Answer, Platform, eventually

MODEL = "extractive-v1"
BRISK = {"bedrock": "bedrock/extractive-v1-brisk", "openai": "openai/extractive-v1-brisk"}
PAIR = {"bedrock": "brisk", "openai": "brisk-openai"}
OTHER = {"bedrock": "openai", "openai": "bedrock"}
# infra/environments/local.tfvars: (input, output) in micro-dollars a token.
PRICES = {"bedrock": (Decimal("0.06"), Decimal("0.24")), "openai": (Decimal("0.035"), Decimal("0.14"))}
MAX_ATTEMPTS = 2
CIRCUIT_FAILURES = 5
CIRCUIT_OPEN_S = 4.0
QUESTION = "The museum opens at nine in the morning. Admission is twelve euros for adults. What does admission cost?"


@dataclass(frozen=True)
class Fault:
    """A fault before any output, and what a request with nowhere else to go makes of it.

    ``attempts`` is how often the failing target is asked; ``elsewhere`` the same when there is another one.
    """

    name: str
    spec: dict[str, Any]
    status: int
    code: str
    attempts: int = MAX_ATTEMPTS
    elsewhere: int = MAX_ATTEMPTS
    retry_after: str | None = None
    outcome: str = "failed"
    streams: bool = True
    # botocore takes a body that stops short for a whole one, and an answer without its parts comes of it.
    hidden_by_botocore: bool = False

    def code_from(self, provider: str, *, stream: bool) -> str:
        """The code as the adapter of this provider can know it."""
        hidden = self.hidden_by_botocore and provider == "bedrock" and not stream
        return "provider_bad_answer" if hidden else self.code


THROTTLED: dict[str, Any] = {"status": 429, "code": "provider_throttled", "outcome": "throttled"}
UNAVAILABLE: dict[str, Any] = {"status": 502, "code": "provider_unavailable"}
FAULTS = [
    Fault("throttled_for_1_s", {"kind": "throttle", "retry_after": 1}, retry_after="1", **THROTTLED),
    # Longer than the request may take: nobody waits, and the caller is told.
    Fault(
        "throttled_for_60_s",
        {"kind": "throttle", "retry_after": 60},
        attempts=1,
        elsewhere=1,
        retry_after="60",
        **THROTTLED,
    ),
    Fault("throttled", {"kind": "throttle"}, **THROTTLED),
    Fault("broken", {"kind": "error", "status": 500}, **UNAVAILABLE),
    Fault("overloaded", {"kind": "error", "status": 503}, status=503, code="provider_overloaded"),
    Fault("hanging", {"kind": "hang", "seconds": 20}, status=504, code="provider_timeout", elsewhere=1),
    Fault("cut_at_once", {"kind": "cut", "at": "start"}, **UNAVAILABLE),
    Fault("cut_after_headers", {"kind": "cut", "at": "headers"}, hidden_by_botocore=True, **UNAVAILABLE),
    Fault("cut_in_the_body", {"kind": "cut", "at": "body"}, streams=False, hidden_by_botocore=True, **UNAVAILABLE),
    Fault("garbage", {"kind": "garbage"}, status=502, code="provider_bad_answer", streams=False),
]
MIDSTREAM = [
    ("cut_after_1_token", {"kind": "cut_stream", "after_tokens": 1}, "provider_unavailable"),
    ("cut_after_5_tokens", {"kind": "cut_stream", "after_tokens": 5}, "provider_unavailable"),
    ("cut_in_the_body", {"kind": "cut", "at": "body"}, "provider_unavailable"),
    ("garbage", {"kind": "garbage"}, "provider_bad_answer"),
    ("error_event", {"kind": "error", "status": 500, "after_tokens": 3}, "provider_unavailable"),
    ("throttle_event", {"kind": "throttle", "after_tokens": 3}, "provider_throttled"),
]


@dataclass(frozen=True)
class Seen:
    """One request, from all sides."""

    answer: Answer
    request_id: str
    events: list[Any] = field(default_factory=list)

    @property
    def error(self) -> dict[str, Any]:
        """The error that the caller was told."""
        found: dict[str, Any] = self.answer.body["error"]
        return found

    @property
    def text(self) -> str:
        """The answer as far as it was streamed."""
        deltas = [event["choices"][0]["delta"] for event in self.events if event != "[DONE]" and event.get("choices")]
        return "".join(delta.get("content") or "" for delta in deltas)


class Lab:
    """The platform, its providers, its ledger and its breaker."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.table = platform.table

    def reset(self) -> None:
        """Healthy providers, closed circuits, nothing counted, and nobody who remembers anything else."""
        self.platform.heal()
        self._models("DELETE", "/requests")

    def ask(self, model: str, *, stream: bool = False, **headers: str) -> Seen:
        """One chat request."""
        request_id = f"fault-{uuid.uuid4().hex}"
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "stream": stream}
        sent = {"x-request-id": request_id} | {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.platform.call("POST", "/chat/completions", body, headers=sent)
        return Seen(answer, request_id, _events(answer.raw) if answer.status == 200 and stream else [])

    def asked(self, provider: str) -> int:
        """How often a provider's chat model was asked, as the provider counts."""
        rows = self._models("GET", f"/requests?model={MODEL}")["requests"]
        return sum(row["count"] for row in rows if row["protocol"] == provider)

    def circuit(self, provider: str) -> dict[str, Any]:
        """The stored circuit of a brisk target; empty when nothing is stored."""
        item = self.table.get_item(TableName=self._table, Key=_circuit_key(BRISK[provider]), ConsistentRead=True)
        return {name: next(iter(value.values())) for name, value in item.get("Item", {}).items()}

    def entry(self, seen: Seen) -> dict[str, Any]:
        """The ledger's entry of a request."""
        now = datetime.now(UTC)

        def find() -> dict[str, Any] | None:
            for day, shard in itertools.product({f"{now:%Y%m%d}", f"{now - timedelta(hours=1):%Y%m%d}"}, range(8)):
                for item in self.platform.items(f"REQ#{_key_id(self.platform)}#{day}#{shard}"):
                    if item["request_id"]["S"] == seen.request_id:
                        return {name: next(iter(value.values())) for name, value in item.items()}
            return None

        return eventually(find, within_s=5, what=f"a log entry of {seen.request_id}")

    @property
    def _table(self) -> str:
        return self.platform.env["SLUICE_TABLE"]

    def _models(self, method: str, path: str) -> Any:
        answer = self.platform._http.request(method, self.platform.env["SLUICE_MODELS_URL"] + path)
        assert answer.status < 300, answer.data
        return json.loads(answer.data)


def _circuit_key(target: str) -> dict[str, Any]:
    return {"pk": {"S": f"CIRCUIT#{target}"}, "sk": {"S": "STATE"}}


def _events(raw: bytes) -> list[Any]:
    """The events of a stream's body; ``[DONE]`` stays a text."""
    lines = [line.removeprefix("data: ") for line in raw.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


@cache
def _key_id(platform: Platform) -> str:
    """The id of the key that the tests use, as its requests are filed."""
    prefix = platform.key[:14]
    answer = platform.aws("dynamodb").query(
        TableName=platform.env["SLUICE_TABLE"],
        IndexName="gsi1",
        KeyConditionExpression="gsi1pk = :keys",
        ExpressionAttributeValues={":keys": {"S": "KEYS"}},
    )
    return str(next(item["id"]["S"] for item in answer["Items"] if item["prefix"]["S"] == prefix))


def _cost(provider: str, usage: dict[str, int]) -> Decimal:
    input_price, output_price = PRICES[provider]
    return usage["prompt_tokens"] * input_price + usage["completion_tokens"] * output_price


@pytest.fixture(scope="module", autouse=True)
def _well(platform: Platform) -> None:
    Lab(platform).reset()


@pytest.fixture
def lab(platform: Platform) -> Iterator[Lab]:
    lab = Lab(platform)
    yield lab
    lab.reset()


def _matrix() -> list[Any]:
    return [
        pytest.param(fault, provider, stream, id=f"{fault.name}-{provider}-{'stream' if stream else 'whole'}")
        for fault in FAULTS
        for provider in BRISK
        for stream in ((False, True) if fault.streams else (False,))
    ]


@pytest.mark.parametrize(("fault", "provider", "stream"), _matrix())
def test_with_one_target_the_caller_is_told(lab: Lab, fault: Fault, provider: str, stream: bool) -> None:
    lab.platform.fault(MODEL, **fault.spec, protocol=provider)
    seen = lab.ask(BRISK[provider], stream=stream)

    code = fault.code_from(provider, stream=stream)
    assert (seen.answer.status, seen.error["code"]) == (fault.status, code)
    assert seen.answer.headers.get("retry-after") == fault.retry_after
    assert seen.answer.headers["x-sluice-target"] == BRISK[provider]
    assert seen.answer.headers["x-sluice-attempts"] == str(fault.attempts)
    assert "x-sluice-cost-usd" not in seen.answer.headers
    assert (lab.asked(provider), lab.asked(OTHER[provider])) == (fault.attempts, 0)

    entry = lab.entry(seen)
    assert (entry["status"], entry["error_code"], entry["http_status"]) == (fault.outcome, code, str(fault.status))
    assert (entry["attempts"], entry["fallbacks"]) == (str(fault.attempts), "0")
    assert "cost_micro_usd" not in entry

    circuit = lab.circuit(provider)
    assert (circuit["state"], circuit["run"], circuit["failed"]) == ("closed", str(fault.attempts), str(fault.attempts))


@pytest.mark.parametrize(("fault", "provider", "stream"), _matrix())
def test_with_two_targets_the_other_one_answers(lab: Lab, fault: Fault, provider: str, stream: bool) -> None:
    lab.platform.fault(MODEL, **fault.spec, protocol=provider)
    seen = lab.ask(PAIR[provider], stream=stream)
    other = OTHER[provider]

    assert seen.answer.status == 200
    headers = seen.answer.headers
    assert headers["x-sluice-target"] == BRISK[other]
    assert (headers["x-sluice-attempts"], headers["x-sluice-fallbacks"]) == (str(fault.elsewhere + 1), "1")
    assert (lab.asked(provider), lab.asked(other)) == (fault.elsewhere, 1)
    if stream:
        assert seen.events[-1] == "[DONE]"
        assert "twelve euros" in seen.text
    else:
        assert "twelve euros" in seen.answer.body["choices"][0]["message"]["content"]

    entry = lab.entry(seen)
    assert (entry["status"], entry["target"]) == ("completed", BRISK[other])
    assert (entry["attempts"], entry["fallbacks"]) == (str(fault.elsewhere + 1), "1")
    tokens = {"prompt_tokens": int(entry["input_tokens"]), "completion_tokens": int(entry["output_tokens"])}
    assert stream or tokens == {name: seen.answer.body["usage"][name] for name in tokens}
    assert Decimal(entry["cost_micro_usd"]) == _cost(other, tokens)
    assert Decimal(headers["x-sluice-cost-usd"]) * 1_000_000 == _cost(other, tokens)

    circuit = lab.circuit(provider)
    assert (circuit["state"], circuit["run"]) == ("closed", str(fault.elsewhere))
    assert not lab.circuit(other)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("provider", BRISK)
@pytest.mark.parametrize(("name", "spec", "code"), MIDSTREAM, ids=[name for name, *_ in MIDSTREAM])
def test_after_the_first_output_a_stream_ends_with_an_error_and_is_paid_for(
    lab: Lab, name: str, spec: dict[str, Any], code: str, provider: str, targets: int
) -> None:
    lab.platform.fault(MODEL, **spec, protocol=provider)
    seen = lab.ask(BRISK[provider] if targets == 1 else PAIR[provider], stream=True)

    assert seen.answer.status == 200
    assert seen.events[-1]["error"]["code"] == code
    assert "[DONE]" not in seen.events
    assert seen.text
    headers = seen.answer.headers
    assert (headers["x-sluice-target"], headers["x-sluice-attempts"]) == (BRISK[provider], "1")
    assert (lab.asked(provider), lab.asked(OTHER[provider])) == (1, 0)

    entry = lab.entry(seen)
    outcome = "throttled" if code == "provider_throttled" else "failed"
    assert (entry["status"], entry["error_code"], entry["target"]) == (outcome, code, BRISK[provider])
    assert entry["usage_estimated"] is True
    tokens = {"prompt_tokens": int(entry["input_tokens"]), "completion_tokens": int(entry["output_tokens"])}
    assert tokens == {
        "prompt_tokens": math.ceil(len(QUESTION) / 4),
        "completion_tokens": math.ceil(len(seen.text) / 4),
    }
    assert Decimal(entry["cost_micro_usd"]) == _cost(provider, tokens)
    assert Decimal(headers["x-sluice-cost-usd"]) * 1_000_000 == _cost(provider, tokens)

    circuit = lab.circuit(provider)
    assert (circuit["state"], circuit["run"]) == ("closed", "1")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("provider", BRISK)
def test_what_the_caller_did_wrong_opens_no_circuit(lab: Lab, provider: str, stream: bool) -> None:
    lab.platform.fault(MODEL, kind="error", status=400, protocol=provider)
    seen = lab.ask(PAIR[provider], stream=stream)
    assert (seen.answer.status, seen.error["code"]) == (400, "provider_rejected")
    assert (lab.asked(provider), lab.asked(OTHER[provider])) == (1, 0)
    assert not lab.circuit(provider)


class TestCircuit:
    """A provider that is down: opened, left alone, probed by one, closed."""

    def _open(self, lab: Lab, provider: str = "bedrock") -> None:
        lab.platform.fault(MODEL, kind="error", status=500, protocol=provider)
        for _ in range(math.ceil(CIRCUIT_FAILURES / MAX_ATTEMPTS)):
            lab.ask(BRISK[provider])
        assert lab.circuit(provider)["state"] == "open"
        assert lab.asked(provider) == CIRCUIT_FAILURES

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    @pytest.mark.parametrize("provider", BRISK)
    def test_when_every_target_is_open_the_caller_is_told_when_to_come_back(
        self, lab: Lab, provider: str, stream: bool
    ) -> None:
        self._open(lab, provider)
        until = float(lab.circuit(provider)["until"])
        earliest = math.ceil(until - time.time())
        seen = lab.ask(BRISK[provider], stream=stream)
        latest = math.ceil(until - time.time())
        assert (seen.answer.status, seen.error["code"]) == (503, "all_targets_unavailable")
        assert latest <= int(seen.answer.headers["retry-after"]) <= earliest
        assert seen.answer.headers["x-sluice-attempts"] == "0"
        assert lab.asked(provider) == CIRCUIT_FAILURES
        entry = lab.entry(seen)
        assert (entry["status"], entry["error_code"], entry["attempts"]) == ("failed", "all_targets_unavailable", "0")

    @pytest.mark.parametrize("provider", BRISK)
    def test_an_open_target_is_passed_over_at_once(self, lab: Lab, provider: str) -> None:
        self._open(lab, provider)
        seen = lab.ask(PAIR[provider])
        assert seen.answer.status == 200
        headers = seen.answer.headers
        assert (headers["x-sluice-target"], headers["x-sluice-attempts"]) == (BRISK[OTHER[provider]], "1")
        assert headers["x-sluice-fallbacks"] == "1"
        assert lab.asked(provider) == CIRCUIT_FAILURES

    def test_a_throttle_keeps_it_open_for_as_long_as_the_provider_asks(self, lab: Lab) -> None:
        lab.platform.fault(MODEL, kind="throttle", retry_after=90, protocol="bedrock")
        for _ in range(CIRCUIT_FAILURES):
            lab.ask(BRISK["bedrock"])
        seen = lab.ask(BRISK["bedrock"])
        assert seen.error["code"] == "all_targets_unavailable"
        assert 85 <= int(seen.answer.headers["retry-after"]) <= 90

    def test_one_probe_is_sent_however_many_ask_and_its_success_closes_it(self, lab: Lab) -> None:
        crowd = 5
        with ThreadPoolExecutor(crowd) as pool:
            # So that there are as many containers, and all of them warm.
            list(pool.map(lambda _: lab.ask("brisk"), range(crowd)))
            lab.reset()
            self._open(lab)
            lab.platform.fault(MODEL, kind="latency", seconds=0.4, protocol="bedrock")
            _wait_until_due(lab)
            since_ms, before = int(time.time() * 1000), lab.asked("bedrock")
            seen = list(pool.map(lambda _: lab.ask("brisk"), range(crowd)))
        assert {each.answer.status for each in seen} == {200}
        targets = [each.answer.headers["x-sluice-target"] for each in seen]
        assert lab.asked("bedrock") - before == targets.count(BRISK["bedrock"]) >= 1
        assert lab.circuit("bedrock")["state"] == "closed"
        eventually(lambda: _logged(lab, since_ms, "circuit_closed"), within_s=10, what="the end of the probe")
        assert len(_logged(lab, since_ms, "circuit_probed")) == 1

    def test_a_probe_that_fails_opens_it_again_and_the_caller_gets_the_other(self, lab: Lab) -> None:
        self._open(lab)
        _wait_until_due(lab)
        seen = lab.ask("brisk")
        assert seen.answer.status == 200
        assert seen.answer.headers["x-sluice-attempts"] == "2"
        assert lab.asked("bedrock") == CIRCUIT_FAILURES + 1
        circuit = lab.circuit("bedrock")
        assert circuit["state"] == "open"
        assert float(circuit["until"]) > time.time() + CIRCUIT_OPEN_S - 2

    def test_operators_see_it_open_and_close(self, lab: Lab) -> None:
        since_ms = int(time.time() * 1000)
        self._open(lab)
        lab.platform.end_faults()
        _wait_until_due(lab)
        assert lab.ask(BRISK["bedrock"]).answer.status == 200

        for event in ("circuit_opened", "circuit_probed", "circuit_closed"):
            [line] = eventually(partial(_logged, lab, since_ms, event), within_s=10, what=event)
            assert line["target"] == BRISK["bedrock"]
        for metric in ("CircuitOpened", "CircuitClosed"):
            [line] = _logged(lab, since_ms, metric)
            assert (line[metric], line["Operation"], line["Target"]) == (1, "chat", BRISK["bedrock"])


def _logged(lab: Lab, since_ms: int, what: str) -> list[dict[str, Any]]:
    """What chat_completions has logged since then that contains ``what`` as a field or a value of its own."""
    raw = lab.platform.logs("chat_completions", containing=f'"{what}"', since_ms=since_ms)
    lines = [json.loads(line[line.index("{") :]) for line in raw if "{" in line]
    return [line for line in lines if line.get("event") == what or what in line]


def _wait_until_due(lab: Lab, provider: str = "bedrock") -> None:
    time.sleep(max(0.0, float(lab.circuit(provider)["until"]) - time.time()) + 0.05)


def test_a_slow_target_is_hedged(lab: Lab) -> None:
    lab.platform.fault(MODEL, kind="latency", seconds=3, protocol="bedrock")
    started = time.monotonic()
    seen = lab.ask("hedged")
    assert time.monotonic() - started < 2.5
    headers = seen.answer.headers
    assert (seen.answer.status, headers["x-sluice-target"]) == (200, f"openai/{MODEL}")
    assert (headers["x-sluice-attempts"], headers["x-sluice-hedged"]) == ("2", "true")
    assert (lab.asked("bedrock"), lab.asked("openai")) == (1, 1)


def test_a_quick_target_is_not_hedged(lab: Lab) -> None:
    seen = lab.ask("hedged")
    assert (seen.answer.headers["x-sluice-target"], "x-sluice-hedged" in seen.answer.headers) == (
        f"bedrock/{MODEL}",
        False,
    )
    assert (lab.asked("bedrock"), lab.asked("openai")) == (1, 0)
