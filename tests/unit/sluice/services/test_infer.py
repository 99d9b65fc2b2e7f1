import json
from decimal import Decimal
from typing import Any

import pytest

from sluice.domain import errors
from sluice.domain.deadline import Deadline
from sluice.domain.inference import Caller, ChatRequest, EmbeddingRequest, Message, Mode, Operation, Usage
from sluice.domain.request_log import Outcome
from sluice.domain.resilience import CircuitPolicy
from sluice.runtime.http import status_of
from sluice.services.infer import Inference, RetryPolicy
from sluice.services.watch_targets import WatchTargets
from sluice.testing.clock import FakeClock
from sluice.testing.ledger import FakeLedger
from sluice.testing.providers import FakeProvider, Raiser
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import FakeTargetStates

CALLER = Caller(key_id="key_1", request_id="request-1")
NOW = 1_700_000_000.0
CHAT = ChatRequest(model="auto", messages=(Message("user", "hello"),))


def failing(kind: type[errors.ProviderError], *, retry_after_s: float | None = None) -> Raiser:
    return lambda where: kind("It failed.", target=where.name, retry_after_s=retry_after_s)


throttled = failing(errors.ProviderThrottledError)
unavailable = failing(errors.ProviderUnavailableError)
timed_out = failing(errors.ProviderTimeoutError)
unauthorized = failing(errors.ProviderAuthError)
rejected = failing(errors.ProviderRejectedError)


class World:
    """An Inference over fakes: two targets behind ``auto``, three attempts each, no luck in the jitter."""

    def __init__(self, *failures: Raiser | None, takes_s: float = 0.0, **policy: Any) -> None:
        self.clock = FakeClock()
        self.provider = FakeProvider(*failures, clock=self.clock, takes_s=takes_s)
        self.log = FakeRequestLog()
        self.ledger = FakeLedger(self.log, now=lambda: NOW + 0.5)
        self.routes = FakeRoutes(target("a/one"), target("b/two"), alias("auto", "a/one", "b/two"))
        self.states = FakeTargetStates()
        self.watch = WatchTargets(
            self.states,
            CircuitPolicy(failures=100),
            cache_s=3.0,
            now=lambda: NOW + self.clock.time,
            clock=self.clock,
        )
        self.inference = Inference(
            routes=self.routes,
            providers={"bedrock": self.provider},
            request_log=self.log,
            ledger=self.ledger,
            watch=self.watch,
            policy=RetryPolicy(**{"max_attempts": 3, "attempt_timeout_s": 20.0, **policy}),
            http_status=status_of,
            now=lambda: NOW + 0.5,
            clock=self.clock,
            sleep=self.clock.sleep,
            jitter=lambda _low, high: high,
        )

    def chat(self, *, seconds: float = 28.0, model: str = "auto", caller: Caller = CALLER) -> Any:
        request = ChatRequest(model=model, messages=CHAT.messages)
        deadline = Deadline.after(seconds, self.clock)
        return self.inference.chat(request, caller, mode=Mode.SYNC, deadline=deadline)

    @property
    def asked(self) -> list[str]:
        return [name for name, _ in self.provider.calls]


def test_the_first_target_answers_when_it_can() -> None:
    world = World()
    outcome = world.chat()
    assert outcome.result.text == "answer of a/one"
    assert (outcome.target.name, outcome.report.attempts, outcome.report.fallbacks) == ("a/one", 1, 0)


def test_an_embedding_goes_the_same_way() -> None:
    world = World(unavailable)
    request = EmbeddingRequest(model="auto", inputs=("x", "y"))
    outcome = world.inference.embed(request, CALLER, mode=Mode.ASYNC, deadline=Deadline.after(9, world.clock))
    assert len(outcome.result.vectors) == 2
    assert outcome.report.attempts == 2
    assert (world.log.entries[0].operation, world.log.entries[0].mode) == (Operation.EMBED, Mode.ASYNC)


