"""No request costs more than was held for it, none is held to more than it needs, and every hold is given back."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.domain import errors
from sluice.domain.classification import ClassificationRequest, Label
from sluice.domain.deadline import Deadline
from sluice.domain.inference import (
    Caller,
    ChatDelta,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    FinishReason,
    Message,
    Mode,
    Operation,
    ResponseFormat,
    StreamEnd,
    TextDelta,
    Usage,
)
from sluice.domain.ledger import NO_LIMITS, ZERO, Limit, Limits, Standing
from sluice.domain.ports import ModelProvider
from sluice.domain.pricing import Price, Rates
from sluice.domain.request_log import Outcome, RequestLogEntry
from sluice.domain.resilience import CircuitPolicy, Verdict
from sluice.domain.routing import NO_PREFERENCES, Capability, Preferences, Report, Strategy, Target
from sluice.domain.scoring import FEATURE_COUNT, LeadScore, ScoreRequest, ScoreResult
from sluice.runtime.http import status_of
from sluice.services.answer_cache import AnswerCache
from sluice.services.infer import ChatStream, Inference, RetryPolicy
from sluice.services.watch_targets import WatchTargets
from sluice.testing.answers import FakeAnswers
from sluice.testing.clock import FakeClock
from sluice.testing.ledger import FakeLedger
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import PRICE, FakeRoutes, alias, target
from sluice.testing.target_states import FakeTargetStates

CHAT = ChatRequest(model="auto", messages=(Message("user", "hello"),))
# One call's instruction, one message, five letters; see domain/bounds.py.
INPUT = 141
MOST_OUTPUT = 1_000
WHOLE = INPUT * PRICE.input_per_mtok + MOST_OUTPUT * PRICE.output_per_mtok
LEAST = INPUT * PRICE.input_per_mtok + 64 * PRICE.output_per_mtok
USAGE = Usage(input_tokens=10, output_tokens=5)
COST = Decimal("1.05")
DEAR = Price(version="dear", input_per_mtok=Decimal("0.35"), output_per_mtok=Decimal("1.4"))
ON = Preferences(cache="on")
JSON = msgspec.structs.replace(CHAT, response_format=ResponseFormat(type="json_object"))


def budget(micro_usd: Decimal | int | str, **more: Any) -> Limits:
    return Limits(total_budget_micro_usd=Decimal(micro_usd), **more)


def error_of(kind: type[errors.ProviderError], *, billed: tuple[Usage, ...] = ()) -> Callable[[Target], Exception]:
    def made(where: Target) -> Exception:
        error = kind("It failed.", target=where.name)
        error.calls = billed
        return error

    return made


unavailable = error_of(errors.ProviderUnavailableError)
billed_failure = error_of(errors.ProviderProtocolError, billed=(USAGE,))


class Scripted(ModelProvider):
    """Each call takes the next of ``script``: a text, or what makes an error. Without one it says ``{}``."""

    def __init__(self) -> None:
        self.script: list[str | Callable[[Target], Exception]] = []
        self.calls: list[tuple[str, ChatRequest]] = []
        self.usage = USAGE
        self.stuck: dict[str, threading.Event] = {}
        self.finish = FinishReason.STOP
        self.before: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        text = self._next(target, request)
        return ChatResult(text=text, finish_reason=self.finish, usage=self.usage)

    def stream(self, target: Target, request: ChatRequest, *, timeout_s: float) -> Generator[ChatDelta, None, None]:
        yield TextDelta(self._next(target, request))
        yield StreamEnd(finish_reason=self.finish, usage=self.usage)

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> Any:
        raise AssertionError("Nothing here embeds.")

    def score(self, target: Target, request: ScoreRequest, *, timeout_s: float) -> ScoreResult:
        return ScoreResult(scores=tuple(LeadScore.of(0.5) for _ in request.rows), model_version="1")

    def _next(self, target: Target, request: ChatRequest) -> str:
        with self._lock:
            self.calls.append((target.name, request))
            step = self.script.pop(0) if self.script else "{}"
        self.before()
        if target.name in self.stuck:
            assert self.stuck[target.name].wait(timeout=10)
        if not isinstance(step, str):
            raise step(target)
        return step


def able(name: str, **changes: Any) -> Target:
    whole = target(name, operations=tuple(Operation))
    return msgspec.structs.replace(whole, **{"capabilities": frozenset(Capability), **changes})


class World:
    """An Inference over fakes: ``a/one``, then ``b/two``, two attempts each; answers of up to 1,000 tokens."""

    def __init__(self, limits: Limits = NO_LIMITS, *, hedge_after_s: float | None = None) -> None:
        self.clock = FakeClock(1_700_000_000.0)
        self.provider = Scripted()
        self.log = FakeRequestLog()
        self.ledger = FakeLedger(self.log, now=self.clock)
        self.answers = FakeAnswers()
        self.routes = FakeRoutes(able("a/one"), able("b/two"), alias("auto", "a/one", "b/two"))
        self.watch = WatchTargets(
            FakeTargetStates(), CircuitPolicy(failures=9, open_s=30.0), cache_s=3.0, now=self.clock, clock=self.clock
        )
        self.limits = limits
        self.inference = Inference(
            routes=self.routes,
            providers={"bedrock": self.provider},
            request_log=self.log,
            ledger=self.ledger,
            watch=self.watch,
            policy=RetryPolicy(max_attempts=2, hedge_after_s=hedge_after_s),
            http_status=status_of,
            answers=AnswerCache(self.answers, now=self.clock),
            max_output_tokens=MOST_OUTPUT,
            now=self.clock,
            clock=self.clock,
            sleep=self.clock.sleep,
            jitter=lambda _low, _high: 0.0,
        )

    def caller(self, key_id: str = "key_1") -> Caller:
        return Caller(key_id=key_id, request_id="request-1", limits=self.limits)

    def deadline(self) -> Deadline:
        return Deadline.after(28, self.clock)

    def chat(
        self,
        request: ChatRequest = CHAT,
        *,
        preferences: Preferences = NO_PREFERENCES,
        caller: Caller | None = None,
        mode: Mode = Mode.SYNC,
    ) -> Any:
        # Entries are told apart by their time.
        self.clock.advance(0.001)
        return self.inference.chat(
            request, caller or self.caller(), mode=mode, deadline=self.deadline(), preferences=preferences
        )

    def stream(self, request: ChatRequest = CHAT, *, preferences: Preferences = NO_PREFERENCES) -> ChatStream:
        self.clock.advance(0.001)
        return self.inference.stream(
            request, self.caller(), mode=Mode.SYNC, deadline=self.deadline(), preferences=preferences
        )

    def classify(self, inputs: int, model: str = "a/one") -> Any:
        request = ClassificationRequest(
            model=model, inputs=tuple(f"text {n}" for n in range(inputs)), labels=(Label("{}"), Label("b", "größer"))
        )
        return self.inference.classify(request, self.caller(), mode=Mode.SYNC, deadline=self.deadline())

    def open(self, *names: str) -> None:
        """Have the circuits of these targets open."""
        for name in names:
            for _ in range(9):
                permit = self.watch.permit(name, lease_s=1)
                assert permit is not None
                self.watch.report(permit, Verdict.FAILURE, operation="chat")

    def standing(self) -> Standing:
        return self.ledger.standing("key_1", self.limits)

    @property
    def asked(self) -> list[str]:
        return [name for name, _ in self.provider.calls]

    @property
    def entry(self) -> RequestLogEntry:
        [entry] = self.log.entries
        return entry

    def assert_settled(self) -> None:
        """Nothing is held any more, and what is spent is what the log says."""
        standing = self.standing()
        assert self.ledger.open_holds("key_1") == 0
        assert (standing.held_micro_usd, standing.total_held_micro_usd) == (ZERO, ZERO)
        entries = self.log.entries
        assert standing.total_spent_micro_usd == sum((entry.cost_micro_usd or ZERO for entry in entries), ZERO)
        assert standing.requests == len(entries)
        assert standing.input_tokens == sum(entry.usage.input_tokens for entry in entries if entry.usage)
        assert standing.output_tokens == sum(entry.usage.output_tokens for entry in entries if entry.usage)
        assert all(entry.hold for entry in entries)


# ------------------------------------------------------------------------------------------ one hold, given back
@pytest.mark.parametrize("limits", [NO_LIMITS, budget(1_000_000, rpm=60, tpm=100_000)], ids=["free", "limited"])
def test_a_request_is_held_once_and_settled_once(limits: Limits) -> None:
    world = World(limits)
    world.chat()
    list(world.stream())
    world.clock.advance(1)
    world.inference.score(
        ScoreRequest(model="a/one", rows=((1.0,) * FEATURE_COUNT,)),
        world.caller(),
        mode=Mode.SYNC,
        deadline=world.deadline(),
    )
    assert world.ledger.calls == {"reserve": 3, "settle": 3}
    world.assert_settled()


def test_while_it_is_at_work_the_most_it_can_come_to_is_held() -> None:
    world = World(budget(1_000))
    seen: list[Standing] = []
    world.provider.before = lambda: seen.append(world.standing())
    world.chat()
    assert [standing.total_held_micro_usd for standing in seen] == [WHOLE]
    assert world.standing().total_spent_micro_usd == COST
    assert world.entry.cost_micro_usd == COST


def test_the_hold_outlives_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    reserve, asked = world.ledger.reserve, []

    def remembered(*args: Any, until: float) -> Any:
        asked.append(until)
        return reserve(*args, until=until)

    monkeypatch.setattr(world.ledger, "reserve", remembered)
    world.chat(preferences=ON)
    world.chat(preferences=ON)
    assert [until - world.clock() for until in asked] == [pytest.approx(30, abs=0.01)] * 2


def never_answered(world: World) -> object:
    world.provider.script = [unavailable] * 4
    return world.chat()


def stumbling_over_a_bug(world: World) -> object:
    world.provider.script = [lambda _: RuntimeError("a bug")]
    return world.chat()


def with_every_circuit_open(world: World) -> object:
    world.open("a/one", "b/two")
    return world.chat()


def too_late(world: World) -> object:
    return world.inference.chat(CHAT, world.caller(), mode=Mode.SYNC, deadline=Deadline.after(0.1, world.clock))


def never_in_the_form(world: World) -> object:
    world.provider.script = ["no JSON", "none again"]
    return world.chat(JSON)


def streaming_in_vain(world: World) -> object:
    world.provider.script = [unavailable] * 4
    return world.stream()


FAILURES = {
    never_answered: errors.ProviderUnavailableError,
    stumbling_over_a_bug: RuntimeError,
    with_every_circuit_open: errors.AllTargetsUnavailableError,
    too_late: errors.ProviderTimeoutError,
    never_in_the_form: errors.InvalidModelOutputError,
    streaming_in_vain: errors.ProviderUnavailableError,
}


@pytest.mark.parametrize(("failing", "kind"), FAILURES.items(), ids=lambda each: each.__name__)
def test_whatever_goes_wrong_nothing_stays_held(failing: Callable[[World], object], kind: type[Exception]) -> None:
    world = World(budget(1_000))
    with pytest.raises(kind):
        failing(world)
    world.assert_settled()
    assert world.entry.outcome is Outcome.FAILED


def test_nor_when_the_log_may_not_be_written() -> None:
    world = World(budget(1_000))
    world.log.failing = errors.ConfigurationError("The table refused PutItem.")
    with pytest.raises(errors.ConfigurationError):
        world.chat()
    assert (world.ledger.open_holds("key_1"), world.standing().total_spent_micro_usd) == (0, COST)


def test_a_stream_is_held_until_its_end() -> None:
    world = World(budget(1_000))
    stream = iter(world.stream())
    next(stream)
    assert world.standing().total_held_micro_usd == WHOLE
    list(stream)
    world.assert_settled()
    assert world.standing().total_spent_micro_usd == COST


@pytest.mark.parametrize("read", [0, 1])
def test_a_reader_who_leaves_pays_for_what_was_written_and_no_more(read: int) -> None:
    world = World(budget(1_000))
    stream = world.stream()
    pieces = iter(stream)
    for _ in range(read):
        next(pieces)
    stream.close()
    stream.close()
    world.assert_settled()
    assert 0 < world.standing().total_spent_micro_usd < COST
    assert world.entry.outcome is Outcome.FAILED
    assert list(pieces) == []


def test_closing_a_stream_that_is_over_changes_nothing() -> None:
    world = World(budget(1_000))
    stream = world.stream()
    list(stream)
    stream.close()
    assert world.ledger.calls["settle"] == 1
    whole = world.stream(JSON)
    whole.close()
    world.assert_settled()


def test_an_answer_is_given_even_if_the_ledger_cannot_be_told_and_the_log_mends_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World(budget(1_000))
    world.provider.before = lambda: setattr(world.ledger, "failing", errors.StateError("down"))
    assert world.chat().result.text == "{}"
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [line] = [line for line in lines if line.get("event") == "settle_failed"]
    assert (line["level"], line["hold"]) == ("error", world.entry.hold)
    world.ledger.failing = None
    assert world.standing().total_held_micro_usd == WHOLE
    world.clock.advance(120)
    world.assert_settled()
    assert world.standing().total_spent_micro_usd == COST


def test_a_missing_permission_to_settle_fails_the_request() -> None:
    world = World()
    refused = errors.ConfigurationError("The table refused UpdateItem.")
    world.provider.before = lambda: setattr(world.ledger, "failing", refused)
    with pytest.raises(errors.ConfigurationError):
        world.chat()


def test_when_nobody_can_tell_what_is_left_nobody_is_asked() -> None:
    world = World(budget(1_000))
    world.ledger.failing = errors.StateError("down")
    with pytest.raises(errors.StateError):
        world.chat()
    assert (world.asked, world.log.entries) == ([], [])


@pytest.mark.parametrize(
    ("request_", "preferences", "kind"),
    [
        (msgspec.structs.replace(CHAT, model="nonsense"), NO_PREFERENCES, errors.NotFoundError),
        (msgspec.structs.replace(CHAT, max_tokens=5_000), NO_PREFERENCES, errors.InvalidRequestError),
        (CHAT, Preferences(cache="sometimes"), errors.InvalidRequestError),
        (CHAT, Preferences(cache_ttl="0"), errors.InvalidRequestError),
    ],
)
def test_what_is_wrong_by_itself_takes_nothing_of_the_limits(
    request_: ChatRequest, preferences: Preferences, kind: type[Exception]
) -> None:
    world = World(Limits(rpm=1))
    for run in (world.chat, world.stream):
        with pytest.raises(kind):
            run(request_, preferences=preferences)
    assert not world.ledger.calls


# -------------------------------------------------------------------------------------------------- refusals
def test_a_refusal_costs_nothing_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(Limits(rpm=1))
    world.chat()
    capsys.readouterr()
    with pytest.raises(errors.RateLimitedError) as raised:
        world.chat()
    assert (len(world.asked), len(world.log.entries)) == (1, 1)
    assert raised.value.limit is Limit.REQUESTS
    assert raised.value.report == Report(standing=raised.value.standing)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["LimitRefusals"] for line in lines if "_aws" in line] == [1]
    world.clock.advance(raised.value.retry_after_s or 0)
    world.chat()


def test_a_budget_that_is_spent_refuses_a_stream_before_it_begins() -> None:
    world = World(budget(1))
    with pytest.raises(errors.BudgetExceededError):
        world.stream()
    assert world.asked == []


# ----------------------------------------------------------------------------------------------- less output
@pytest.mark.parametrize(
    "limits", [Limits(tpm=INPUT + 300), budget(INPUT * PRICE.input_per_mtok + 42)], ids=["tpm", "$"]
)
def test_where_less_is_left_the_answer_may_be_shorter_and_the_caller_is_told(limits: Limits) -> None:
    world = World(limits)
    answer = world.chat()
    assert world.provider.calls[0][1].max_tokens == 300
    assert answer.report.max_output_tokens == 300
    world.assert_settled()


@pytest.mark.parametrize("limits", [Limits(tpm=50_000), budget(500), NO_LIMITS], ids=["tpm", "$", "free"])
def test_where_enough_is_left_nothing_is_cut(limits: Limits) -> None:
    world = World(limits)
    assert world.chat().report.max_output_tokens is None
    assert world.provider.calls[0][1].max_tokens == MOST_OUTPUT


def test_a_stream_is_held_to_it_too() -> None:
    world = World(Limits(tpm=INPUT + 300))
    stream = world.stream()
    list(stream)
    assert world.provider.calls[0][1].max_tokens == 300
    assert stream.report().max_output_tokens == 300


def test_too_short_an_answer_is_refused() -> None:
    world = World(Limits(tpm=INPUT + 63))
    with pytest.raises(errors.RateLimitedError):
        world.chat()
    assert world.chat(msgspec.structs.replace(CHAT, max_tokens=63)).report.max_output_tokens is None


def test_an_answer_in_a_form_is_whole_or_refused() -> None:
    world = World(Limits(tpm=1_000))
    with pytest.raises(errors.RateLimitedError):
        world.chat(JSON)
    assert world.asked == []


def test_where_nobody_says_how_long_an_answer_may_be_a_limited_key_does() -> None:
    for limits, sent in ((NO_LIMITS, None), (Limits(rpm=5), None), (budget(10_000), 16_384)):
        world = World(limits)
        world.inference._admit._most = None
        world.chat()
        assert world.provider.calls[0][1].max_tokens == sent


def test_a_fallback_that_could_write_more_writes_what_is_held() -> None:
    world = World(budget(1_000))
    world.routes.entries[0] = able("a/one", max_output_tokens=100)
    world.provider.script = [unavailable, unavailable]
    answer = world.chat()
    assert [sent.max_tokens for _, sent in world.provider.calls] == [100, 100, 100]
    assert (answer.target.name, answer.report.max_output_tokens) == ("b/two", 100)
    assert world.ledger.calls["extend"] == 0


# ------------------------------------------------------------------------------------------------ unknown prices
@pytest.mark.parametrize(
    "price", [None, msgspec.structs.replace(PRICE, output_per_mtok=Decimal(-1))], ids=["none", "varying"]
)
def test_a_key_with_a_budget_never_asks_what_has_no_fixed_price(price: Price | None) -> None:
    world = World(budget(1_000))
    world.routes.entries[0] = able("a/one", price=price)
    assert world.chat().target.name == "b/two"
    with pytest.raises(errors.PermissionDeniedError) as raised:
        world.chat(msgspec.structs.replace(CHAT, model="a/one"))
    assert (raised.value.code, status_of(raised.value)) == ("model_without_price", 403)
    assert world.ledger.calls["reserve"] == 1


def test_a_key_without_one_does_and_what_is_unknown_counts_as_nothing() -> None:
    world = World(Limits(rpm=5, tpm=10_000))
    world.routes.entries[0] = able("a/one", price=None)
    assert world.chat().report.cost_micro_usd is None
    world.assert_settled()


# -------------------------------------------------------------------------------------- calls after the first
def test_repeats_of_failures_that_nobody_bills_need_no_more_money() -> None:
    world = World(budget(WHOLE))
    world.provider.script = [unavailable, unavailable, unavailable]
    assert world.chat().report.attempts == 4
    assert world.ledger.calls["extend"] == 0
    world.assert_settled()


def test_a_dearer_fallback_is_covered_before_it_is_asked() -> None:
    world = World(budget(10_000))
    world.routes.entries[1] = able("b/two", price=DEAR)
    world.provider.script = [unavailable, unavailable]
    seen: list[Decimal] = []
    world.provider.before = lambda: seen.append(world.standing().total_held_micro_usd)
    answer = world.chat()
    assert seen == [WHOLE, WHOLE, 10 * WHOLE]
    assert (answer.target.name, answer.report.cost_micro_usd) == ("b/two", 10 * COST)
    world.assert_settled()


def test_a_fallback_that_is_too_dear_is_passed_over_for_the_next() -> None:
    world = World(budget(2 * WHOLE))
    world.routes.entries = [
        able("a/one"),
        able("b/two", price=DEAR),
        able("c/three"),
        alias("auto", "a/one", "b/two", "c/three"),
    ]
    world.provider.script = [unavailable, unavailable]
    assert world.chat().target.name == "c/three"
    assert world.asked == ["a/one", "a/one", "c/three"]
    world.assert_settled()


def test_when_every_fallback_is_too_dear_the_failure_is_told() -> None:
    world = World(budget(2 * WHOLE))
    world.routes.entries[1] = able("b/two", price=DEAR)
    world.provider.script = [unavailable, unavailable]
    with pytest.raises(errors.ProviderUnavailableError):
        world.chat()
    assert world.asked == ["a/one", "a/one"]
    world.assert_settled()


def test_what_is_held_is_for_the_target_that_can_be_asked() -> None:
    world = World(budget(100 * WHOLE))
    world.routes.entries[1] = able("b/two", price=DEAR)
    world.open("a/one")
    assert world.chat().target.name == "b/two"
    assert world.ledger.calls["extend"] == 0


def test_when_nobody_could_be_paid_the_budget_is_told() -> None:
    world = World(budget(2 * WHOLE))
    world.routes.entries[1] = able("b/two", price=DEAR)
    # The first may be asked when it is chosen and no longer when it is its turn.
    may_ask = iter([True])
    world.watch.may_ask = lambda name: next(may_ask, name != "a/one")  # type: ignore[method-assign]
    with pytest.raises(errors.BudgetExceededError) as raised:
        world.chat()
    assert world.asked == []
    assert raised.value.report is not None
    assert world.entry.http_status == 429
    world.assert_settled()


def test_a_repeat_after_a_failure_that_was_billed_is_covered_too() -> None:
    world = World(budget(10_000))
    world.provider.script = [billed_failure]
    assert world.chat().report.cost_micro_usd == 2 * COST
    assert world.ledger.calls["extend"] == 1
    world.assert_settled()


def test_without_the_money_for_it_the_failure_is_told_and_paid() -> None:
    world = World(budget(WHOLE))
    world.provider.script = [billed_failure]
    with pytest.raises(errors.ProviderProtocolError) as raised:
        world.chat()
    assert world.asked == ["a/one"]
    assert raised.value.report is not None
    assert raised.value.report.cost_micro_usd == COST
    world.assert_settled()


def test_a_repair_is_covered_with_the_longer_prompt_that_it_is() -> None:
    world = World(budget(10_000))
    world.provider.script = ["x" * 500, "{}"]
    held: list[Decimal] = []
    world.provider.before = lambda: held.append(world.standing().total_held_micro_usd)
    answer = world.chat(JSON)
    assert (answer.result.text, answer.report.cost_micro_usd) == ("{}", 2 * COST)
    # The second prompt holds the first answer, byte by byte, and what is wrong with it.
    assert held[1] - held[0] - COST > 500 * PRICE.input_per_mtok
    world.assert_settled()


def test_without_the_money_for_a_repair_the_budget_is_told_and_the_first_answer_paid() -> None:
    world = World(budget(185))
    world.provider.script = ["no JSON"]
    with pytest.raises(errors.BudgetExceededError) as raised:
        world.chat(JSON)
    assert world.asked == ["a/one"]
    assert (world.entry.http_status, world.entry.error_code, world.entry.cost_micro_usd) == (
        429,
        "insufficient_quota",
        COST,
    )
    assert raised.value.report is not None
    assert raised.value.report.cost_micro_usd == COST
    world.assert_settled()


def test_a_hedge_is_covered_beside_the_first_call() -> None:
    world = World(budget(10_000), hedge_after_s=0.05)
    gate = threading.Event()
    world.provider.stuck = {"a/one": gate}
    seen: list[Decimal] = []
    world.provider.before = lambda: seen.append(world.standing().total_held_micro_usd)
    answer = world.chat()
    gate.set()
    assert (answer.target.name, answer.report.hedged) == ("b/two", True)
    assert seen == [WHOLE, 2 * WHOLE]
    world.assert_settled()


@pytest.mark.parametrize("why", ["money", "ledger"])
def test_a_hedge_that_cannot_be_covered_is_left_out(why: str) -> None:
    world = World(budget(WHOLE if why == "money" else 10_000), hedge_after_s=0.05)
    gate = threading.Event()
    world.provider.stuck = {"a/one": gate}
    if why == "ledger":
        world.provider.before = lambda: setattr(world.ledger, "failing", errors.StateError("down"))

    def release() -> None:
        world.ledger.failing = None
        gate.set()

    timer = threading.Timer(0.3, release)
    timer.start()
    answer = world.chat()
    timer.join()
    assert (answer.target.name, answer.report.hedged, world.asked) == ("a/one", False, ["a/one"])
    world.assert_settled()


def test_a_call_that_was_abandoned_may_still_be_billed_so_a_repair_comes_on_top() -> None:
    world = World(budget(100_000), hedge_after_s=0.05)
    gate = threading.Event()
    world.provider.stuck = {"a/one": gate}
    world.provider.script = ["lost", "no JSON", "{}"]
    held: list[Decimal] = []
    world.provider.before = lambda: held.append(world.standing().total_held_micro_usd)
    answer = world.chat(JSON)
    gate.set()
    assert (answer.result.text, answer.target.name) == ("{}", "b/two")
    first, both, repair = held
    assert both == 2 * first
    assert 2 * first + COST < repair < 3 * first
    world.assert_settled()


def test_every_chat_of_a_classification_is_covered_and_what_some_cost_is_paid_when_one_fails() -> None:
    world = World(budget(100_000))
    world.routes.entries[0] = able("a/one", operations=(Operation.CHAT, Operation.CLASSIFY))
    held: list[Decimal] = []
    world.provider.before = lambda: held.append(world.standing().total_held_micro_usd)
    world.classify(20)
    least = 20 * (256 * PRICE.output_per_mtok + 128 * PRICE.input_per_mtok)
    assert all(amount > least for amount in held)
    assert world.log.entries[-1].cost_micro_usd == 20 * COST
    world.clock.advance(1)
    world.provider.script = [*["{}"] * 5, "none of them"]
    with pytest.raises(errors.InvalidModelOutputError):
        world.classify(6)
    assert (world.log.entries[-1].cost_micro_usd or 0) >= COST
    world.assert_settled()


# ------------------------------------------------------------------------------------------------------ crowds
class Moody(Scripted):
    """Fails, bills failures, writes anything: at random, but never more than it is asked for."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._dice = random.Random(seed)

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        with self._lock:
            mood, share = self._dice.random(), self._dice.random()
        spoken = sum(len(message.content.encode()) for message in request.messages)
        usage = Usage(input_tokens=int(spoken * share), output_tokens=int((request.max_tokens or 0) * share))
        if mood < 0.3:
            error = error_of(errors.ProviderProtocolError, billed=(usage,) if mood < 0.2 else ())
            raise error(target)
        text = "{}" if mood < 0.7 else "no JSON"
        return ChatResult(text=text, finish_reason=FinishReason.STOP, usage=usage)


