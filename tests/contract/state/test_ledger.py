"""What a ledger does, in memory and in DynamoDB; and what DynamoDB is asked for."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from threading import Barrier, Lock
from typing import Any

import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError

from local import cloud as local_cloud
from local.instance import Instance
from sluice.adapters import dynamodb_ledger
from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_ledger import DynamoDBLedger
from sluice.adapters.dynamodb_ledger_items import partition_key
from sluice.adapters.dynamodb_request_log import SHARDS, DynamoDBRequestLog, to_item
from sluice.domain.errors import BudgetExceededError, LimitError, RateLimitedError, StateConflictError, StateError
from sluice.domain.ids import new_id
from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.ledger import NO_LIMITS, ZERO, Ask, Hold, Limit, Limits, Spent, shards_for
from sluice.domain.ports import Ledger, RequestLog
from sluice.domain.request_log import Outcome, RequestLogEntry
from sluice.testing.clock import FakeClock
from sluice.testing.ledger import FakeLedger
from sluice.testing.request_log import FakeRequestLog
from tests.contract.state.conftest import Aws

# Ten seconds past a full minute, and far from the end of any day or month.
NOON = datetime(2026, 11, 21, 12, 0, 10, tzinfo=UTC).timestamp()
D = Decimal


def numbers(*values: Decimal | int | None) -> tuple[Decimal | int | None, ...]:
    """For comparisons of decimals with whole numbers."""
    return values


def usd(text: str) -> Decimal:
    return D(text) * 1_000_000


class World:
    """A ledger (as many of one state as asked for), the request log it mends itself from, and a clock for both."""

    def __init__(self, log: RequestLog, make: Callable[[Callable[[], float]], Ledger]) -> None:
        self.clock = FakeClock(NOON)
        self.log = log
        self.key_id = new_id("key")
        self.ledger = make(self.clock)
        self._make = make
        self._began: dict[str, float] = {}

    def container(self) -> Ledger:
        """Another one with the same state."""
        return self._make(self.clock)

    def reserve(self, limits: Limits, ask: Ask, *, seconds: float = 30, ledger: Ledger | None = None) -> Hold:
        began = self.clock()
        hold = (ledger or self.ledger).reserve(self.key_id, limits, ask, until=began + seconds)
        self._began.setdefault(hold.reference, began)
        return hold

    def write_log(self, hold: Hold, cost: Decimal, *, tokens: tuple[int, int] = (7, 3), requests: int = 1) -> Spent:
        self.log.append(self.entry(hold, cost, tokens=tokens, requests=requests))
        return Spent(requests=requests, input_tokens=tokens[0], output_tokens=tokens[1], cost_micro_usd=cost)

    def entry(
        self, hold: Hold, cost: Decimal, *, tokens: tuple[int, int] = (7, 3), requests: int = 1
    ) -> RequestLogEntry:
        return RequestLogEntry(
            request_id=new_id("req"),
            key_id=self.key_id,
            mode=Mode.SYNC,
            operation=Operation.CHAT,
            model="auto",
            outcome=Outcome.COMPLETED,
            http_status=200,
            started_at=self._began[hold.reference],
            latency_ms=5,
            usage=Usage(input_tokens=tokens[0], output_tokens=tokens[1]),
            cost_micro_usd=cost,
            hold=hold.reference,
            requests=requests,
        )

    def finish(self, hold: Hold, cost: Decimal, *, ledger: Ledger | None = None) -> None:
        (ledger or self.ledger).settle(hold, self.write_log(hold, cost))


@pytest.fixture(scope="module")
def table(aws: Aws) -> Table:
    return aws.table()[0]


@pytest.fixture(scope="module")
def client(cloud: Instance) -> Iterator[Any]:
    """A client as the ledger wants it: what fails, fails. And with a connection for each thread."""
    session: Any = local_cloud.session()
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=64, read_timeout=30, proxies={})
    boto: Any = session.client("dynamodb", endpoint_url=cloud.cloud_url, config=config)
    yield boto
    boto.close()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, whoever mends the ledger has the time to, unless a test says otherwise."""
    take(monkeypatch, seconds=60.0)


def take(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    for name in ("MENDING_BEFORE_S", "MENDING_AFTER_S"):
        monkeypatch.setattr(dynamodb_ledger, name, seconds)


@pytest.fixture
def real_table(table: Table, client: Any) -> Table:
    return Table(client, table._name)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        log = FakeRequestLog()
        ledgers: list[FakeLedger] = []

        def make(clock: Callable[[], float]) -> FakeLedger:
            # There is no state that two of them could share.
            ledgers.append(ledgers[0] if ledgers else FakeLedger(log, now=clock))
            return ledgers[0]

        return World(log, make)
    real: World = request.getfixturevalue("real_world")
    return real


@pytest.fixture
def real_world(real_table: Table) -> World:
    return World(DynamoDBRequestLog(real_table, ttl_days=90), lambda clock: DynamoDBLedger(real_table, now=clock))


ASK = Ask(tokens=10, cost_micro_usd=D(20), output_tokens=40, least_output_tokens=8, output_rate_micro_usd=D(2))
BUDGET = Limits(monthly_budget_micro_usd=D(1000))


# ---- One request ----


def test_a_hold_takes_the_most_that_the_request_can_come_to_and_is_replaced_by_what_it_came_to(world: World) -> None:
    limits = Limits(rpm=5, tpm=1_000, monthly_budget_micro_usd=D(1000), total_budget_micro_usd=D(5000))

    hold = world.reserve(limits, ASK)

    assert (hold.tokens, hold.output_tokens, hold.cost_micro_usd) == (50, 40, D(100))
    standing = hold.standing
    assert (standing.remaining_requests, standing.remaining_tokens) == (4, 950)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.total_held_micro_usd) == (0, 100, 100)
    assert numbers(standing.remaining_monthly_micro_usd, standing.remaining_total_micro_usd) == (900, 4900)
    assert (standing.reset_s, standing.month) == (50.0, "202611")

    world.finish(hold, D("37.5"))

    after = world.ledger.standing(world.key_id, limits)
    assert numbers(after.spent_micro_usd, after.held_micro_usd, after.total_spent_micro_usd) == (
        D("37.5"),
        0,
        D("37.5"),
    )
    assert (after.remaining_requests, after.remaining_tokens) == (4, 990)
    assert (after.requests, after.input_tokens, after.output_tokens) == (1, 7, 3)