@pytest.mark.parametrize(
    "failure",
    [
        throttled,
        unavailable,
        failing(errors.ProviderOverloadedError),
        failing(errors.ProviderProtocolError),
    ],
)
def test_a_passing_failure_is_repeated_at_the_same_target(failure: Raiser) -> None:
    world = World(failure, failure)
    outcome = world.chat()
    assert world.asked == ["a/one"] * 3
    assert (outcome.report.attempts, outcome.report.fallbacks) == (3, 0)


def test_after_the_last_attempt_the_next_target_is_tried() -> None:
    world = World(unavailable, unavailable, unavailable)
    outcome = world.chat()
    assert world.asked == ["a/one"] * 3 + ["b/two"]
    assert (outcome.target.name, outcome.report.attempts, outcome.report.fallbacks) == ("b/two", 4, 1)


@pytest.mark.parametrize("failure", [timed_out, unauthorized])
def test_what_repeating_will_not_mend_goes_to_the_next_target_at_once(failure: Raiser) -> None:
    world = World(failure)
    assert world.chat().target.name == "b/two"
    assert world.clock.slept == []


def test_a_timeout_of_the_last_target_is_repeated_while_there_is_time() -> None:
    world = World(timed_out, timed_out)
    assert world.chat().report.attempts == 3


def test_a_refused_request_is_tried_nowhere_else() -> None:
    world = World(rejected)
    with pytest.raises(errors.ProviderRejectedError):
        world.chat()
    assert world.asked == ["a/one"]


def test_waits_grow_exponentially_with_full_jitter_up_to_a_ceiling() -> None:
    world = World(*[unavailable] * 4, max_attempts=5, base_s=1.0, longest_wait_s=5.0)
    world.chat(model="a/one")
    assert world.clock.slept == [2.0, 4.0, 5.0, 5.0]


def test_a_short_retry_after_is_honoured() -> None:
    world = World(failing(errors.ProviderThrottledError, retry_after_s=1.5))
    assert world.chat().target.name == "a/one"
    assert world.clock.slept == [1.5]


def test_a_long_retry_after_sends_the_request_to_the_next_target() -> None:
    world = World(failing(errors.ProviderThrottledError, retry_after_s=10))
    assert world.chat().target.name == "b/two"
    assert world.clock.slept == []


def test_a_long_retry_after_is_waited_for_when_there_is_nowhere_else_to_go() -> None:
    world = World(failing(errors.ProviderThrottledError, retry_after_s=10))
    world.chat(model="b/two")
    assert world.clock.slept == [10]


def test_nobody_waits_beyond_the_deadline() -> None:
    world = World(failing(errors.ProviderThrottledError, retry_after_s=30))
    with pytest.raises(errors.ProviderThrottledError) as raised:
        world.chat(model="b/two", seconds=28)
    assert world.clock.slept == []
    assert raised.value.retry_after_s == 30


def test_an_attempt_gets_its_own_timeout_or_what_is_left_of_the_deadline() -> None:
    world = World(timed_out, None, takes_s=100.0)
    world.chat(seconds=28)
    assert world.provider.calls == [("a/one", 20.0), ("b/two", 8.0)]


def test_without_time_left_nothing_is_asked_at_all() -> None:
    world = World()
    with pytest.raises(errors.ProviderTimeoutError):
        world.chat(seconds=0.1)
    assert world.asked == []
    assert world.log.entries[0].attempts == 0


def test_when_all_fail_the_caller_is_told_of_the_failure_that_may_pass() -> None:
    world = World(throttled, throttled, throttled, unauthorized)
    with pytest.raises(errors.ProviderThrottledError):
        world.chat()