@pytest.mark.parametrize("seed", range(5))
def test_no_crowd_ever_spends_more_than_the_budget(seed: int) -> None:
    limit = Decimal(3_000)
    world = World(budget(limit))
    world.provider = Moody(seed)
    world.inference._providers = {"bedrock": world.provider}
    world.routes.entries[1] = able("b/two", price=DEAR)
    ends: Counter[str] = Counter()

    def ask(number: int) -> None:
        caller = msgspec.structs.replace(world.caller(), request_id=f"request-{number}")
        request = JSON if number % 2 else CHAT
        try:
            world.inference.chat(request, caller, mode=Mode.SYNC, deadline=Deadline.after(28))
        except errors.SluiceError as error:
            ends[type(error).__name__] += 1
        else:
            ends["answered"] += 1
        assert world.standing().total_spent_micro_usd + world.standing().total_held_micro_usd <= limit

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(300)))
    world.assert_settled()
    assert ends["answered"] >= 3
    assert ends["BudgetExceededError"] > 10
    assert world.standing().total_spent_micro_usd <= limit


def test_two_hundred_callers_against_a_budget_for_fifty() -> None:
    asked = msgspec.structs.replace(CHAT, max_tokens=5)
    world = World(budget(50 * COST))
    answered, refused = [], []

    def ask(number: int) -> None:
        caller = msgspec.structs.replace(world.caller(), request_id=f"request-{number}")
        try:
            world.inference.chat(asked, caller, mode=Mode.SYNC, deadline=Deadline.after(28))
            answered.append(number)
        except errors.BudgetExceededError as error:
            refused.append(error)

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(ask, range(200)))
    worst = INPUT * PRICE.input_per_mtok + 5 * PRICE.output_per_mtok
    for error in refused:
        standing = error.standing
        assert standing.total_spent_micro_usd + standing.total_held_micro_usd + worst > 50 * COST
    for number in range(200, 260):
        ask(number)
    assert 45 <= len(answered) <= 50
    assert len(answered) + len(refused) == 260
    world.assert_settled()