def test_a_request_that_fits_with_less_output_gets_what_fits(world: World) -> None:
    world.reserve(BUDGET, Ask(cost_micro_usd=D(940)))

    hold = world.reserve(BUDGET, ASK)

    assert (hold.output_tokens, hold.tokens, hold.cost_micro_usd) == (20, 30, D(60))
    assert hold.standing.remaining_monthly_micro_usd == 0


def test_output_shrinks_to_the_tokens_of_the_minute_as_well(world: World) -> None:
    limits = Limits(tpm=60)
    world.reserve(limits, Ask(tokens=30))

    assert world.reserve(limits, ASK).output_tokens == 20


def test_a_request_that_does_not_fit_with_its_least_output_changes_nothing(world: World) -> None:
    world.reserve(BUDGET, Ask(cost_micro_usd=D(965)))

    with pytest.raises(BudgetExceededError) as refused:
        world.reserve(BUDGET, ASK)

    assert refused.value.limit is Limit.MONTHLY_BUDGET
    assert refused.value.standing.held_micro_usd == 965
    assert world.ledger.standing(world.key_id, BUDGET).held_micro_usd == 965


def test_what_takes_no_money_is_admitted_when_none_is_left(world: World) -> None:
    world.finish(world.reserve(BUDGET, Ask(cost_micro_usd=D(1000))), D(1000))
    smaller = Limits(monthly_budget_micro_usd=D(10), tpm=100)

    hold = world.reserve(smaller, Ask())

    assert numbers(hold.cost_micro_usd, hold.standing.remaining_monthly_micro_usd) == (0, 0)


def test_keys_know_nothing_of_each_other(world: World) -> None:
    world.reserve(BUDGET, Ask(cost_micro_usd=D(1000)))

    other = world.ledger.reserve(new_id("key"), BUDGET, Ask(cost_micro_usd=D(1000)), until=world.clock() + 30)

    assert other.cost_micro_usd == 1000


def test_a_key_without_limits_is_counted_all_the_same(world: World) -> None:
    limits = Limits(shards=shards_for(NO_LIMITS))
    for _ in range(5):
        world.finish(world.reserve(limits, ASK), D(3))

    standing = world.ledger.standing(world.key_id, limits)

    assert numbers(standing.requests, standing.spent_micro_usd, standing.held_micro_usd) == (5, 15, 0)
    assert (standing.remaining_requests, standing.remaining_monthly_micro_usd) == (None, None)


# ---- What a refusal says ----


def refusal(world: World, limits: Limits, ask: Ask) -> LimitError:
    with pytest.raises(LimitError) as refused:
        world.reserve(limits, ask)
    return refused.value


def test_too_many_requests_are_told_to_wait_for_the_next_minute(world: World) -> None:
    limits = Limits(rpm=1)
    world.reserve(limits, Ask())
    world.clock.advance(12.25)

    error = refusal(world, limits, Ask())

    assert isinstance(error, RateLimitedError)
    assert (error.limit, error.retry_after_s, error.standing.reset_s) == (Limit.REQUESTS, 37.75, 37.75)


def test_too_many_tokens_are_told_to_wait_for_the_next_minute(world: World) -> None:
    limits = Limits(tpm=60)
    world.reserve(limits, Ask(tokens=50))

    error = refusal(world, limits, ASK)

    assert isinstance(error, RateLimitedError)
    assert (error.limit, error.retry_after_s, error.standing.remaining_tokens) == (Limit.TOKENS, 50.0, 10)


def test_held_money_that_may_come_back_is_worth_a_short_wait(world: World) -> None:
    world.reserve(BUDGET, Ask(cost_micro_usd=D(1000)))

    assert refusal(world, BUDGET, ASK).retry_after_s == 1.0


def test_a_monthly_budget_that_is_spent_is_worth_waiting_for_the_next_month(world: World) -> None:
    world.finish(world.reserve(BUDGET, Ask(cost_micro_usd=D(1000))), D(990))

    error = refusal(world, BUDGET, ASK)

    assert error.retry_after_s == datetime(2026, 12, 1, tzinfo=UTC).timestamp() - NOON


def test_no_waiting_helps_when_the_whole_budget_is_spent(world: World) -> None:
    limits = Limits(total_budget_micro_usd=D(1000), monthly_budget_micro_usd=D(1000))
    world.finish(world.reserve(limits, Ask(cost_micro_usd=D(1000))), D(990))

    error = refusal(world, limits, ASK)

    assert (error.limit, error.retry_after_s) == (Limit.TOTAL_BUDGET, None)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(rpm=0),
        Limits(tpm=17),
        Limits(monthly_budget_micro_usd=D(35)),
        Limits(total_budget_micro_usd=D(35)),
    ],
)
def test_no_waiting_helps_when_the_request_is_larger_than_the_limit(world: World, limits: Limits) -> None:
    assert refusal(world, limits, ASK).retry_after_s is None


def test_of_several_limits_the_one_that_takes_longest_to_yield_is_told(world: World) -> None:
    limits = Limits(rpm=1, monthly_budget_micro_usd=D(1000))
    world.finish(world.reserve(limits, Ask(cost_micro_usd=D(1000))), D(1000))

    assert refusal(world, limits, ASK).limit is Limit.MONTHLY_BUDGET


# ---- Windows ----


def test_the_next_minute_and_the_next_month_start_anew_and_the_whole_life_does_not(world: World) -> None:
    limits = Limits(rpm=1, tpm=50, monthly_budget_micro_usd=D(100), total_budget_micro_usd=D(250))
    world.clock.time = datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC).timestamp()
    world.finish(world.reserve(limits, ASK), D(100))
    assert refusal(world, limits, ASK).retry_after_s == 30.0

    world.clock.advance(30)
    hold = world.reserve(limits, ASK)

    assert (hold.month, hold.output_tokens) == ("202612", 40)
    assert numbers(hold.standing.spent_micro_usd, hold.standing.held_micro_usd) == (0, 100)
    assert numbers(hold.standing.total_spent_micro_usd, hold.standing.total_held_micro_usd) == (100, 100)
    world.finish(hold, D(100))
    world.clock.advance(31 * 86_400)
    assert world.reserve(limits, ASK).output_tokens == 15, "what is left of the life is less than a month's"