def test_the_log_holds_tokens_cost_and_price_version_of_an_answer() -> None:
    world = World(unavailable)
    world.chat()
    [entry] = world.log.entries
    assert (entry.request_id, entry.key_id, entry.model, entry.target) == ("request-1", "key_1", "auto", "a/one")
    assert (entry.outcome, entry.http_status, entry.error_code) == (Outcome.COMPLETED, 200, None)
    assert entry.usage == Usage(input_tokens=10, output_tokens=5)
    assert entry.cost_micro_usd == Decimal("1.05")
    assert entry.price_version == "2026-01"
    assert (entry.attempts, entry.fallbacks, entry.latency_ms) == (2, 0, 400)


def test_requests_that_a_caller_gives_one_id_at_one_moment_have_an_entry_each() -> None:
    world = World()
    world.chat()
    world.chat()
    one, other = world.log.entries
    assert (one.request_id, one.started_at) == (other.request_id, other.started_at)


def test_a_target_without_a_price_leaves_the_cost_out() -> None:
    world = World()
    world.routes.entries = [target("free", price=None)]
    assert world.chat(model="free").report.cost_micro_usd is None
    assert (world.log.entries[0].cost_micro_usd, world.log.entries[0].price_version) == (None, None)


@pytest.mark.parametrize(
    ("failure", "outcome", "status", "code"),
    [
        (throttled, Outcome.THROTTLED, 429, "provider_throttled"),
        (unavailable, Outcome.FAILED, 502, "provider_unavailable"),
        (failing(errors.ContextTooLongError), Outcome.FAILED, 400, "context_length_exceeded"),
    ],
)
def test_failures_are_logged_too(failure: Raiser, outcome: Outcome, status: int, code: str) -> None:
    world = World(*[failure] * 6)
    with pytest.raises(errors.ProviderError):
        world.chat()
    [entry] = world.log.entries
    assert (entry.outcome, entry.http_status, entry.error_code) == (outcome, status, code)
    assert entry.cost_micro_usd is None


def test_even_a_bug_leaves_an_entry() -> None:
    world = World()
    world.inference._providers = {"bedrock": None}  # type: ignore[dict-item]
    with pytest.raises(AttributeError):
        world.chat()
    [entry] = world.log.entries
    assert (entry.outcome, entry.http_status, entry.error_code) == (Outcome.FAILED, 500, "internal_error")


def test_when_time_runs_out_the_real_failure_is_told() -> None:
    world = World(unavailable, takes_s=27.9, attempt_timeout_s=30.0)
    with pytest.raises(errors.ProviderUnavailableError):
        world.chat(seconds=28)
    assert world.asked == ["a/one"]


@pytest.mark.parametrize(
    ("model", "caller", "kind"),
    [
        ("nonsense", CALLER, errors.NotFoundError),
        ("auto", Caller(key_id="k", request_id="r", allowed_models=("b/two",)), errors.PermissionDeniedError),
    ],
)
def test_what_was_never_routed_is_not_logged(model: str, caller: Caller, kind: type[Exception]) -> None:
    world = World()
    with pytest.raises(kind):
        world.chat(model=model, caller=caller)
    assert world.log.entries == []


def test_an_answer_is_given_even_if_the_log_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.log.failing = errors.StateError("The table is throttling.")
    assert world.chat().result.text == "answer of a/one"
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [line] = [line for line in lines if line.get("event") == "ledger_write_failed"]
    assert (line["level"], Decimal(line["entry"]["cost_micro_usd"])) == ("error", Decimal("1.05"))
    assert any(line.get("LedgerWriteFailed") == 1 for line in lines)


def test_a_missing_permission_to_write_the_log_fails_the_request() -> None:
    world = World()
    world.log.failing = errors.ConfigurationError("The table refused PutItem.")
    with pytest.raises(errors.ConfigurationError):
        world.chat()


def test_metrics_are_counted_by_operation_and_target(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.chat()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [line] = [line for line in lines if "_aws" in line]
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Operation", "Target"]]
    assert (line["Operation"], line["Target"], line["Requests"]) == ("chat", "a/one", 1)
    assert (line["InputTokens"], line["OutputTokens"], line["CostMicroUsd"]) == (10, 5, 1.05)