def test_requests_of_a_minute_are_exactly_the_limit() -> None:
    world = World(Limits(rpm=30))
    admitted, waits = 0, set()
    for _ in range(3):
        for number in range(60):
            caller = msgspec.structs.replace(world.caller(), request_id=f"request-{world.clock()}-{number}")
            try:
                world.chat(caller=caller)
                admitted += 1
            except errors.RateLimitedError as error:
                waits.add(error.retry_after_s == 60 - world.clock() % 60)
        world.clock.advance(60)
    assert (admitted, waits) == (90, {True})
    world.assert_settled()


# -------------------------------------------------------------------------------------------- how the key stands
def test_the_report_says_how_the_key_stands_once_it_is_settled() -> None:
    world = World(budget(1_000, rpm=10, tpm=50_000))
    for count in (1, 2):
        standing = world.chat().report.standing
        assert standing == world.standing()
        assert standing.remaining_requests == 10 - count
        assert standing.remaining_tokens == 50_000 - count * USAGE.total_tokens
        assert standing.remaining_budget_micro_usd == 1_000 - count * COST


def test_a_failure_says_it_too() -> None:
    world = World(budget(1_000, rpm=10))
    world.provider.script = [billed_failure, unavailable, unavailable, unavailable]
    with pytest.raises(errors.ProviderError) as raised:
        world.chat()
    assert raised.value.report is not None
    assert raised.value.report.standing == world.standing()