def test_a_request_is_settled_in_the_month_in_which_it_was_admitted(world: World) -> None:
    world.clock.time = datetime(2026, 12, 31, 23, 59, 50, tzinfo=UTC).timestamp()
    hold = world.reserve(BUDGET, ASK)
    world.clock.advance(20)
    world.finish(hold, D(80))

    assert world.ledger.standing(world.key_id, BUDGET).spent_micro_usd == 0
    world.clock.advance(-20)
    december = world.ledger.standing(world.key_id, BUDGET)
    assert december.month == "202612"
    assert numbers(december.spent_micro_usd, december.held_micro_usd) == (80, 0)


def test_tokens_that_were_not_used_come_back_within_their_minute_and_not_in_another(world: World) -> None:
    limits = Limits(tpm=100)
    first, second = world.reserve(limits, ASK), world.reserve(limits, ASK)
    world.finish(first, ZERO)
    assert world.ledger.standing(world.key_id, limits).remaining_tokens == 40

    world.clock.advance(50)
    world.finish(second, ZERO)

    assert world.ledger.standing(world.key_id, limits).remaining_tokens == 100


# ---- More money for the same request ----


def test_a_further_call_takes_more_money_into_the_same_hold(world: World) -> None:
    limits = Limits(rpm=1, monthly_budget_micro_usd=D(1000), total_budget_micro_usd=D(1000))
    hold = world.ledger.extend(world.reserve(limits, ASK), limits, D(300))

    assert hold.cost_micro_usd == 400
    assert world.ledger.standing(world.key_id, limits).held_micro_usd == 400
    world.finish(hold, D(350))
    standing = world.ledger.standing(world.key_id, limits)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (350, 0, 1)


def test_a_further_call_that_does_not_fit_leaves_the_hold_as_it_was(world: World) -> None:
    hold = world.reserve(BUDGET, ASK)

    with pytest.raises(BudgetExceededError):
        world.ledger.extend(hold, BUDGET, D(901))

    assert world.ledger.standing(world.key_id, BUDGET).held_micro_usd == 100
    assert world.ledger.extend(hold, BUDGET, D(900)).cost_micro_usd == 1000


def test_a_further_call_of_a_key_without_a_budget_needs_no_hold(world: World) -> None:
    limits = Limits(rpm=1)
    hold = world.reserve(limits, ASK)

    assert world.ledger.extend(hold, limits, D(300)) == hold
    world.finish(hold, D(350))
    assert world.ledger.standing(world.key_id, limits).spent_micro_usd == 350


# ---- Functions that are killed ----


def test_what_a_killed_function_held_comes_back_when_it_has_expired(world: World) -> None:
    world.reserve(BUDGET, Ask(cost_micro_usd=D(1000)), seconds=29)
    assert refusal(world, BUDGET, ASK).retry_after_s == 1.0

    world.clock.advance(29 + 5 + 30)

    assert world.reserve(BUDGET, ASK).standing.held_micro_usd == 100
    assert world.ledger.standing(world.key_id, BUDGET).spent_micro_usd == 0


def test_what_is_in_the_request_log_is_spent_although_nobody_settled_it(world: World) -> None:
    holds = [world.reserve(BUDGET, ASK) for _ in range(5)]
    world.finish(holds[0], D(10))
    world.write_log(holds[1], D("20.25"))
    world.write_log(holds[2], D(30))
    world.finish(holds[3], D(40))

    world.clock.advance(90)
    standing = world.ledger.standing(world.key_id, BUDGET)

    assert numbers(standing.spent_micro_usd, standing.held_micro_usd) == (D("100.25"), 0)
    assert (standing.requests, standing.input_tokens, standing.output_tokens) == (4, 28, 12)
    assert numbers(standing.total_spent_micro_usd, standing.total_held_micro_usd) == (D("100.25"), 0)
    assert world.ledger.standing(world.key_id, BUDGET) == standing, "and only once"


def test_an_entry_for_many_requests_is_spent_as_so_many(world: World) -> None:
    world.write_log(world.reserve(BUDGET, ASK), D(10), requests=5)
    world.finish(world.reserve(BUDGET, ASK), D(10))

    world.clock.advance(90)

    assert world.ledger.standing(world.key_id, BUDGET).requests == 6


def test_holds_of_every_length_and_of_both_months_come_back(world: World) -> None:
    world.clock.time = datetime(2026, 11, 30, 23, 59, 50, tzinfo=UTC).timestamp()
    lengths = 5, 29, 60, 61, 900
    for hold in [world.reserve(BUDGET, ASK, seconds=seconds) for seconds in lengths][::2]:
        world.write_log(hold, D(10))
    world.clock.advance(20)
    for hold in [world.reserve(BUDGET, ASK, seconds=seconds) for seconds in lengths][1::2]:
        world.write_log(hold, D(10))

    world.clock.advance(900 + 5 + 300)

    december_standing = world.ledger.standing(world.key_id, BUDGET)
    assert numbers(december_standing.spent_micro_usd, december_standing.held_micro_usd) == (20, 0)
    assert numbers(december_standing.total_spent_micro_usd, december_standing.total_held_micro_usd) == (50, 0)
    world.clock.time = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp()
    assert world.ledger.standing(world.key_id, BUDGET).spent_micro_usd == 30


def test_whoever_settles_after_the_hold_has_expired_releases_nothing_twice(world: World) -> None:
    late = world.reserve(BUDGET, ASK)
    world.clock.advance(90)
    assert world.ledger.standing(world.key_id, BUDGET).held_micro_usd == 0

    world.clock.advance(-20)
    world.finish(late, D(70))

    world.clock.advance(20)
    standing = world.ledger.standing(world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd) == (70, 0)


