"""Streams, hedging, circuits and strategies, as a caller of the use case sees them."""

import random
import threading
import time
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.domain import errors
from sluice.domain.deadline import Deadline
from sluice.domain.inference import (
    Caller,
    ChatRequest,
    EmbeddingRequest,
    FinishReason,
    Message,
    Mode,
    RefusalDelta,
    ResponseFormat,
    StreamEnd,
    Tool,
    Usage,
)
from sluice.domain.request_log import Outcome
from sluice.domain.resilience import CircuitPolicy, CircuitState, Health, TargetState, Verdict
from sluice.domain.routing import Alias, AliasTarget, Capability, Preferences, Strategy, Target
from sluice.runtime.http import error_headers, status_of
from sluice.services.infer import ChatStream, Inference, RetryPolicy
from sluice.services.watch_targets import WatchTargets
from sluice.testing.clock import FakeClock
from sluice.testing.ledger import FakeLedger
from sluice.testing.providers import FakeProvider, Raiser
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import FakeTargetStates

CALLER = Caller(key_id="key_1", request_id="request-1")
CHAT = ChatRequest(model="auto", messages=(Message("user", "12345678"),))
ALL = frozenset(Capability)
NO_PREFERENCES = Preferences()


def failing(kind: type[errors.ProviderError], *, retry_after_s: float | None = None) -> Raiser:
    return lambda where: kind("It failed.", target=where.name, retry_after_s=retry_after_s)


throttled = failing(errors.ProviderThrottledError)
unavailable = failing(errors.ProviderUnavailableError)


class World:
    """Two targets behind ``auto``; circuits open after three failures, for thirty seconds."""

    def __init__(self, *failures: Raiser | None, hedge_after_s: float | None = None, dice: Any = None) -> None:
        self.clock = FakeClock()
        self.provider = FakeProvider(*failures, clock=self.clock)
        self.log = FakeRequestLog()
        self.routes = FakeRoutes(target("a/one"), target("b/two"), alias("auto", "a/one", "b/two"))
        self.states = FakeTargetStates()
        policy = CircuitPolicy(failures=3, open_s=30.0)
        self.watch = WatchTargets(self.states, policy, cache_s=3.0, now=self.clock, clock=self.clock)
        self.inference = Inference(
            routes=self.routes,
            providers={"bedrock": self.provider},
            request_log=self.log,
            ledger=FakeLedger(self.log, now=self.clock),
            watch=self.watch,
            policy=RetryPolicy(max_attempts=2, attempt_timeout_s=20.0, hedge_after_s=hedge_after_s),
            http_status=status_of,
            now=self.clock,
            clock=self.clock,
            sleep=self.clock.sleep,
            jitter=lambda _low, _high: 0.0,
            dice=dice or random.Random(1),
        )

    def chat(self, request: ChatRequest = CHAT, *, preferences: Preferences = NO_PREFERENCES) -> Any:
        deadline = Deadline.after(28, self.clock)
        return self.inference.chat(request, CALLER, mode=Mode.SYNC, deadline=deadline, preferences=preferences)

    def stream(self, request: ChatRequest = CHAT) -> ChatStream:
        return self.inference.stream(request, CALLER, mode=Mode.SYNC, deadline=Deadline.after(28, self.clock))

    def open(self, *names: str) -> None:
        for name in names:
            for _ in range(3):
                permit = self.watch.permit(name, lease_s=1)
                assert permit is not None
                self.watch.report(permit, Verdict.FAILURE, operation="chat")

    @property
    def asked(self) -> list[str]:
        return [name for name, _ in self.provider.calls]


# ----------------------------------------------------------------------------------------------- streams
def test_a_stream_is_settled_by_the_time_its_end_is_seen() -> None:
    world = World()
    stream = world.stream()
    assert world.log.entries == []
    with pytest.raises(RuntimeError):
        stream.report()
    pieces = iter(stream)
    *_, end = pieces
    assert end == StreamEnd(finish_reason=FinishReason.STOP, usage=Usage(input_tokens=10, output_tokens=5))
    assert stream.answer().result.text == "answer of a/one"
    [entry] = world.log.entries
    assert (entry.outcome, entry.target, entry.cost_micro_usd) == (Outcome.COMPLETED, "a/one", Decimal("1.05"))
    assert stream.report().attempts == 1
    assert world.provider.closed == ["a/one"]