# ------------------------------------------------------------------------------------------------------- cache
def test_a_hit_takes_one_request_and_nothing_else() -> None:
    world = World(budget(1_000, rpm=10, tpm=5_000))
    first = world.chat(preferences=ON)
    assert (first.report.cache, first.report.age_s) == ("miss", None)
    world.clock.advance(7)
    before = world.standing()
    again = world.chat(preferences=ON)
    assert again.result == first.result
    assert (again.report.cache, again.report.age_s, again.report.cost_micro_usd) == ("hit", 7, 0)
    assert (again.target.name, again.report.target, again.report.attempts) == ("a/one", "a/one", 0)
    assert world.asked == ["a/one"]
    entry = world.log.entries[-1]
    assert (entry.cached, entry.cost_micro_usd, entry.usage, entry.target) == (True, ZERO, None, "a/one")
    after = world.standing()
    assert (before.remaining_requests, after.remaining_requests) == (9, 8)
    assert (after.remaining_tokens, after.total_spent_micro_usd) == (before.remaining_tokens, COST)
    world.assert_settled()


def test_a_hit_is_given_to_a_key_whose_money_is_spent_but_not_to_one_over_its_rate() -> None:
    world = World(budget(LEAST, rpm=2))
    world.chat(preferences=ON)
    with pytest.raises(errors.BudgetExceededError):
        world.chat()
    assert world.chat(preferences=ON).report.cache == "hit"
    with pytest.raises(errors.RateLimitedError):
        world.chat(preferences=ON)
    world.assert_settled()