def test_what_was_reclaimed_between_log_and_settlement_counts_once(world: World) -> None:
    late = world.reserve(BUDGET, ASK)
    spent = world.write_log(late, D(70))
    world.clock.advance(90)
    assert world.ledger.standing(world.key_id, BUDGET).spent_micro_usd == 70

    world.ledger.settle(late, spent)

    standing = world.ledger.standing(world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (70, 0, 1)


def test_whoever_settles_when_nothing_is_left_of_its_hold_spends_all_the_same(world: World) -> None:
    late = world.reserve(BUDGET, ASK)
    world.clock.advance(90)
    assert world.ledger.standing(world.key_id, BUDGET).held_micro_usd == 0
    # The first sees what is outdated by then, the next takes it away.
    for _ in range(2):
        world.clock.advance(300)
        world.finish(world.reserve(BUDGET, ASK), D(1))

    world.finish(late, D(70))

    world.clock.advance(90)
    standing = world.ledger.standing(world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (72, 0, 3)


def test_a_settlement_in_another_container_finds_the_hold(world: World) -> None:
    hold = world.reserve(BUDGET, ASK)

    world.finish(hold, D(1), ledger=world.container())

    assert world.ledger.standing(world.key_id, BUDGET).held_micro_usd == 0


def test_a_hold_that_has_been_given_back_cannot_be_made_larger(world: World) -> None:
    hold = world.reserve(BUDGET, ASK)
    world.clock.advance(90)
    world.ledger.standing(world.key_id, BUDGET)

    with pytest.raises(StateConflictError):
        world.ledger.extend(hold, BUDGET, D(1))


# ---- Races ----


def race(threads: int, count: int, work: Callable[[int], Any]) -> list[Any]:
    barrier = Barrier(threads)

    def run(number: int) -> Any:
        if number < threads:
            barrier.wait(timeout=30)
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(count)))


def test_200_racing_requests_never_exceed_a_budget_for_50_and_leave_nothing_held(world: World) -> None:
    limits = Limits(monthly_budget_micro_usd=D(5000), total_budget_micro_usd=D(5000))
    ledgers = [world.container() for _ in range(8)]
    lock, admitted, refused = Lock(), [], []

    def request(number: int) -> None:
        ledger = ledgers[number % len(ledgers)]
        try:
            hold = world.reserve(limits, Ask(cost_micro_usd=D(100)), ledger=ledger)
        except BudgetExceededError as error:
            with lock:
                refused.append(error)
            return
        assert hold.standing.spent_micro_usd + hold.standing.held_micro_usd <= 5000
        world.finish(hold, D(random.randint(90, 100)), ledger=ledger)
        with lock:
            admitted.append(hold)

    race(64, 200, request)

    assert len(admitted) + len(refused) == 200
    for error in refused:
        assert error.standing.spent_micro_usd + error.standing.held_micro_usd + 100 > 5000
    for number in range(200):
        if world.ledger.standing(world.key_id, limits).remaining_monthly_micro_usd < 100:  # type: ignore[operator]
            break
        request(number)
    standing = world.ledger.standing(world.key_id, limits)
    assert 4900 < standing.spent_micro_usd <= 5000
    assert numbers(standing.held_micro_usd, standing.total_held_micro_usd) == (0, 0)
    assert len(admitted) >= 50


def test_racing_containers_admit_exactly_the_limit_of_a_minute(world: World) -> None:
    limits = Limits(rpm=37, tpm=100_000)
    ledgers = [world.container() for _ in range(4)]

    for _ in range(3):
        outcomes = race(16, 74, lambda number: _admitted(world, limits, Ask(tokens=3), ledgers[number % 4]))
        assert sum(outcomes) == 37
        world.clock.advance(60)


def test_racing_containers_admit_exactly_the_tokens_of_a_minute(world: World) -> None:
    limits = Limits(tpm=500)
    ledgers = [world.container() for _ in range(4)]

    for _ in range(3):
        outcomes = race(16, 60, lambda number: _admitted(world, limits, Ask(tokens=20), ledgers[number % 4]))
        assert sum(outcomes) == 25
        world.clock.advance(60)


def _admitted(world: World, limits: Limits, ask: Ask, ledger: Ledger) -> bool:
    try:
        world.reserve(limits, ask, ledger=ledger)
    except LimitError:
        return False
    return True


# ---- Shards ----


def test_a_split_budget_is_used_to_the_last_micro_dollar_and_no_further(world: World) -> None:
    limits = Limits(monthly_budget_micro_usd=D("10.000001"), total_budget_micro_usd=D(100), shards=8)

    # More than any shard's part; then what is left, which no shard has either.
    world.finish(world.reserve(limits, Ask(cost_micro_usd=D(7))), D("6.5"))
    world.finish(world.reserve(limits, Ask(cost_micro_usd=D("3.5"))), D("3.5"))
    assert refusal(world, limits, Ask(cost_micro_usd=D("0.000002"))).limit is Limit.MONTHLY_BUDGET
    world.finish(world.reserve(limits, Ask(cost_micro_usd=D("0.000001"))), D("0.000001"))

    standing = world.ledger.standing(world.key_id, limits)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd) == (D("10.000001"), 0)
    assert standing.remaining_monthly_micro_usd == 0


def test_racing_requests_share_a_tiny_budget_over_eight_shards_exactly(world: World) -> None:
    limits = Limits(monthly_budget_micro_usd=D(60), rpm=100_000, shards=8)
    ledgers = [world.container() for _ in range(4)]

    outcomes = race(8, 40, lambda number: _admitted(world, limits, Ask(cost_micro_usd=D(3)), ledgers[number % 4]))

    assert sum(outcomes) == 20
    standing = world.ledger.standing(world.key_id, limits)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd) == (0, 60)
    assert standing.remaining_requests == 100_000 - 20


def test_a_split_limit_on_requests_is_exact_over_windows_and_containers(world: World) -> None:
    limits = Limits(rpm=43, shards=4)
    ledgers = [world.container() for _ in range(4)]

    for _ in range(3):
        outcomes = race(8, 86, lambda number: _admitted(world, limits, Ask(), ledgers[number % 4]))
        assert sum(outcomes) == 43
        world.clock.advance(60)