def test_a_stream_that_fails_before_its_first_output_goes_elsewhere() -> None:
    world = World(unavailable, unavailable)
    stream = world.stream()
    assert stream.target.name == "b/two"
    list(stream)
    assert (stream.report().attempts, stream.report().fallbacks) == (3, 1)


def test_nothing_is_handed_over_when_no_target_begins() -> None:
    world = World(*[unavailable] * 4)
    with pytest.raises(errors.ProviderUnavailableError) as raised:
        world.stream()
    assert raised.value.report is not None
    assert raised.value.report.attempts == 4
    assert [entry.outcome for entry in world.log.entries] == [Outcome.FAILED]


@pytest.mark.parametrize("after", [1, 2])
def test_a_stream_that_breaks_off_goes_nowhere_else_and_is_paid_for(after: int) -> None:
    world = World()
    world.provider.breaks, world.provider.breaks_after = unavailable, after
    stream = world.stream()
    seen = []
    with pytest.raises(errors.ProviderUnavailableError):
        seen += list(stream)
    assert world.asked == ["a/one"]
    [entry] = world.log.entries
    assert (entry.outcome, entry.http_status, entry.error_code) == (Outcome.FAILED, 502, "provider_unavailable")
    written = len("answer of "[: 6 if after == 1 else 10])
    assert entry.usage == Usage(input_tokens=2, output_tokens=-(-written // 4), estimated=True)
    assert entry.cost_micro_usd == stream.report().cost_micro_usd is not None
    assert world.states.stored["a/one"].circuit.run == 1
    with pytest.raises(RuntimeError):
        stream.answer()


def test_a_stream_without_a_count_is_estimated_and_says_so() -> None:
    world = World()
    world.provider.usage = None
    *_, end = world.stream()
    assert isinstance(end, StreamEnd)
    assert end.usage == Usage(input_tokens=2, output_tokens=4, estimated=True)
    assert world.log.entries[0].usage == end.usage


def test_a_reader_who_leaves_pays_for_what_was_written() -> None:
    world = World()
    stream = world.stream()
    pieces: Any = iter(stream)
    next(pieces)
    pieces.close()
    [entry] = world.log.entries
    assert entry.outcome is Outcome.FAILED
    assert entry.cost_micro_usd is not None


def test_a_target_that_keeps_silent_is_given_up_in_time_for_the_next() -> None:
    world = World()
    silent = msgspec.structs.replace(target("a/one"), attempt_timeout_s=0.3)
    world.routes.entries[0] = silent
    world.provider.stuck = {"a/one": threading.Event()}
    stream = world.stream()
    assert stream.target.name == "b/two"
    world.provider.stuck["a/one"].set()


def test_a_target_that_reasons_is_not_silent() -> None:
    world = World()
    world.routes.entries[0] = msgspec.structs.replace(target("a/one"), attempt_timeout_s=0.3)
    world.provider.reasoning, world.provider.pause = ("Let me see.",), threading.Event()
    threading.Timer(0.5, world.provider.pause.set).start()
    stream = world.stream()
    list(stream)
    assert (world.asked, stream.answer().result.text) == (["a/one"], "answer of a/one")


def test_reasoning_is_paid_for_when_nothing_comes_after_it() -> None:
    world = World()
    world.provider.reasoning = ("12345678", "9")
    world.provider.breaks, world.provider.breaks_after = unavailable, 2
    with pytest.raises(errors.ProviderUnavailableError):
        list(world.stream())
    assert world.asked == ["a/one"]
    assert world.log.entries[0].usage == Usage(input_tokens=2, output_tokens=3, reasoning_tokens=3, estimated=True)


def out_of_time(world: World, *, after_s: float) -> errors.ProviderError:
    """How a stream ends whose first output has come, and whose time is over when it has been silent for so long."""
    world.provider.pause = threading.Event()
    stream = world.stream()
    time.sleep(after_s)
    # What is left is spent on waiting for it.
    world.clock.advance(27.8)
    with pytest.raises(errors.ProviderError) as raised:
        list(stream)
    world.provider.pause.set()
    return raised.value


def test_answers_that_are_too_long_for_their_time_open_no_circuit() -> None:
    world = World()
    for _ in range(5):
        error = out_of_time(world, after_s=0.0)
        assert (type(error), error.code, status_of(error)) == (errors.AnswerUnfinishedError, "provider_timeout", 504)
    assert world.states.writes == 0
    assert all(entry.cost_micro_usd for entry in world.log.entries)


def test_one_that_fell_silent_before_its_time_was_over_has_failed() -> None:
    world = World()
    world.routes.entries[0] = msgspec.structs.replace(target("a/one"), attempt_timeout_s=0.3)
    assert type(out_of_time(world, after_s=0.4)) is errors.ProviderTimeoutError
    assert world.states.stored["a/one"].circuit.run == 1


FORM = ResponseFormat(type="json_schema", name="person", schema={"type": "object", "required": ["name"]})


def refusing() -> World:
    world = World()
    world.provider.refusal = "I cannot help with that."
    world.routes.entries[0] = msgspec.structs.replace(target("a/one"), capabilities=ALL)
    return world


def test_a_refusal_is_an_answer_and_not_asked_to_be_json() -> None:
    world = refusing()
    answer = world.chat(msgspec.structs.replace(CHAT, response_format=FORM))
    assert (answer.result.refusal, answer.result.text) == ("I cannot help with that.", "")
    assert world.asked == ["a/one"]


@pytest.mark.parametrize("form", [None, FORM])
def test_a_refusal_is_streamed_as_one(form: ResponseFormat | None) -> None:
    world = refusing()
    stream = world.stream(msgspec.structs.replace(CHAT, response_format=form))
    first, end = stream
    assert first == RefusalDelta("I cannot help with that.")
    assert isinstance(end, StreamEnd)
    assert stream.answer().result.refusal == "I cannot help with that."


def test_only_the_first_output_of_a_stream_has_to_come_sooner_than_a_whole_answer() -> None:
    world = World()
    world.inference._policy = RetryPolicy(max_attempts=1, attempt_timeout_s=240.0, first_output_timeout_s=0.3)
    world.chat()
    assert world.provider.calls == [("a/one", 28.0)]
    world.provider.stuck = {"a/one": threading.Event()}
    assert world.stream().target.name == "b/two"
    world.provider.stuck["a/one"].set()


@pytest.mark.parametrize(("streaming", "own", "expected"), [(False, None, 240), (True, None, 20), (True, 5, 5)])
def test_an_attempts_time_is_that_of_what_is_waited_for(streaming: bool, own: float | None, expected: float) -> None:
    policy = RetryPolicy(attempt_timeout_s=240.0, first_output_timeout_s=20.0)
    asked = msgspec.structs.replace(target("a/one"), attempt_timeout_s=own)
    assert policy.timeout_s(asked, Deadline.after(299, FakeClock()), streaming=streaming) == expected


# ----------------------------------------------------------------------------------------------- hedging
def test_a_silent_first_target_is_hedged_and_the_first_answer_wins() -> None:
    world = World(hedge_after_s=0.05)
    gate = threading.Event()
    world.provider.stuck = {"a/one": gate}
    answer = world.chat()
    gate.set()
    report = answer.report
    assert (report.target, report.attempts, report.fallbacks, report.hedged) == ("b/two", 2, 1, True)
    assert len(world.log.entries) == 1
    assert world.states.writes == 0


def test_a_first_target_that_answers_late_can_still_win() -> None:
    world = World(hedge_after_s=0.05)
    gates = {"a/one": threading.Event(), "b/two": threading.Event()}
    world.provider.stuck = gates
    threading.Timer(0.2, gates["a/one"].set).start()
    answer = world.chat()
    gates["b/two"].set()
    assert (answer.target.name, answer.report.attempts, answer.report.hedged) == ("a/one", 2, True)


def test_one_that_answers_in_time_is_not_hedged() -> None:
    world = World(hedge_after_s=5.0)
    assert (world.chat().report.hedged, world.asked) == (False, ["a/one"])


def test_a_first_target_that_fails_at_once_leaves_it_to_the_next() -> None:
    world = World(unavailable, hedge_after_s=5.0)
    assert (world.chat().target.name, world.asked) == ("b/two", ["a/one", "b/two"])


def test_when_both_fail_the_caller_is_told() -> None:
    world = World(throttled, throttled, throttled, hedge_after_s=5.0)
    with pytest.raises(errors.ProviderThrottledError):
        world.chat()
    assert world.asked == ["a/one", "b/two", "b/two"]


def test_an_alias_has_its_own_patience() -> None:
    world = World()
    world.routes.entries[2] = msgspec.structs.replace(alias("auto", "a/one", "b/two"), hedge_after_ms=50)
    world.provider.stuck = {"a/one": threading.Event()}
    assert world.chat().report.hedged
    world.provider.stuck["a/one"].set()


def test_a_stream_is_hedged_too_and_the_loser_is_closed() -> None:
    world = World(hedge_after_s=0.05)
    gate = threading.Event()
    world.provider.stuck = {"a/one": gate}
    stream = world.stream()
    assert stream.target.name == "b/two"
    gate.set()
    list(stream)
    assert stream.report().hedged


# ---------------------------------------------------------------------------------------------- circuits
def test_an_open_target_is_passed_over() -> None:
    world = World()
    world.open("a/one")
    answer = world.chat()
    assert (answer.target.name, answer.report.attempts, answer.report.fallbacks) == ("b/two", 1, 1)


def test_a_circuit_that_opens_on_the_way_ends_the_repeats() -> None:
    world = World(*[unavailable] * 9)
    with pytest.raises(errors.ProviderUnavailableError):
        world.chat(msgspec.structs.replace(CHAT, model="a/one"))
    with pytest.raises(errors.ProviderUnavailableError):
        world.chat(msgspec.structs.replace(CHAT, model="a/one"))
    assert len(world.asked) == 3
    assert world.states.stored["a/one"].circuit.state is CircuitState.OPEN


@pytest.mark.parametrize("model", ["auto", "a/one"])
def test_when_all_are_open_the_caller_learns_when_the_first_is_not(model: str) -> None:
    world = World()
    world.open("a/one")
    world.clock.advance(7)
    world.open("b/two")
    with pytest.raises(errors.AllTargetsUnavailableError) as raised:
        world.chat(msgspec.structs.replace(CHAT, model=model))
    assert raised.value.retry_after_s == 23
    assert status_of(raised.value) == 503
    headers = error_headers(raised.value)
    assert (headers["retry-after"], headers["x-sluice-attempts"]) == ("23", "0")
    assert "x-should-retry" not in headers
    assert world.asked == []
    [entry] = world.log.entries
    assert (entry.outcome, entry.error_code, entry.attempts) == (Outcome.FAILED, "all_targets_unavailable", 0)


def test_a_probe_is_asked_once_and_not_repeated() -> None:
    world = World(unavailable)
    world.open("a/one")
    world.clock.advance(31)
    assert world.chat().target.name == "b/two"
    assert world.asked == ["a/one", "b/two"]
    assert world.states.stored["a/one"].circuit.until == world.clock.time + 30


def test_a_refused_request_closes_it_as_the_provider_is_there() -> None:
    world = World(failing(errors.ContentFilteredError))
    world.open("a/one")
    world.clock.advance(31)
    with pytest.raises(errors.ContentFilteredError):
        world.chat()
    assert world.states.stored["a/one"].circuit.is_clean


def test_round_trips_of_healthy_requests() -> None:
    world = World()
    for _ in range(50):
        world.chat()
        list(world.stream())
    assert (world.states.reads, world.states.writes) == (1, 0)


# --------------------------------------------------------------------------------------------- selection
def spread(strategy: Strategy, *, weights: tuple[int, int] = (1, 1)) -> Alias:
    targets = (AliasTarget(target="a/one", weight=weights[0]), AliasTarget(target="b/two", weight=weights[1]))
    return msgspec.structs.replace(alias("auto", "a/one", "b/two"), strategy=strategy, targets=targets)


def test_round_robin_takes_turns() -> None:
    world = World()
    world.routes.entries[2] = spread(Strategy.ROUND_ROBIN)
    for _ in range(10):
        world.chat()
    assert Counter(world.asked) == {"a/one": 5, "b/two": 5}


def test_weights_share_out_the_requests() -> None:
    world = World(dice=random.Random(3))
    world.routes.entries[2] = spread(Strategy.WEIGHTED, weights=(9, 1))
    for _ in range(1_000):
        world.chat()
    assert 0.87 < world.asked.count("a/one") / 1_000 < 0.93


def test_latency_learns_from_each_answer() -> None:
    world = World()
    world.routes.entries[2] = spread(Strategy.LATENCY)
    slow = TargetState(health=Health(ms_per_token=500.0, at=world.clock.time), health_version="v")
    world.states.stored["a/one"] = slow
    for _ in range(20):
        world.chat()
    assert set(world.asked) == {"b/two"}
    assert world.states.writes == 1


def test_a_header_changes_the_strategy_of_one_request() -> None:
    world = World()
    dear = msgspec.structs.replace(target("a/one"), price=None)
    world.routes.entries[0] = dear
    assert world.chat(preferences=Preferences(strategy="cost")).target.name == "b/two"
    assert world.chat().target.name == "a/one"


def test_a_header_picks_the_target() -> None:
    world = World()
    assert world.chat(preferences=Preferences(target="b/two")).target.name == "b/two"


def _with(*targets: Target) -> World:
    world = World()
    world.routes.entries = [*targets, alias("auto", *(each.name for each in targets))]
    return world


def test_a_target_that_cannot_do_it_is_left_out() -> None:
    able = msgspec.structs.replace(target("b/two"), capabilities=ALL)
    world = _with(target("a/one"), able)
    tools = msgspec.structs.replace(CHAT, tools=(Tool(name="find"),))
    assert world.chat(tools).target.name == "b/two"
    assert world.chat(msgspec.structs.replace(tools, tool_choice="none")).target.name == "a/one"


def test_what_no_target_can_do_is_refused_by_the_name_of_the_field() -> None:
    world = World()
    with pytest.raises(errors.InvalidRequestError) as raised:
        world.chat(msgspec.structs.replace(CHAT, tools=(Tool(name="find"),)))
    assert (raised.value.param, raised.value.code) == ("tools", "unsupported_parameter")
    assert world.log.entries == []


def test_a_long_prompt_goes_to_a_target_with_room() -> None:
    small = msgspec.structs.replace(target("a/one"), context_length=100)
    large = msgspec.structs.replace(target("b/two"), context_length=10_000)
    world = _with(small, large)
    long = msgspec.structs.replace(CHAT, messages=(Message("user", "x" * 4_000),))
    assert world.chat(long).target.name == "b/two"
    with pytest.raises(errors.ContextTooLongError) as raised:
        world.chat(msgspec.structs.replace(long, model="a/one"))
    assert (status_of(raised.value), world.asked) == (400, ["b/two"])


def test_what_is_too_long_for_one_is_asked_of_one_with_more_room() -> None:
    small = msgspec.structs.replace(target("a/one"), context_length=100)
    large = msgspec.structs.replace(target("b/two"), context_length=10_000)
    world = _with(small, large)
    world.provider._failures = [failing(errors.ContextTooLongError)]
    assert world.chat().target.name == "b/two"


def test_what_one_target_does_not_know_is_asked_of_the_next_and_counts_as_no_attempt() -> None:
    world = World(failing(errors.UnsupportedByTargetError))
    answer = world.chat()
    assert (answer.target.name, answer.report.attempts) == ("b/two", 1)
    assert world.states.writes == 0


def test_overhead_is_the_time_nobody_waited_for_a_provider() -> None:
    world = World(throttled)
    world.provider._takes_s = 1.5
    answer = world.chat()
    assert answer.report.overhead_ms == 0
    assert world.log.entries[0].latency_ms == 3_000


def test_an_embedding_is_not_streamed_but_otherwise_the_same() -> None:
    world = World()
    world.open("a/one")
    request = EmbeddingRequest(model="auto", inputs=("x",))
    answer = world.inference.embed(request, CALLER, mode=Mode.SYNC, deadline=Deadline.after(9, world.clock))
    assert answer.target.name == "b/two"