def test_a_route_turns_it_on_and_a_request_off_or_asks_anew() -> None:
    world = World()
    world.routes.entries[2] = msgspec.structs.replace(alias("auto", "a/one", "b/two"), cache_ttl_s=60)
    world.provider.script = ["first", "second", "third"]
    seen = []
    for cache in (None, None, "off", "refresh", None):
        answer = world.chat(preferences=Preferences(cache=cache))
        seen.append((answer.result.text, answer.report.cache))
    assert seen == [
        ("first", "miss"),
        ("first", "hit"),
        ("second", "bypass"),
        ("third", "refresh"),
        ("third", "hit"),
    ]
    world.assert_settled()


def test_two_keys_never_share_an_answer() -> None:
    world = World()
    world.chat(preferences=ON)
    other = world.chat(preferences=ON, caller=world.caller("key_2"))
    assert (other.report.cache, len(world.asked)) == ("miss", 2)


def test_an_answer_is_kept_under_the_target_that_gave_it() -> None:
    world = World()
    world.provider.script = [unavailable, unavailable, "by two", "by one"]
    assert world.chat(preferences=ON).target.name == "b/two"
    assert world.chat(preferences=ON).result.text == "by one"
    found = world.chat(preferences=Preferences(cache="on", target="b/two"))
    assert (found.result.text, found.report.cache, found.target.name) == ("by two", "hit", "b/two")


