"""Whether a hold fits, and where: arithmetic over what a key's items in the ledger say (:mod:`sluice.domain.ledger`).

Nothing here reads or writes. Whoever applies what is decided here makes sure, in the same write, that it is still true.
"""

from collections.abc import Iterable, Sequence
from decimal import ROUND_DOWN, Context, Decimal, localcontext
from typing import Final

import msgspec

from sluice.domain.errors import BudgetExceededError, LimitError, RateLimitedError
from sluice.domain.ledger import (
    ZERO,
    Ask,
    Limit,
    Limits,
    Spent,
    Standing,
    expiry_of,
    minute_of,
    month_of,
    seconds_to_next_minute,
    seconds_to_next_month,
)

# As many digits as DynamoDB keeps of a number, and more than any sum of money here has.
EXACT: Final = Context(prec=38)
# Of a millionth of a micro-dollar nobody has to be given a part.
_SMALLEST_PART: Final = Decimal("0.000001")
NOTHING: Final = Spent(requests=0)

# When only held money is in the way, which comes back as soon as other requests of the key are over.
HELD_RETRY_S: Final = 1.0
# After this the log may have deleted what it had of a bucket, so that it no longer shows what was counted twice.
LOG_COMPLETE_S: Final = 6 * 3600


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The minute and the month of one moment."""

    at: float
    minute: int
    month: str

    @classmethod
    def of(cls, now: float) -> "Window":
        """Those of ``now``, in epoch seconds."""
        return cls(at=now, minute=minute_of(now), month=month_of(now))


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """Holds of one month that expire together: what is still held, of how many, and what the others were settled at.

    ``claimed_until`` (epoch seconds) is set by whoever settles an expired bucket in the place of those who did not.
    """

    month: str
    name: str
    held: Decimal = ZERO
    open: int = 0
    settled: Spent = NOTHING
    claimed_until: int = 0

    def leaks_at(self, now: float) -> bool:
        """Whether it has expired with holds that nobody settled, or that were settled once too often."""
        return now >= expiry_of(self.name) and bool(self.open or self.held)

    def unsettled(self, logged: Spent, *, now: float) -> Spent:
        """What the request log has of the holds and the ledger has not. Negative where it was counted twice.

        What was settled but is not in the log stays spent: the log could not be written, or has been deleted since.
        """
        difference = Spent(
            requests=logged.requests - self.settled.requests,
            input_tokens=logged.input_tokens - self.settled.input_tokens,
            output_tokens=logged.output_tokens - self.settled.output_tokens,
            cost_micro_usd=EXACT.subtract(logged.cost_micro_usd, self.settled.cost_micro_usd),
        )
        if self.open <= 0 and now < expiry_of(self.name) + LOG_COMPLETE_S:
            return difference
        return Spent(
            requests=max(difference.requests, 0),
            input_tokens=max(difference.input_tokens, 0),
            output_tokens=max(difference.output_tokens, 0),
            cost_micro_usd=max(difference.cost_micro_usd, ZERO),
        )


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What one item, or several together, have of a window. Committed is spent and held.

    Of one item of several, what is committed can be less than what is spent, even less than zero: it was lent room.
    """

    requests: int = 0
    tokens: int = 0
    committed: Decimal = ZERO
    committed_month: Decimal = ZERO
    spent: Decimal = ZERO
    spent_month: Decimal = ZERO
    settled: Spent = NOTHING
    buckets: tuple[Bucket, ...] = ()

    def leaks_at(self, now: float) -> tuple[Bucket, ...]:
        """The buckets to be settled in the place of those who did not."""
        return tuple(bucket for bucket in self.buckets if bucket.leaks_at(now))


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What is left; ``None`` where nothing is limited. Less than zero where more is used than the limit allows."""

    requests: int | None
    tokens: int | None
    month: Decimal | None
    total: Decimal | None


class Amounts(msgspec.Struct, frozen=True, kw_only=True):
    """Some of everything that is limited; ``month`` and ``total`` are the micro-dollars of each budget."""

    requests: int = 0
    tokens: int = 0
    month: Decimal = ZERO
    total: Decimal = ZERO

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            requests=self.requests + other.requests,
            tokens=self.tokens + other.tokens,
            month=EXACT.add(self.month, other.month),
            total=EXACT.add(self.total, other.total),
        )

    def __bool__(self) -> bool:
        return bool(self.requests or self.tokens or self.month or self.total)


class Gift(msgspec.Struct, frozen=True, kw_only=True):
    """Room that one shard gives away. Negative amounts are what it gets."""

    shard: int
    amounts: Amounts


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a hold fits, with how much output, once ``gifts`` of other shards have made room for it."""

    shard: int
    output_tokens: int
    gifts: tuple[Gift, ...] = ()

    @property
    def lent(self) -> Amounts:
        """All gifts together."""
        return sum((gift.amounts for gift in self.gifts), Amounts())


