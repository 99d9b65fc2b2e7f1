"""Where a hold fits, among the items of a key."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.admission import (
    Bucket,
    Room,
    State,
    needs,
    output_within,
    overdrafts,
    part_of,
    place,
    refusal,
    room_of,
    scaled,
    standing,
    total,
)
from sluice.domain.errors import BudgetExceededError, RateLimitedError
from sluice.domain.ledger import Ask, Limit, Limits, Spent

D = Decimal
MONEY = st.integers(min_value=0, max_value=10**12).map(lambda units: D(units) / 10**6)
COUNTS = st.integers(min_value=0, max_value=10_000)
NOW = 1_795_262_410.0

LIMITS = st.builds(
    Limits,
    rpm=st.none() | COUNTS,
    tpm=st.none() | COUNTS,
    monthly_budget_micro_usd=st.none() | MONEY,
    total_budget_micro_usd=st.none() | MONEY,
    shards=st.integers(min_value=1, max_value=9),
)
ASKS = st.builds(
    Ask,
    tokens=COUNTS,
    cost_micro_usd=MONEY,
    output_tokens=COUNTS,
    least_output_tokens=COUNTS,
    output_rate_micro_usd=st.integers(min_value=0, max_value=10**9).map(lambda units: D(units) / 10**6),
    requests=st.integers(min_value=0, max_value=5),
)


@st.composite
def keys(draw: st.DrawFn) -> tuple[Limits, list[State]]:
    """The limits of a key, and what its shards have: some more than their part, some less than nothing."""
    limits = draw(LIMITS)
    amounts = st.integers(min_value=-(10**10), max_value=10**11).map(lambda units: D(units) / 10**6)
    states = [
        State(requests=draw(COUNTS), tokens=draw(COUNTS), committed=draw(amounts), committed_month=draw(amounts))
        for _ in range(limits.shards)
    ]
    return limits, states


@given(LIMITS)
def test_the_parts_of_a_limit_add_up_to_it_and_are_alike(limits: Limits) -> None:
    parts = [part_of(limits, shard) for shard in range(limits.shards)]

    for name in ("rpm", "tpm", "monthly_budget_micro_usd", "total_budget_micro_usd"):
        whole, shares = getattr(limits, name), [getattr(part, name) for part in parts]
        if whole is None:
            assert set(shares) == {None}
        else:
            assert sum(shares) == whole
            assert max(shares) - min(shares) <= 1


@given(ASKS, MONEY, COUNTS)
def test_output_is_as_much_as_fits_and_not_a_token_less(ask: Ask, money: Decimal, tokens: int) -> None:
    room = Room(requests=None, tokens=tokens, month=money, total=None)

    output = output_within(room, ask)

    def fits(count: int) -> bool:
        need = needs(ask, count)
        return need.tokens <= tokens and need.month <= money

    least = min(ask.least_output_tokens, ask.output_tokens)
    if output is None:
        assert not fits(least)
    else:
        assert fits(output)
        assert least <= output <= ask.output_tokens
        assert output == ask.output_tokens or not fits(output + 1)


@pytest.mark.parametrize("spare", [0, -5])
def test_what_takes_nothing_fits_where_nothing_is_left(spare: int) -> None:
    room = Room(requests=spare, tokens=spare, month=D(spare), total=D(spare))

    assert output_within(room, Ask(requests=0)) == 0


@given(keys(), ASKS, st.integers(min_value=0, max_value=8))
def test_a_hold_is_placed_exactly_when_all_shards_together_have_room(
    key: tuple[Limits, list[State]], ask: Ask, first: int
) -> None:
    limits, states = key

    found = place(limits, states, ask, first=first)

    together = output_within(room_of(limits, total(states)), ask)
    assert (found.output_tokens if found else None) == together
    if found is None:
        return
    assert found.shard not in {gift.shard for gift in found.gifts}
    need, lent = needs(ask, found.output_tokens), found.lent
    for shard, state in enumerate(states):
        given_away = next((gift.amounts for gift in found.gifts if gift.shard == shard), None)
        room = room_of(part_of(limits, shard), state)
        for name in ("requests", "tokens", "month", "total"):
            left = getattr(room, name)
            if left is None:
                assert not getattr(lent, name)
            elif shard == found.shard and getattr(need, name):
                assert getattr(need, name) <= left + getattr(lent, name)
            elif given_away and getattr(given_away, name):
                assert 0 < getattr(given_away, name) <= left


def test_a_shard_that_can_take_all_of_it_comes_before_one_that_needs_gifts() -> None:
    limits = Limits(total_budget_micro_usd=D(90), shards=3)
    states = [State(committed=D(25)), State(committed=D(10)), State(committed=D(28))]

    found = place(limits, states, Ask(cost_micro_usd=D(15)), first=2)

    assert found is not None
    assert (found.shard, found.gifts) == (1, ())


def test_what_is_missing_comes_from_as_few_shards_as_possible() -> None:
    limits = Limits(total_budget_micro_usd=D(120), shards=4)
    states = [State(committed=D(28)), State(committed=D(5)), State(committed=D(29)), State(committed=D(10))]

    found = place(limits, states, Ask(cost_micro_usd=D(40)), first=0)

    assert found is not None
    assert (found.shard, [(gift.shard, gift.amounts.total) for gift in found.gifts]) == (1, [(3, D(15))])


def test_a_hold_that_is_made_larger_stays_where_it_is() -> None:
    limits = Limits(total_budget_micro_usd=D(60), shards=2)
    states = [State(committed=D(30)), State()]

    found = place(limits, states, Ask(requests=0, cost_micro_usd=D(20)), at=0)

    assert found is not None
    assert (found.shard, [(gift.shard, gift.amounts.total) for gift in found.gifts]) == (0, [(1, D(20))])


@given(keys())
def test_levelling_adds_nothing_and_leaves_no_shard_over_its_part_while_another_has_room(
    key: tuple[Limits, list[State]],
) -> None:
    limits, states = key
    month = [room_of(part_of(limits, shard), state).month for shard, state in enumerate(states)]
    life = [room_of(part_of(limits, shard), state).total for shard, state in enumerate(states)]

    gifts = overdrafts(limits, states)

    assert sum(gift.amounts.month for gift in gifts) == 0
    assert sum(gift.amounts.total for gift in gifts) == 0
    for gift in gifts:
        if month[gift.shard] is not None:
            month[gift.shard] -= gift.amounts.month  # type: ignore[operator]
        if life[gift.shard] is not None:
            life[gift.shard] -= gift.amounts.total  # type: ignore[operator]
    for rooms in (month, life):
        left = [room for room in rooms if room is not None]
        assert min(left, default=D(0)) >= 0 or max(left) <= 0


def test_how_a_key_stands_is_estimated_from_one_shard() -> None:
    limits = Limits(rpm=40, monthly_budget_micro_usd=D(400), shards=4)
    state = State(requests=3, committed=D(20), committed_month=D(20), spent=D(15), spent_month=D(15))

    estimate = standing(limits, scaled(state, 4), now=NOW)

    assert (estimate.remaining_requests, estimate.remaining_monthly_micro_usd) == (28, D(320))
    lender = msgspec.structs.replace(state, committed_month=D(-9))
    assert standing(limits, scaled(lender, 4), now=NOW).held_micro_usd == 0


@pytest.mark.parametrize(
    ("limits", "state", "limit", "wait"),
    [
        (Limits(rpm=1, tpm=100), State(requests=1, tokens=95), Limit.REQUESTS, 50.0),
        (Limits(rpm=1, tpm=8), State(requests=1), Limit.TOKENS, None),
        (Limits(rpm=1, total_budget_micro_usd=D(9)), State(requests=1, committed=D(5)), Limit.REQUESTS, 50.0),
        (
            Limits(rpm=1, total_budget_micro_usd=D(9)),
            State(requests=1, committed=D(5), spent=D(5)),
            Limit.TOTAL_BUDGET,
            None,
        ),
    ],
)
def test_the_limit_that_takes_longest_to_yield_is_told(
    limits: Limits, state: State, limit: Limit, wait: float | None
) -> None:
    error = refusal(limits, state, Ask(tokens=10, cost_micro_usd=D(5)), now=NOW)

    assert (error.limit, error.retry_after_s) == (limit, wait)
    assert isinstance(error, BudgetExceededError if limit.is_budget else RateLimitedError)


def test_a_refusal_says_what_is_in_the_way_and_what_helps() -> None:
    asked = Ask(tokens=10, cost_micro_usd=D(5))

    def message(limits: Limits, state: State) -> str:
        return refusal(limits, state, asked, now=NOW).message

    assert message(Limits(rpm=1), State(requests=1)).endswith("1 requests a minute. Try again in 50 seconds.")
    assert message(Limits(tpm=5), State()).endswith("this request may need 10. It has to be smaller.")
    held = message(Limits(monthly_budget_micro_usd=D(9)), State(committed_month=D(9)))
    assert "monthly budget" in held
    assert held.endswith("which may come back.")


BUCKET = Bucket(month="202611", name="30x59842081", open=1, settled=Spent(requests=2, cost_micro_usd=D(20)))
EXPIRED = 59842081 * 30.0


def test_a_bucket_leaks_when_it_has_expired_with_something_in_it() -> None:
    assert not BUCKET.leaks_at(EXPIRED - 1)
    assert BUCKET.leaks_at(EXPIRED)
    assert not msgspec.structs.replace(BUCKET, open=0).leaks_at(EXPIRED)
    assert msgspec.structs.replace(BUCKET, open=-1).leaks_at(EXPIRED)
    assert msgspec.structs.replace(BUCKET, open=0, held=D(1)).leaks_at(EXPIRED)


def test_what_was_settled_stays_spent_although_the_log_has_less() -> None:
    """Because the log could not be written, or has deleted it since."""
    assert BUCKET.unsettled(Spent(requests=1, cost_micro_usd=D(15)), now=EXPIRED) == Spent(requests=0)
    twice = msgspec.structs.replace(BUCKET, open=-1)
    assert twice.unsettled(Spent(requests=0), now=EXPIRED + 30 * 86_400) == Spent(requests=0)


def test_what_was_settled_twice_is_taken_back() -> None:
    twice = msgspec.structs.replace(BUCKET, open=-1)

    missing = twice.unsettled(Spent(requests=1, cost_micro_usd=D(15)), now=EXPIRED)

    assert (missing.requests, missing.cost_micro_usd) == (-1, D(-5))