def test_streams_fill_the_cache_and_are_filled_from_it() -> None:
    world = World()
    live = world.stream(preferences=ON)
    list(live)
    assert live.report().cache == "miss"
    again = world.stream(preferences=ON)
    assert list(again) == [TextDelta("{}"), StreamEnd(finish_reason=FinishReason.STOP, usage=USAGE)]
    assert (again.report().cache, again.target.name) == ("hit", "a/one")
    assert world.chat(preferences=ON).report.cache == "hit"
    assert len(world.asked) == 1
    world.assert_settled()


def test_a_stream_that_broke_off_is_not_kept() -> None:
    world = World()
    stream = world.stream(preferences=ON)
    next(iter(stream))
    stream.close()
    assert not world.answers.stored


@pytest.mark.parametrize(
    ("limits", "finish", "kept"),
    [
        (NO_LIMITS, FinishReason.LENGTH, True),
        (NO_LIMITS, FinishReason.CONTENT_FILTER, False),
        (Limits(tpm=INPUT + 300), FinishReason.STOP, True),
        (Limits(tpm=INPUT + 300), FinishReason.LENGTH, False),
    ],
)
def test_only_what_would_be_the_same_again_is_kept(limits: Limits, finish: FinishReason, kept: bool) -> None:
    world = World(limits)
    world.provider.finish = finish
    world.chat(preferences=ON)
    assert bool(world.answers.stored) is kept