def needs(ask: Ask, output_tokens: int) -> Amounts:
    """What a hold with this much output takes."""
    cost = ask.cost_with(output_tokens)
    return Amounts(requests=ask.requests, tokens=ask.tokens_with(output_tokens), month=cost, total=cost)


def part_of(limits: Limits, shard: int) -> Limits:
    """The limits of one shard. The parts are equal but for the last digits, and add up to the whole exactly."""
    if limits.shards == 1:
        return limits
    return Limits(
        rpm=_count(limits.rpm, limits.shards, shard),
        tpm=_count(limits.tpm, limits.shards, shard),
        monthly_budget_micro_usd=_money(limits.monthly_budget_micro_usd, limits.shards, shard),
        total_budget_micro_usd=_money(limits.total_budget_micro_usd, limits.shards, shard),
    )


def _count(whole: int | None, shards: int, shard: int) -> int | None:
    return None if whole is None else whole // shards + (shard < whole % shards)


def _money(whole: Decimal | None, shards: int, shard: int) -> Decimal | None:
    if whole is None:
        return None
    with localcontext(EXACT):
        part = (whole / shards).quantize(_SMALLEST_PART, rounding=ROUND_DOWN)
        return part if shard else whole - part * (shards - 1)


def room_of(limits: Limits, state: State) -> Room:
    """What ``limits`` leave over."""
    return Room(
        requests=None if limits.rpm is None else limits.rpm - state.requests,
        tokens=None if limits.tpm is None else limits.tpm - state.tokens,
        month=_difference(limits.monthly_budget_micro_usd, state.committed_month),
        total=_difference(limits.total_budget_micro_usd, state.committed),
    )


def _difference(whole: Decimal | None, used: Decimal) -> Decimal | None:
    return None if whole is None else EXACT.subtract(whole, used)


def output_within(room: Room, ask: Ask) -> int | None:
    """The most output with which the hold fits into ``room``; ``None`` when it does not with its least.

    What takes nothing of something always fits, even where more is used than the limit allows.
    """
    if ask.requests and room.requests is not None and ask.requests > room.requests:
        return None
    most = ask.output_tokens
    if room.tokens is not None:
        most = min(most, room.tokens - ask.tokens if ask.tokens else max(room.tokens, 0))
    for money in (room.month, room.total):
        if money is not None:
            most = min(most, _affordable(money, ask))
    return most if most >= least_output(ask) else None