def test_a_request_gets_tokens_that_no_shard_has_alone(world: World) -> None:
    limits = Limits(tpm=80, shards=8)

    assert world.reserve(limits, ASK).output_tokens == 40
    assert world.reserve(limits, ASK).output_tokens == 20
    assert refusal(world, limits, ASK).limit is Limit.TOKENS


def test_several_requests_at_once_fit_although_no_shard_has_room_for_all_of_them(world: World) -> None:
    limits = Limits(rpm=8, shards=8)

    world.reserve(limits, Ask(requests=5))

    assert refusal(world, limits, Ask(requests=4)).standing.remaining_requests == 3
    world.reserve(limits, Ask(requests=3))


def test_a_further_call_gets_money_that_its_shard_does_not_have(world: World) -> None:
    limits = Limits(monthly_budget_micro_usd=D(80), total_budget_micro_usd=D(80), shards=8)
    hold = world.reserve(limits, Ask(cost_micro_usd=D(10)))

    hold = world.ledger.extend(hold, limits, D(70))

    with pytest.raises(BudgetExceededError):
        world.ledger.extend(hold, limits, D("0.1"))
    world.finish(hold, D(80))
    standing = world.ledger.standing(world.key_id, limits)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (80, 0, 1)


def test_what_was_held_on_any_shard_comes_back(world: World) -> None:
    limits = Limits(monthly_budget_micro_usd=D(800), shards=8)
    holds = [world.reserve(limits, Ask(cost_micro_usd=D(100))) for _ in range(8)]
    world.write_log(holds[3], D(50))
    world.clock.advance(90)

    hold = world.reserve(limits, Ask(cost_micro_usd=D(750)))

    assert numbers(hold.standing.spent_micro_usd, hold.standing.held_micro_usd) == (50, 750)


def test_a_smaller_budget_holds_over_all_shards_although_one_alone_has_used_more_than_its_part(world: World) -> None:
    large = Limits(monthly_budget_micro_usd=D(800), shards=8)
    world.finish(world.reserve(large, Ask(cost_micro_usd=D(75))), D(75))
    small = Limits(monthly_budget_micro_usd=D(80), shards=8)

    outcomes = [_admitted(world, small, Ask(cost_micro_usd=D(1)), world.ledger) for _ in range(10)]

    assert sum(outcomes) == 5


def test_money_that_comes_back_to_one_shard_stays_where_others_have_used_more_than_there_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = (Limits(monthly_budget_micro_usd=D(budget), shards=2) for budget in (800, 80))
    holds = []
    for shard, cost in ((0, 110), (1, 150), (1, 30)):
        monkeypatch.setattr(random, "randrange", lambda _, shard=shard: shard)
        monkeypatch.setattr(random, "choice", lambda among, shard=shard: among[shard])
        holds.append(world.reserve(large, Ask(cost_micro_usd=D(cost)), seconds=900))
    monkeypatch.undo()
    spent, returned, kept = holds
    world.finish(spent, D(110))
    for _ in range(2):
        refusal(world, small, Ask(cost_micro_usd=D(1)))
        world.clock.advance(70)

    world.finish(returned, D(1))

    with pytest.raises(BudgetExceededError):
        world.ledger.extend(kept, small, D(1))
    assert not any(_admitted(world, small, Ask(cost_micro_usd=D(1)), world.ledger) for _ in range(20))
    standing = world.ledger.standing(world.key_id, small)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd) == (111, 30)


# ---- What DynamoDB is asked for ----


class Wire:
    """Counts what goes over the wire, by operation, and by operation and item."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self._lock = Lock()

    def __call__(self, request: Any, **_: Any) -> None:
        operation = request.headers["X-Amz-Target"].decode().rsplit(".", 1)[1]
        body = msgspec.json.decode(request.body)
        with self._lock:
            self.operations[operation] += 1
            if operation == "UpdateItem":
                self.writes[body["Key"]["pk"]["S"]] += 1


@contextmanager
def watched(client: Any) -> Iterator[Wire]:
    wire = Wire()
    client.meta.events.register("before-send.dynamodb", wire)
    try:
        yield wire
    finally:
        client.meta.events.unregister("before-send.dynamodb", wire)


@pytest.mark.parametrize("shards", [1, 8])
def test_a_request_costs_one_write_before_and_two_after(real_world: World, client: Any, shards: int) -> None:
    limits = Limits(rpm=50, tpm=9_000, total_budget_micro_usd=D(9_000), shards=shards)
    real_world.finish(real_world.reserve(limits, ASK), D(5))

    with watched(client) as wire:
        hold = real_world.reserve(limits, ASK)
        assert wire.operations == {"UpdateItem": 1}
        real_world.finish(hold, D(5))

    assert wire.operations == {"UpdateItem": 2, "PutItem": 1}


def test_a_refusal_for_too_many_requests_is_remembered_so_that_hammering_costs_no_writes(
    real_world: World, client: Any
) -> None:
    limits = Limits(rpm=3)
    for _ in range(3):
        real_world.reserve(limits, ASK)

    with watched(client) as wire:
        for _ in range(49):
            real_world.clock.advance(0.5)
            refusal(real_world, limits, ASK)
        real_world.clock.advance(0.5)
        error = refusal(real_world, limits, ASK)
        assert wire.operations == {"UpdateItem": 1}
    assert (error.retry_after_s, error.standing.remaining_requests) == (25.0, 0)

    assert _admitted(real_world, Limits(rpm=4), ASK, real_world.ledger), "another limit is another question"
    real_world.clock.advance(25)
    assert _admitted(real_world, limits, ASK, real_world.ledger)


def test_shards_that_are_full_are_not_asked_again(real_world: World, client: Any) -> None:
    limits = Limits(rpm=16, shards=8)
    while _admitted(real_world, limits, Ask(), real_world.ledger):
        pass

    with watched(client) as wire:
        for _ in range(50):
            assert refusal(real_world, limits, Ask()).limit is Limit.REQUESTS
    assert not wire.operations


def test_what_is_not_full_is_still_asked(real_world: World, client: Any) -> None:
    limits = Limits(rpm=9, shards=8)

    with watched(client) as wire:
        admitted = [_admitted(real_world, limits, Ask(), real_world.ledger) for _ in range(9)]

    assert all(admitted)
    assert wire.operations["UpdateItem"] < 9 + 8


def test_the_budgets_of_shards_are_compared_once_and_once_more(real_world: World, client: Any) -> None:
    limits = Limits(total_budget_micro_usd=D(9_000), shards=8)

    with watched(client) as wire:
        for _ in range(20):
            real_world.finish(real_world.reserve(limits, Ask(cost_micro_usd=D(1))), D(1))
            real_world.clock.advance(20)

    assert wire.operations == {"UpdateItem": 40, "PutItem": 20, "BatchGetItem": 2}


def test_a_request_that_can_never_fit_costs_no_write(real_world: World, client: Any) -> None:
    with watched(client) as wire:
        refusal(real_world, Limits(tpm=10), ASK)
    assert wire.operations == {"BatchGetItem": 1}


def test_two_thousand_requests_a_second_of_one_key_stay_below_what_a_partition_takes(
    real_world: World, client: Any
) -> None:
    """1,000 write units a second, of one item; each of these writes is of less than 1 KB."""
    rpm = 2_000 * 60
    limits = Limits(rpm=rpm, tpm=10**9, monthly_budget_micro_usd=usd("1000"))
    limits = msgspec.structs.replace(limits, shards=shards_for(limits))
    ledgers = [real_world.container() for _ in range(8)]

    def request(number: int) -> None:
        ledger = ledgers[number % len(ledgers)]
        hold = real_world.reserve(limits, ASK, ledger=ledger)
        ledger.settle(hold, Spent(input_tokens=5, output_tokens=5, cost_micro_usd=D(5)))

    with watched(client) as wire:
        race(8, 2_000, request)

    assert wire.operations["UpdateItem"] == 4_000
    assert set(wire.writes) == {partition_key(real_world.key_id, shard) for shard in range(limits.shards)}
    assert max(wire.writes.values()) < 1_000
    standing = real_world.ledger.standing(real_world.key_id, limits)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (10_000, 0, 2_000)
    for shard in range(limits.shards):
        assert size_of(raw_item(real_world, client, shard)) <= 1024


def raw_item(world: World, client: Any, shard: int = 0) -> dict[str, Any]:
    table: Any = world.ledger
    key = {"pk": {"S": partition_key(world.key_id, shard)}, "sk": {"S": "STATE"}}
    item: dict[str, Any] = client.get_item(TableName=table._table._name, Key=key)["Item"]
    return item


def size_of(item: dict[str, Any]) -> int:
    """By DynamoDB's rules: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html."""
    return sum(len(name) + _value_size(value) for name, value in item.items())