def test_a_cache_that_fails_is_no_failure() -> None:
    world = World()
    world.answers.failing = errors.StateError("down")
    assert world.chat(preferences=ON).report.cache == "miss"
    world.assert_settled()


def test_scores_and_classifications_are_cached_too() -> None:
    world = World()
    world.routes.entries[0] = able("a/one", operations=(Operation.CHAT, Operation.CLASSIFY, Operation.SCORE))
    request = ScoreRequest(model="a/one", rows=[[0.5] * FEATURE_COUNT])
    labels = ClassificationRequest(model="a/one", inputs=("x",), labels=(Label("{}"), Label("b")))
    for expected in ("miss", "hit"):
        world.clock.advance(1)
        scored = world.inference.score(
            request, world.caller(), mode=Mode.SYNC, deadline=world.deadline(), preferences=ON
        )
        classified = world.inference.classify(
            labels, world.caller(), mode=Mode.SYNC, deadline=world.deadline(), preferences=ON
        )
        assert (scored.report.cache, classified.report.cache) == (expected, expected)
        assert scored.result.scores == (LeadScore.of(0.5),)
        assert classified.result.classifications[0].label == "{}"


def test_round_trips_of_a_request() -> None:
    """At most three where nothing is cached: the ledger, the log, the ledger again."""
    world = World(budget(1_000_000, rpm=600, tpm=10_000_000))
    for _ in range(20):
        world.chat()
    assert world.ledger.calls == {"reserve": 20, "settle": 20}
    assert len(world.log.entries) == 20