def _affordable(money: Decimal, ask: Ask) -> int:
    with localcontext(EXACT):
        left = money - ask.cost_micro_usd
        if left < 0 and ask.cost_micro_usd:
            return -1
        if left >= ask.output_tokens * ask.output_rate_micro_usd:
            return ask.output_tokens
        return int(max(left, ZERO) // ask.output_rate_micro_usd) if ask.output_rate_micro_usd else ask.output_tokens


def least_output(ask: Ask) -> int:
    """The least output that the request makes do with."""
    return min(ask.least_output_tokens, ask.output_tokens)


def total(states: Iterable[State]) -> State:
    """All of a key's items together."""
    states = tuple(states)
    with localcontext(EXACT):
        return State(
            requests=sum(state.requests for state in states),
            tokens=sum(state.tokens for state in states),
            committed=sum((state.committed for state in states), ZERO),
            committed_month=sum((state.committed_month for state in states), ZERO),
            spent=sum((state.spent for state in states), ZERO),
            spent_month=sum((state.spent_month for state in states), ZERO),
            settled=sum_of(state.settled for state in states),
            buckets=tuple(bucket for state in states for bucket in state.buckets),
        )


def sum_of(parts: Iterable[Spent]) -> Spent:
    """All of them together; of none, nothing."""
    parts = tuple(parts)
    with localcontext(EXACT):
        return Spent(
            requests=sum(part.requests for part in parts),
            input_tokens=sum(part.input_tokens for part in parts),
            output_tokens=sum(part.output_tokens for part in parts),
            cost_micro_usd=sum((part.cost_micro_usd for part in parts), ZERO),
        )


def place(limits: Limits, states: Sequence[State], ask: Ask, *, first: int = 0, at: int | None = None) -> Place | None:
    """Where the hold fits, given what every shard has; ``None`` when all of them together have no room for it.

    A shard that can take all of it comes before one that others have to give room. ``first`` is the shard to look at
    first; ``at`` names the only one that will do.
    """
    output = output_within(room_of(limits, total(states)), ask)
    if output is None:
        return None
    rooms = [room_of(part_of(limits, shard), state) for shard, state in enumerate(states)]
    order = [at] if at is not None else [(first + step) % len(rooms) for step in range(len(rooms))]
    exact = msgspec.structs.replace(ask, output_tokens=output, least_output_tokens=output)
    for shard in order:
        if output_within(rooms[shard], exact) is not None:
            return Place(shard=shard, output_tokens=output)
    best = max(order, key=lambda shard: _generosity(rooms[shard], ask))
    return Place(shard=best, output_tokens=output, gifts=_gifts(rooms, best, exact))


def _generosity(room: Room, ask: Ask) -> tuple[bool, Decimal, int]:
    """Requests are not moved without need, as another shard can simply be used."""
    money = [left for left in (room.month, room.total) if left is not None]
    return room.requests is None or room.requests >= ask.requests, min(money, default=ZERO), room.tokens or 0


def _gifts(rooms: Sequence[Room], taker: int, ask: Ask) -> tuple[Gift, ...]:
    """What the others give to ``taker`` so that the hold fits there: all that is missing, from as few as possible."""
    need = needs(ask, ask.output_tokens)
    asked = _shares([room.requests for room in rooms], taker, need.requests)
    tokens = _shares([room.tokens for room in rooms], taker, need.tokens)
    month = _shares([room.month for room in rooms], taker, need.month)
    life = _shares([room.total for room in rooms], taker, need.total)
    amounts = (
        Amounts(
            requests=int(asked.get(shard, 0)),
            tokens=int(tokens.get(shard, 0)),
            month=Decimal(month.get(shard, 0)),
            total=Decimal(life.get(shard, 0)),
        )
        for shard in range(len(rooms))
    )
    return _gifts_of(amounts)


def _gifts_of(amounts: Iterable[Amounts]) -> tuple[Gift, ...]:
    return tuple(Gift(shard=shard, amounts=one) for shard, one in enumerate(amounts) if one)


def _shares(rooms: Sequence[int | Decimal | None], taker: int, need: Decimal | int) -> dict[int, Decimal | int]:
    own = rooms[taker]
    if own is None or not need:
        return {}
    shares: dict[int, Decimal | int] = {}
    with localcontext(EXACT):
        missing = need - own
        others = ((room, shard) for shard, room in enumerate(rooms) if shard != taker and room is not None)
        for room, shard in sorted(others, reverse=True):
            if missing <= 0 or room <= 0:
                break
            shares[shard] = min(room, missing)
            missing -= shares[shard]
    return shares


def overdrafts(limits: Limits, states: Sequence[State]) -> tuple[Gift, ...]:
    """How the shards with room make up for those that have used more than their part; takers have negative gifts.

    That happens when a budget is made smaller: a shard alone would still give away its part of the smaller one.
    """
    rooms = [room_of(part_of(limits, shard), state) for shard, state in enumerate(states)]
    month = _levelled([room.month for room in rooms])
    life = _levelled([room.total for room in rooms])
    return _gifts_of(Amounts(month=month.get(shard, ZERO), total=life.get(shard, ZERO)) for shard in range(len(rooms)))


def is_level(limits: Limits, states: Sequence[State]) -> bool:
    """Whether no shard has used more than its part of a budget, so that each may give away what is left of its own."""
    rooms = (room_of(part_of(limits, shard), state) for shard, state in enumerate(states))
    return all(money is None or money >= 0 for room in rooms for money in (room.month, room.total))


def _levelled(rooms: Sequence[Decimal | None]) -> dict[int, Decimal]:
    gifts: dict[int, Decimal] = {}
    with localcontext(EXACT):
        short = {shard: -room for shard, room in enumerate(rooms) if room is not None and room < 0}
        spare = {shard: room for shard, room in enumerate(rooms) if room is not None and room > 0}
        for taker, missing in short.items():
            left = missing
            for giver in sorted(spare, key=spare.__getitem__, reverse=True):
                given = min(left, spare[giver])
                if not given:
                    break
                spare[giver] -= given
                left -= given
                gifts[giver] = gifts.get(giver, ZERO) + given
                gifts[taker] = gifts.get(taker, ZERO) - given
    return gifts


def standing(limits: Limits, state: State, *, now: float) -> Standing:
    """How a key with this state stands."""
    room = room_of(limits, state)
    return Standing(
        limits=limits,
        month=month_of(now),
        reset_s=seconds_to_next_minute(now),
        month_reset_s=seconds_to_next_month(now),
        remaining_requests=None if room.requests is None else max(room.requests, 0),
        remaining_tokens=None if room.tokens is None else max(room.tokens, 0),
        spent_micro_usd=state.spent_month,
        held_micro_usd=EXACT.subtract(state.committed_month, state.spent_month),
        total_spent_micro_usd=state.spent,
        total_held_micro_usd=EXACT.subtract(state.committed, state.spent),
        requests=state.settled.requests,
        input_tokens=state.settled.input_tokens,
        output_tokens=state.settled.output_tokens,
    )


def scaled(state: State, shards: int) -> State:
    """What a key with this many shards has, if the others have as much as this one; nothing held is less than none."""
    if shards == 1:
        return state
    with localcontext(EXACT):
        return State(
            requests=state.requests * shards,
            tokens=state.tokens * shards,
            committed=max(state.committed, state.spent) * shards,
            committed_month=max(state.committed_month, state.spent_month) * shards,
            spent=state.spent * shards,
            spent_month=state.spent_month * shards,
            settled=Spent(
                requests=state.settled.requests * shards,
                input_tokens=state.settled.input_tokens * shards,
                output_tokens=state.settled.output_tokens * shards,
                cost_micro_usd=state.settled.cost_micro_usd * shards,
            ),
        )


def refusal(limits: Limits, state: State, ask: Ask, *, now: float) -> LimitError:
    """The error for a hold that does not fit into what all of a key's items have: of all limits the slowest to yield.

    Whoever waits for another one first would only be refused again.
    """
    waits = _waits(limits, state, ask, now=now)
    # Two never stand in each other's way: of equals the first is told.
    slowest = max(waits, key=lambda limit: _endless(waits[limit]))
    kind = BudgetExceededError if slowest.is_budget else RateLimitedError
    return kind(
        _message(slowest, limits, ask, waits[slowest]),
        limit=slowest,
        standing=standing(limits, state, now=now),
        retry_after_s=waits[slowest],
    )


def _endless(wait: float | None) -> float:
    return float("inf") if wait is None else wait


def _waits(limits: Limits, state: State, ask: Ask, *, now: float) -> dict[Limit, float | None]:
    """The limits into which the hold does not fit with its least output, and the seconds until it will."""
    room = room_of(limits, state)
    tokens = ask.tokens_with(least_output(ask))
    cost = ask.cost_with(least_output(ask))
    waits: dict[Limit, float | None] = {}
    if room.requests is not None and 0 < ask.requests > room.requests:
        waits[Limit.REQUESTS] = _window_wait(ask.requests, limits.rpm, now)
    if room.tokens is not None and 0 < tokens > room.tokens:
        waits[Limit.TOKENS] = _window_wait(tokens, limits.tpm, now)
    budget = limits.monthly_budget_micro_usd
    if budget is not None and room.month is not None and 0 < cost > room.month:
        used_up = EXACT.add(state.spent_month, cost) > budget
        waits[Limit.MONTHLY_BUDGET] = None if cost > budget else seconds_to_next_month(now) if used_up else HELD_RETRY_S
    budget = limits.total_budget_micro_usd
    if budget is not None and room.total is not None and 0 < cost > room.total:
        waits[Limit.TOTAL_BUDGET] = None if EXACT.add(state.spent, cost) > budget else HELD_RETRY_S
    return waits


def _window_wait(need: int, limit: int | None, now: float) -> float | None:
    return None if limit is not None and need > limit else seconds_to_next_minute(now)


def _message(limit: Limit, limits: Limits, ask: Ask, wait: float | None) -> str:
    if limit.is_budget:
        which = "monthly budget" if limit is Limit.MONTHLY_BUDGET else "budget"
        head = f"What is left of this key's {which} does not cover what this request may cost."
        return f"{head} Requests under way hold some of it, which may come back." if wait == HELD_RETRY_S else head
    if limit is Limit.REQUESTS:
        head = f"This key may make {limits.rpm} requests a minute."
    else:
        need = ask.tokens_with(least_output(ask))
        head = f"This key may use {limits.tpm} tokens a minute, and this request may need {need}."
    if wait is None:
        return f"{head} It has to be smaller."
    return f"{head} Try again in {wait:.3g} seconds."