def _value_size(value: dict[str, str]) -> int:
    if "S" in value:
        return len(value["S"].encode())
    number = D(value["N"]).normalize()
    return 1 + math.ceil(len(number.as_tuple().digits) / 2) + (number < 0)


def test_an_item_stays_within_one_write_unit_whatever_it_has_seen(real_world: World, client: Any) -> None:
    """Three months of a key that is used in every mode, now and then killed, with prices of many digits."""
    limits = Limits(rpm=900, tpm=90_000_000, monthly_budget_micro_usd=usd("5000"), total_budget_micro_usd=usd("90000"))
    ask = Ask(tokens=12_345, cost_micro_usd=D("98765.432109"), output_tokens=4_096, output_rate_micro_usd=D("14.99"))
    rng = random.Random(4)
    world, largest = real_world, 0
    for _ in range(3):
        due: list[tuple[float, Hold]] = []
        for step in range(200):
            world.clock.advance(rng.choice((0.5, 2.0, 7.0, 20.0)))
            seconds = rng.choice((29.0, 29.0, 59.0, 902.0))
            hold = world.reserve(limits, ask, seconds=seconds)
            if rng.random() < 0.97:
                due.append((world.clock() + rng.uniform(0.3, seconds), hold))
            for moment, ready in sorted(due, key=lambda pair: pair[0]):
                if moment <= world.clock() or step == 199:
                    due.remove((moment, ready))
                    world.clock.time = max(world.clock.time, moment)
                    world.finish(ready, D("123456.789012"))
            largest = max(largest, size_of(raw_item(world, client)))
        world.clock.advance(28 * 86_400)
    assert 700 < largest <= 1024

    for _ in range(2):
        world.finish(world.reserve(limits, ask), D(1))
        world.clock.advance(120)
    standing = world.ledger.standing(world.key_id, limits)
    assert numbers(standing.total_held_micro_usd, standing.spent_micro_usd) == (0, 2)
    names = Counter(name[0] for name in raw_item(world, client))
    assert names["r"] <= 2
    assert names["k"] <= 2
    assert names["c"] <= 3


# ---- A table that fails ----


class Failing:
    """The client, but for as many calls of an operation as there are errors to raise, before or after they are made."""

    def __init__(self, client: Any, operation: str, *errors: Exception, done: bool) -> None:
        self._client, self._operation, self._errors, self._done = client, operation, list(errors), done

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if name != self._operation:
            return call

        def failing(*positional: Any, **arguments: Any) -> Any:
            if not self._errors:
                return call(*positional, **arguments)
            if self._done:
                call(*positional, **arguments)
            raise self._errors.pop(0)

        return failing


class Intruded:
    """The client, but somebody else does something before it reads the log for the first time."""

    def __init__(self, client: Any, intrusion: Callable[[], None]) -> None:
        self._client, self._intrusions = client, [intrusion]

    def __getattr__(self, name: str) -> Any:
        if name == "query" and self._intrusions:
            self._intrusions.pop()()
        return getattr(self._client, name)


def refused(client: Any, code: str) -> Exception:
    error: Exception = client.exceptions.ClientError({"Error": {"Code": code, "Message": ""}}, "UpdateItem")
    return error


def lost() -> Exception:
    return ReadTimeoutError(endpoint_url="the table")


def failing_ledger(
    world: World, client: Any, *errors: Exception, done: bool = False, operation: str = "update_item"
) -> Ledger:
    real: Any = world.ledger
    table = Table(Failing(client, operation, *errors, done=done), real._table._name)  # type: ignore[arg-type]
    return DynamoDBLedger(table, now=world.clock, sleep=lambda _: None)