# ------------------------------------------------------------------------------------------ the price class of batches
HALF = msgspec.structs.replace(PRICE, batch=Rates(input_per_mtok=Decimal("0.0175"), output_per_mtok=Decimal("0.07")))


@pytest.mark.parametrize(("mode", "share"), [(Mode.BATCH, 2), (Mode.ASYNC, 1), (Mode.SYNC, 1)])
def test_lines_of_batches_are_held_and_charged_at_batch_rates_and_nothing_else_is(mode: Mode, share: int) -> None:
    world = World(budget(WHOLE))
    world.routes.entries = [able("a/one", price=HALF), alias("auto", "a/one")]
    held: list[Decimal] = []
    world.provider.before = lambda: held.append(world.standing().held_micro_usd)

    world.chat(mode=mode)

    assert held == [WHOLE / share]
    assert (world.entry.cost_micro_usd, world.entry.mode) == (COST / share, mode)
    world.assert_settled()


def test_lines_of_batches_are_charged_as_usual_where_there_are_no_batch_rates() -> None:
    world = World(budget(WHOLE))
    world.chat(mode=Mode.BATCH)
    assert world.entry.cost_micro_usd == COST


def test_failures_that_were_billed_are_charged_at_batch_rates_too() -> None:
    world = World(budget(1_000_000))
    world.routes.entries = [able("a/one", price=HALF), alias("auto", "a/one")]
    world.provider.script = [billed_failure]
    world.chat(mode=Mode.BATCH)
    assert world.entry.cost_micro_usd == COST
    assert [charge.cost_micro_usd for charge in world.entry.charges] == [COST / 2, COST / 2]


def test_more_money_for_a_line_is_asked_for_at_batch_rates() -> None:
    world = World(budget(WHOLE * 3 / 4))
    world.routes.entries = [able("a/one", price=HALF), alias("auto", "a/one")]
    # What the first call has cost is paid beside the second, which has to be covered whole again.
    world.provider.script = [billed_failure]
    world.chat(mode=Mode.BATCH)
    assert len(world.asked) == 2


def test_a_budget_pays_for_lines_where_only_the_batch_rates_are_known() -> None:
    varies = Price(version="v", input_per_mtok=Decimal(-1), batch=HALF.batch)
    world = World(budget(WHOLE))
    world.routes.entries = [able("a/one", price=varies), alias("auto", "a/one")]
    with pytest.raises(errors.PermissionDeniedError):
        world.chat()
    world.chat(mode=Mode.BATCH)
    assert world.entry.cost_micro_usd == COST / 2


@pytest.mark.parametrize(("mode", "first"), [(Mode.SYNC, "a/one"), (Mode.BATCH, "b/two")])
def test_the_cheapest_target_of_a_line_is_the_cheapest_for_batches(mode: Mode, first: str) -> None:
    world = World()
    cheap_for_batches = msgspec.structs.replace(DEAR, batch=Rates(input_per_mtok=Decimal("0.001")))
    cheapest_first = msgspec.structs.replace(alias("auto", "a/one", "b/two"), strategy=Strategy.COST)
    world.routes.entries = [able("a/one"), able("b/two", price=cheap_for_batches), cheapest_first]
    world.chat(mode=mode)
    assert world.asked == [first]