@pytest.mark.parametrize("code", ["TransactionConflictException", "ThrottlingException"])
def test_what_dynamodb_refuses_to_try_is_tried_again(real_world: World, client: Any, code: str) -> None:
    errors = [refused(client, code) for _ in range(dynamodb_ledger.REFUSED_ATTEMPTS - 1)]
    hold = real_world.reserve(BUDGET, ASK, ledger=failing_ledger(real_world, client, *errors))
    real_world.finish(hold, D(60), ledger=failing_ledger(real_world, client, *errors))

    standing = real_world.ledger.standing(real_world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (60, 0, 1)


@pytest.mark.parametrize("reason", ["TransactionConflict", "ThrottlingError", "ConditionalCheckFailed"])
def test_room_moves_between_shards_although_others_write_to_them(real_world: World, client: Any, reason: str) -> None:
    limits = Limits(monthly_budget_micro_usd=D(80), shards=8)
    cancelled = refused(client, "TransactionCanceledException")
    cancelled.response["CancellationReasons"] = [{"Code": "None"}, {"Code": reason}]  # type: ignore[attr-defined]
    errors = [cancelled] * (dynamodb_ledger.REFUSED_ATTEMPTS - 1)

    ledger = failing_ledger(real_world, client, *errors, operation="transact_write_items")
    hold = real_world.reserve(limits, Ask(cost_micro_usd=D(75)), ledger=ledger)

    assert hold.standing.held_micro_usd == 75
    assert real_world.ledger.standing(real_world.key_id, limits).held_micro_usd == 75


def test_a_table_that_keeps_refusing_is_a_failure_that_may_be_repeated(real_world: World, client: Any) -> None:
    errors = [refused(client, "TransactionConflictException") for _ in range(dynamodb_ledger.REFUSED_ATTEMPTS)]

    with pytest.raises(StateError) as failed:
        real_world.reserve(BUDGET, ASK, ledger=failing_ledger(real_world, client, *errors))

    assert failed.value.retryable


@pytest.mark.parametrize("done", [True, False])
def test_a_settlement_whose_answer_got_lost_is_never_written_twice_and_mended_when_it_was_not(
    real_world: World, client: Any, done: bool
) -> None:
    hold, other = real_world.reserve(BUDGET, ASK), real_world.reserve(BUDGET, ASK)
    with pytest.raises(StateError):
        real_world.finish(hold, D(60), ledger=failing_ledger(real_world, client, lost(), done=done))

    held = real_world.ledger.standing(real_world.key_id, BUDGET).held_micro_usd
    assert held == (100 if done else 200)
    real_world.finish(other, D(30))
    real_world.clock.advance(90)
    standing = real_world.ledger.standing(real_world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (90, 0, 2)


@pytest.mark.parametrize("done", [True, False])
def test_a_hold_whose_answer_got_lost_is_taken_again_and_the_first_comes_back(
    real_world: World, client: Any, done: bool
) -> None:
    hold = real_world.reserve(BUDGET, ASK, ledger=failing_ledger(real_world, client, lost(), done=done))
    assert hold.standing.held_micro_usd == (200 if done else 100)
    real_world.finish(hold, D(60))

    real_world.clock.advance(90)
    standing = real_world.ledger.standing(real_world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (60, 0, 1)


def test_a_reader_of_the_log_that_dies_is_followed_by_another(real_world: World, client: Any) -> None:
    hold = real_world.reserve(BUDGET, ASK)
    real_world.write_log(hold, D(60))
    real_world.clock.advance(90)
    dying = failing_ledger(real_world, client, RuntimeError("killed"), operation="query")

    with pytest.raises(RuntimeError):
        dying.standing(real_world.key_id, BUDGET)

    assert real_world.ledger.standing(real_world.key_id, BUDGET).held_micro_usd == 100, "somebody is at it"
    real_world.clock.advance(dynamodb_ledger.CLAIM_S)
    standing = real_world.ledger.standing(real_world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd) == (60, 0)


def test_what_is_settled_while_the_log_is_read_counts_once(real_world: World, client: Any) -> None:
    late, killed = real_world.reserve(BUDGET, ASK), real_world.reserve(BUDGET, ASK)
    real_world.write_log(killed, D(10))
    spent = real_world.write_log(late, D(60))
    real_world.clock.advance(90)
    real: Any = real_world.ledger
    slow = Intruded(client, lambda: real_world.container().settle(late, spent))
    table = Table(slow, real._table._name)  # type: ignore[arg-type]

    DynamoDBLedger(table, now=real_world.clock).standing(real_world.key_id, BUDGET)

    real_world.clock.advance(dynamodb_ledger.CLAIM_S)
    standing = real_world.ledger.standing(real_world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (70, 0, 2)


def test_of_many_who_find_holds_left_behind_one_reads_the_log_and_spends_them(real_world: World, client: Any) -> None:
    for _ in range(4):
        real_world.write_log(real_world.reserve(BUDGET, ASK), D(10))
    real_world.clock.advance(90)
    ledgers = [real_world.container() for _ in range(16)]

    with watched(client) as wire:
        race(16, 16, lambda number: ledgers[number].standing(real_world.key_id, BUDGET))

    assert wire.operations["Query"] == SHARDS
    standing = real_world.ledger.standing(real_world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (40, 0, 4)


def test_a_settlement_mends_what_others_left_behind(real_world: World, client: Any) -> None:
    real_world.write_log(real_world.reserve(BUDGET, ASK, seconds=5), D(10))
    hold = real_world.reserve(BUDGET, ASK, seconds=59)
    real_world.clock.advance(50)

    real_world.finish(hold, D(5))

    item = raw_item(real_world, client)
    assert (item["c"], item["s"]) == ({"N": "15"}, {"N": "15"})


def test_the_log_is_not_read_by_who_has_hardly_any_time_left(real_world: World, client: Any) -> None:
    real_world.reserve(BUDGET, ASK, seconds=5)
    hold = real_world.reserve(BUDGET, ASK, seconds=59)
    real_world.clock.advance(59 - dynamodb_ledger.SPARE_S + 1)

    with watched(client) as wire:
        real_world.finish(hold, D(5))

    assert wire.operations == {"PutItem": 1, "UpdateItem": 1}
    assert real_world.ledger.standing(real_world.key_id, BUDGET).held_micro_usd == 0


# ---- A log that is much to read ----


class OneByOne:
    """The client, but a page has one item only, as if items were large."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def query(self, **arguments: Any) -> Any:
        return self._client.query(**arguments, Limit=1)


@pytest.fixture
def hurried(real_world: World, client: Any, monkeypatch: pytest.MonkeyPatch) -> DynamoDBLedger:
    """A ledger that has the time for one item of each partition of the log."""
    take(monkeypatch, seconds=0.0)
    real: Any = real_world.ledger
    slow: Any = OneByOne(client)
    return DynamoDBLedger(Table(slow, real._table._name), now=real_world.clock, sleep=lambda _: None)


def test_callers_take_turns_at_a_log_that_none_of_them_has_the_time_to_read(
    real_world: World, client: Any, hurried: DynamoDBLedger
) -> None:
    large = Limits(monthly_budget_micro_usd=D(5000))
    for cost in range(1, 31):
        real_world.write_log(real_world.reserve(large, ASK), D(cost))
    real_world.clock.advance(90)

    with watched(client) as wire:
        for turn in range(1, 32):
            held = hurried.standing(real_world.key_id, large).held_micro_usd
            assert wire.operations["Query"] <= SHARDS * turn
            if not held:
                break

    assert turn > 2
    assert wire.operations["Query"] <= 30 + SHARDS, "nothing is read twice"
    standing = real_world.ledger.standing(real_world.key_id, large)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (sum(range(31)), 0, 30)


def test_every_settlement_reads_on_where_the_last_one_had_to_stop(real_world: World, hurried: DynamoDBLedger) -> None:
    large = Limits(monthly_budget_micro_usd=D(5000))
    for _ in range(30):
        real_world.write_log(real_world.reserve(large, ASK), D(1))
    real_world.clock.advance(90)

    # No more than that of them can have come to one partition.
    for _ in range(31):
        hurried.settle(real_world.reserve(large, ASK), Spent(cost_micro_usd=D(2)))

    standing = hurried.standing(real_world.key_id, large)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (30 + 62, 0, 61)


def test_what_was_read_of_the_log_does_not_count_once_more_has_been_settled(
    real_world: World, hurried: DynamoDBLedger
) -> None:
    late, *killed = (real_world.reserve(BUDGET, ASK) for _ in range(10))
    logged = [real_world.entry(hold, D(10)) for hold in killed]
    for entry in logged:
        real_world.log.append(entry)
    real_world.clock.advance(90)
    assert hurried.standing(real_world.key_id, BUDGET).held_micro_usd == 1000

    # Where nobody will look again: before the first entry of a partition that has been begun.
    entry, shard = real_world.entry(late, D(60)), to_item(logged[0], expires_at=0)["pk"]
    while to_item(entry, expires_at=0)["pk"] != shard:
        entry = msgspec.structs.replace(entry, unit=f"!{new_id('early')}")
    real_world.log.append(entry)
    real_world.container().settle(late, Spent(input_tokens=7, output_tokens=3, cost_micro_usd=D(60)))

    for _ in range(12):
        hurried.standing(real_world.key_id, BUDGET)
    standing = real_world.ledger.standing(real_world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (150, 0, 10)


def test_a_page_that_is_lost_costs_nobody_what_was_read_before(
    real_world: World, client: Any, hurried: DynamoDBLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        real_world.write_log(real_world.reserve(BUDGET, ASK), D(1))
    real_world.clock.advance(90)
    with watched(client) as before:
        hurried.standing(real_world.key_id, BUDGET)
    take(monkeypatch, seconds=60.0)
    hurried._table._client = Failing(hurried._table._client, "query", lost(), done=False)  # type: ignore[assignment]

    assert hurried.standing(real_world.key_id, BUDGET).held_micro_usd == 1000, "told as it is"

    real_world.clock.advance(dynamodb_ledger.CLAIM_S)
    with watched(client) as after:
        standing = hurried.standing(real_world.key_id, BUDGET)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd) == (10, 0)
    assert before.operations["Query"] == SHARDS
    assert after.operations["Query"] <= 10


def test_the_partitions_of_the_log_are_read_side_by_side(real_world: World, client: Any) -> None:
    real_world.write_log(real_world.reserve(BUDGET, ASK), D(60))
    real_world.clock.advance(90)
    together = Barrier(SHARDS, timeout=20)

    def wait(**_: Any) -> None:
        together.wait()

    client.meta.events.register("before-send.dynamodb.Query", wait)
    try:
        standing = real_world.ledger.standing(real_world.key_id, BUDGET)
    finally:
        client.meta.events.unregister("before-send.dynamodb.Query", wait)
    assert numbers(standing.spent_micro_usd, standing.held_micro_usd) == (60, 0)


# ---- Waits ----


class Contended:
    """The client, but somebody else has always been faster."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def update_item(self, **_: Any) -> Any:
        self.tries += 1
        raise refused(self._client, "ConditionalCheckFailedException")


@pytest.mark.parametrize(
    ("seconds", "fewest", "most"), [(60.0, dynamodb_ledger.TRIES, dynamodb_ledger.TRIES), (6.0, 4, 8)]
)
def test_a_key_that_too_many_use_is_told_so_within_seconds(
    real_world: World, client: Any, monkeypatch: pytest.MonkeyPatch, seconds: float, fewest: int, most: int
) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, longest: longest)
    contended, real = Contended(client), real_world.ledger
    table = Table(contended, real._table._name)  # type: ignore[arg-type, attr-defined]
    ledger, began = DynamoDBLedger(table, now=real_world.clock, sleep=real_world.clock.advance), real_world.clock()

    with pytest.raises(StateError) as failed:
        real_world.reserve(BUDGET, ASK, seconds=seconds, ledger=ledger)

    assert failed.value.code == dynamodb_ledger.THROTTLED
    assert fewest <= contended.tries <= most
    assert real_world.clock() - began <= min(seconds - 4, 5)
