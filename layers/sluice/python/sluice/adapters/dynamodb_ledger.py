"""The ledger in DynamoDB: admission is one conditional write, so that callers who race cannot both take the last room.

How a hold moves through it
---------------------------
``reserve`` adds the hold to the item of one shard, on the condition that it fits. Whether it did, and what was there if
not, comes with the answer. Only when it did not fit is more needed: less output, the room of other shards (one
transaction, in which they give what is missing), or what functions held that were killed.
``settle`` takes the hold out again and adds what was spent; with the same write goes what is outdated in the item.

What can go wrong
-----------------
The additions are not idempotent. So ``settle`` is repeated only after an error that says that nothing was written. It
is given up otherwise, and what it may have left behind is settled from the request log, like all that is left behind,
when its bucket has expired. ``reserve`` is always repeated: at worst it takes a hold too many, which comes back in the
same way. For the same reason the client must not retry by itself.

Whoever comes by settles what was left behind, be it with an answer that is ready. The log of a busy key may be much to
read for that, so it is read in turns: nobody is kept for more than moments, and everybody goes on from where it was.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, localcontext
from typing import Any, Final, TypeVar

import msgspec

from sluice.adapters import dynamodb_ledger_items as items
from sluice.adapters.dynamodb import ConditionFailedError, Table, Update, to_struct, to_values
from sluice.adapters.dynamodb_counters import Change, Number
from sluice.adapters.dynamodb_request_log import Page, Reading
from sluice.domain import admission
from sluice.domain.admission import EXACT, Amounts, Bucket, Gift, Place, Room, State, Window
from sluice.domain.deadline import Deadline
from sluice.domain.errors import StateConflictError, StateError
from sluice.domain.ledger import (
    ZERO,
    Ask,
    Hold,
    Limits,
    Spent,
    Standing,
    begun_between,
    bucket_of,
    reference_of,
)
from sluice.telemetry import logs, tracing

# Every try after the first finds the ledger as another caller has left it, so somebody gets on each time.
TRIES: Final = 12
# Of a call that failed without saying whether it did anything, and of one that says that it did nothing.
ATTEMPTS: Final = 3
REFUSED_ATTEMPTS: Final = 6
BACKOFF_S: Final = 0.02
LONGEST_BACKOFF_S: Final = 0.5
THROTTLED: Final = "state_throttled"
# How long what others left behind keeps a caller whom it is in the way of, and one whose answer is ready. What the
# table has been asked for by then is waited for.
MENDING_BEFORE_S: Final = 2.0
MENDING_AFTER_S: Final = 0.5
# Longer than that, with all waits. Whoever has to stop gives the claim back; whoever fails lets the table rest.
CLAIM_S: Final = 60
READING_KEPT_S: Final = 86_400
# What a request has to have left of its time for what it can do without: to mend, or to try once more.
SPARE_S: Final = 5.0
# For as long as other containers may admit requests under limits that a key had before.
LEVEL_S: Final = 60
MOST_REMEMBERED: Final = 1_000

_log = logs.get_logger()

NOTHING_LENT: Final = Amounts()

_Budgets = tuple[Decimal | None, Decimal | None, int]
T = TypeVar("T")


class _Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be held, and in which window and bucket. ``at`` is the shard that has the hold it adds to, if any."""

    key_id: str
    limits: Limits
    ask: Ask
    window: Window
    bucket: str
    at: int | None = None

    @property
    def code(self) -> str:
        return items.bucket_code(self.window.month, self.bucket)


class _Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the log has been read of what others left behind in a bucket, as long as that is just as it was."""

    bucket: Bucket
    reading: Reading


class DynamoDBLedger:
    """A :class:`~sluice.domain.ports.Ledger`. The ``table``'s client must make one attempt only (see above)."""

    def __init__(
        self, table: Table, *, now: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._table = table
        self._now = now
        self._sleep = sleep
        self._memory = _Memory()

    def reserve(self, key_id: str, limits: Limits, ask: Ask, *, until: float) -> Hold:
        def demand() -> _Demand:
            window = Window.of(self._now())
            return _Demand(key_id=key_id, limits=limits, ask=ask, window=window, bucket=bucket_of(window.at, until)[0])

        demanded, place, state = self._admit(demand, until)
        return Hold(
            key_id=key_id,
            shard=place.shard,
            minute=demanded.window.minute,
            month=demanded.window.month,
            bucket=demanded.bucket,
            until=until,
            tokens=ask.tokens_with(place.output_tokens),
            output_tokens=place.output_tokens,
            cost_micro_usd=ask.cost_with(place.output_tokens),
            standing=admission.standing(limits, state, now=demanded.window.at),
        )

    def extend(self, hold: Hold, limits: Limits, cost_micro_usd: Decimal) -> Hold:
        if not limits.has_budget:
            return hold

        def demand() -> _Demand:
            return _Demand(
                key_id=hold.key_id,
                limits=msgspec.structs.replace(limits, rpm=None, tpm=None),
                ask=Ask(requests=0, cost_micro_usd=cost_micro_usd),
                window=msgspec.structs.replace(Window.of(self._now()), month=hold.month),
                bucket=hold.bucket,
                at=hold.shard,
            )

        self._admit(demand, hold.until)
        return msgspec.structs.replace(hold, cost_micro_usd=EXACT.add(hold.cost_micro_usd, cost_micro_usd))

    def settle(self, hold: Hold, spent: Spent) -> None:
        window = Window.of(self._now())
        change = _settlement(hold, spent, released=hold.cost_micro_usd)
        code = items.bucket_code(hold.month, hold.bucket)
        change.above_zero(f"k{code}")
        if window.minute == hold.minute:
            change.add(f"t{hold.minute}", spent.input_tokens + spent.output_tokens - hold.tokens)
        change.remove(self._memory.outdated(hold.key_id, hold.shard))
        try:
            item = self._change(hold.key_id, hold.shard, change)
        except ConditionFailedError as failed:
            item = self._settle_late(hold, spent, tracked=f"k{code}" in (failed.item or {}))
        self._memory.saw(hold.key_id, hold.shard, item, window)
        if hold.until - window.at >= SPARE_S:
            self._mend(hold.key_id, hold.shard, items.state_of(item, window), window)

    def standing(self, key_id: str, limits: Limits) -> Standing:
        window = Window.of(self._now())
        states = self._without_leaks(key_id, self._states(key_id, limits, window), window)
        return admission.standing(limits, admission.total(states), now=window.at)

    # ---- Admission ----

    def _admit(self, demand: Callable[[], _Demand], until: float) -> tuple[_Demand, Place, State]:
        """Hold what is demanded: what was, where, and how all of the key stands (of several shards, by estimate).

        :raises StateError: others were faster each time, or there is no time left before ``until`` (epoch seconds).
        """
        known: list[State] = []
        place = self._guess(demand())
        for attempt in range(TRIES):
            demanded = demand()
            if place is None:
                known = self._states(demanded.key_id, demanded.limits, demanded.window)
                place, known = self._placed(demanded, known)
            try:
                return demanded, place, self._hold(demanded, place, known)
            except ConditionFailedError as failed:
                _check_hold_is_there(demanded, place, failed)
                place = None
                if demanded.limits.shards == 1:
                    place, known = self._placed(demanded, [items.state_of(failed.item, demanded.window)])
            if attempt:
                if until - self._now() < SPARE_S:
                    break
                self._pause(attempt)
        raise StateError("The key is used by too many at once. Try again.", code=THROTTLED)

    def _guess(self, demand: _Demand) -> Place | None:
        """Where to try without having looked: a shard that this container does not know to be full.

        :raises LimitError: all of them are.
        """
        limits, ask, window = demand.limits, demand.ask, demand.window
        is_level = limits.shards == 1 or not limits.has_budget or self._memory.is_level(demand)
        if demand.at is not None:
            return Place(shard=demand.at, output_tokens=0) if is_level else None
        output = admission.output_within(admission.room_of(limits, State()), ask)
        if output is None:
            return None
        full = [self._memory.full(demand, shard) for shard in range(limits.shards)]
        if all(full):
            states = [state for state in full if state]
            raise admission.refusal(limits, admission.total(states), ask, now=window.at)
        if not is_level:
            return None
        shard = random.choice([number for number, state in enumerate(full) if state is None])
        whole = msgspec.structs.replace(ask, output_tokens=output, least_output_tokens=output)
        part = admission.room_of(admission.part_of(limits, shard), State())
        return None if admission.output_within(part, whole) is None else Place(shard=shard, output_tokens=output)

    def _placed(self, demand: _Demand, known: list[State]) -> tuple[Place, list[State]]:
        """Where there is room, and what every shard has by then. :raises LimitError: nowhere, nor in all of them."""
        known = self._levelled(demand, known)
        self._memory.saw_full(demand, known)
        place = self._place(demand, known)
        if demand.limits.has_budget and _is_short_of_money(demand, known):
            mended = self._without_leaks(demand.key_id, known, demand.window)
            if mended != known:
                known, place = mended, self._place(demand, mended)
        if place is None:
            raise admission.refusal(demand.limits, admission.total(known), demand.ask, now=demand.window.at)
        return place, known

    def _place(self, demand: _Demand, known: Sequence[State]) -> Place | None:
        first = random.randrange(len(known))
        return admission.place(demand.limits, known, demand.ask, first=first, at=demand.at)

    def _hold(self, demand: _Demand, place: Place, known: Sequence[State]) -> State:
        """Write the hold; how all of the key stands then. :raises ConditionFailedError: something came between."""
        window, shards = demand.window, demand.limits.shards
        change = _holding(demand, place)
        if place.gifts:
            taking = update_of(demand.key_id, place.shard, change)
            self._transact(taking, *_givings(demand, place.gifts))
            need = admission.needs(demand.ask, place.output_tokens)
            held = State(requests=need.requests, tokens=need.tokens, committed=need.total, committed_month=need.month)
            return admission.total((*known, held))
        item = self._change(demand.key_id, place.shard, change, repeat=True)
        self._memory.saw(demand.key_id, place.shard, item, window)
        state = items.state_of(item, window)
        if len(known) == shards:
            return admission.total(state if shard == place.shard else one for shard, one in enumerate(known))
        return admission.scaled(state, shards)

    def _levelled(self, demand: _Demand, known: list[State]) -> list[State]:
        """What every shard has when none has used more than its part of a budget while others have room."""
        limits = demand.limits
        if limits.shards == 1 or not limits.has_budget or self._memory.is_level(demand):
            return known
        for _ in range(TRIES):
            gifts = admission.overdrafts(limits, known)
            if not gifts:
                break
            try:
                self._transact(*_givings(demand, gifts))
            except ConditionFailedError:
                _log.info("ledger_levelled_by_another", key_id=demand.key_id)
            known = self._states(demand.key_id, limits, demand.window)
        # While all of the key is overdrawn, what one shard gets back belongs to the others.
        if admission.is_level(limits, known):
            self._memory.saw_level(demand)
        return known

    # ---- What was left behind ----

    def _settle_late(self, hold: Hold, spent: Spent, *, tracked: bool) -> Any:
        """Spend what a function used that was taken for dead: its hold has been given back already.

        As long as the bucket is ``tracked``, it remembers that, so that what the log had of it by then counts once.
        """
        _log.warning("hold_settled_late", key_id=hold.key_id, hold=hold.reference)
        if tracked:
            change = _settlement(hold, spent, released=ZERO)
            change.there(f"k{items.bucket_code(hold.month, hold.bucket)}")
            try:
                return self._change(hold.key_id, hold.shard, change)
            except ConditionFailedError:
                _log.info("bucket_removed", key_id=hold.key_id, hold=hold.reference)
        change = Change()
        spend(change, hold.month, spent, committed=spent.cost_micro_usd)
        return self._change(hold.key_id, hold.shard, change)

    def _mend(self, key_id: str, shard: int, state: State, window: Window) -> None:
        """Settle one bucket that others left behind."""
        for bucket in state.leaks_at(window.at)[:1]:
            self._reclaim(key_id, shard, bucket, window, Deadline.after(MENDING_AFTER_S))

    def _without_leaks(self, key_id: str, states: Sequence[State], window: Window) -> list[State]:
        """What every shard has when all that was left behind is settled, but for what others are settling now.

        When time is up, the rest stays as it is for whoever comes next.
        """
        deadline = Deadline.after(MENDING_BEFORE_S)
        mended = list(states)
        leaks = [(shard, bucket) for shard, state in enumerate(states) for bucket in state.leaks_at(window.at)]
        for shard, bucket in leaks:
            mended[shard] = self._reclaim(key_id, shard, bucket, window, deadline) or mended[shard]
            if deadline.expired:
                break
        return mended

    def _reclaim(self, key_id: str, shard: int, bucket: Bucket, window: Window, deadline: Deadline) -> State | None:
        """Settle an expired bucket by the request log: what its holds have there is spent, the rest is free.

        What the shard has then; ``None`` when somebody else is at it, or it failed and is left to the next. Only one
        who claims the bucket reads the log, as of a busy key that may be much to read; and only what has not changed
        since then is written. When time is up before all is read, the claim is given back.
        """
        if bucket.claimed_until > window.at:
            return None
        code = items.bucket_code(bucket.month, bucket.name)
        try:
            item = self._change(key_id, shard, _claim(code, bucket, window), repeat=True)
            claimed = items.bucket_in(item, code)
            logged = self._logged(key_id, shard, claimed, window, deadline)
            if logged is None:
                item = self._change(key_id, shard, _return(code, claimed), repeat=True)
                return items.state_of(item, window)
            missing = claimed.unsettled(logged, now=window.at)
            item = self._change(key_id, shard, _reconciliation(code, claimed, missing), repeat=True)
        except ConditionFailedError as failed:
            return items.state_of(failed.item, window)
        except StateError as error:
            _log.warning("reclaim_failed", key_id=key_id, **logs.describe(error))
            return None
        _log.warning(
            "holds_reclaimed",
            key_id=key_id,
            hold=reference_of(shard, bucket.month, bucket.name),
            holds=claimed.open,
            held_micro_usd=claimed.held,
            spent_micro_usd=missing.cost_micro_usd,
        )
        return items.state_of(item, window)

    def _logged(self, key_id: str, shard: int, claimed: Bucket, window: Window, deadline: Deadline) -> Spent | None:
        """What the request log has of a bucket; ``None`` when time is up before all of it is read.

        How far it is read is kept after every round of pages, so that nobody begins anew: neither after somebody who
        had to stop, nor after one who died. Only of a bucket that was settled in between all is read once more.
        """
        bucket = msgspec.structs.replace(claimed, claimed_until=0)
        place = items.partition_key(key_id, shard), items.reading_key(items.bucket_code(bucket.month, bucket.name))
        reading = self._read_before(place, bucket)
        if reading is None:
            first, last = begun_between(bucket.name)
            reference = reference_of(shard, bucket.month, bucket.name)
            reading = Reading.of(key_id, reference, first=first, last=last)
        while True:
            reading = self._read_on(reading)
            if not reading.unread:
                return reading.spent
            self._keep(place, _Progress(bucket=bucket, reading=reading), window)
            if deadline.expired:
                return None

    def _read_before(self, place: tuple[str, str], bucket: Bucket) -> Reading | None:
        """How far others have read the log for a bucket that has not changed since."""
        found = self._repeated(lambda: self._table.get_many([place], consistent=True))
        progress = to_struct(found[0]["progress"], _Progress) if found else None
        return progress.reading if progress and progress.bucket == bucket else None

    def _read_on(self, reading: Reading) -> Reading:
        """A page more of every partition, at the same time."""

        def page(partition: str) -> Page:
            return self._repeated(lambda: reading.page(self._table, partition), attempts=1)

        with ThreadPoolExecutor(max_workers=len(reading.unread)) as pool:
            return reading.with_pages(pool.map(tracing.carried(page), reading.unread))

    def _keep(self, place: tuple[str, str], progress: _Progress, window: Window) -> None:
        """Whoever comes later has read more, or the same: in whatever order these are written, each is right."""
        self._repeated(
            lambda: self._table.update(
                *place,
                "SET progress = :progress, expires_at = :expires_at",
                condition=None,
                values={":progress": to_values(progress), ":expires_at": int(window.at) + READING_KEPT_S},
            )
        )

    # ---- The table ----

    def _states(self, key_id: str, limits: Limits, window: Window) -> list[State]:
        keys = [(items.partition_key(key_id, shard), items.SORT_KEY) for shard in range(limits.shards)]
        found = {item["pk"]: item for item in self._repeated(lambda: self._table.get_many(keys, consistent=True))}
        return [items.state_of(found.get(pk), window) for pk, _ in keys]

    def _change(self, key_id: str, shard: int, change: Change, *, repeat: bool = False) -> dict[str, Any]:
        """Write the change; the item as it is then. ``repeat`` says that a change too many does no harm.

        :raises ConditionFailedError: its condition does not hold.
        """
        pk = items.partition_key(key_id, shard)
        return self._repeated(
            lambda: self._table.update(
                pk, items.SORT_KEY, change.expression, condition=change.condition, values=change.values
            ),
            attempts=ATTEMPTS if repeat else 1,
        )

    def _transact(self, *updates: Update) -> None:
        self._repeated(lambda: self._table.transact(*updates))

    def _repeated(self, call: Callable[[], T], *, attempts: int = ATTEMPTS) -> T:
        """The result of ``call``, made up to ``attempts`` times, and more often as long as DynamoDB refuses to try."""
        for attempt in range(REFUSED_ATTEMPTS):
            try:
                return call()
            except ConditionFailedError:
                raise
            except StateError as error:
                refused = isinstance(error, StateConflictError) or error.code == THROTTLED
                if attempt + 1 >= (REFUSED_ATTEMPTS if refused else attempts):
                    raise StateError(error.message, code=THROTTLED if refused else error.code) from error
            self._pause(attempt)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def _pause(self, attempt: int) -> None:
        self._sleep(random.uniform(0, min(LONGEST_BACKOFF_S, BACKOFF_S * 2**attempt)))


class _Memory:
    """What one container has learned of the ledger; whatever it forgets costs a round trip at most."""

    def __init__(self) -> None:
        self._full: dict[tuple[str, int, int, int | None], State] = {}
        self._level: dict[str, tuple[_Budgets, float]] = {}
        self._outdated: dict[tuple[str, int], frozenset[str]] = {}

    def full(self, demand: _Demand, shard: int) -> State | None:
        """What the shard had when no request fitted into its minute any more. It has no less by now."""
        return self._full.get(_minute_of(demand, shard))

    def saw_full(self, demand: _Demand, states: Sequence[State]) -> None:
        """Remember the shards into which no request fits for the rest of the minute."""
        minute = demand.window.minute
        kept = {key: state for key, state in self._full.items() if key[2] == minute}
        for shard, state in enumerate(states):
            rpm = admission.part_of(demand.limits, shard).rpm
            if rpm is not None and state.requests >= rpm:
                kept[_minute_of(demand, shard)] = state
        self._full = kept

    def is_level(self, demand: _Demand) -> bool:
        """Whether the shards of a key were level under the budgets that it has."""
        budgets, until = self._level.get(demand.key_id, (None, 0.0))
        return budgets == _budgets(demand) and demand.window.at < until

    def saw_level(self, demand: _Demand) -> None:
        """Remember that they are: for a while at first, then for as long as the budgets are the same."""
        if len(self._level) >= MOST_REMEMBERED:
            self._level = {}
        budgets, _ = self._level.get(demand.key_id, (None, 0.0))
        until = math.inf if budgets == _budgets(demand) else demand.window.at + LEVEL_S
        self._level[demand.key_id] = _budgets(demand), until

    def outdated(self, key_id: str, shard: int) -> frozenset[str]:
        """The attributes that nobody needs any more, as far as this container has seen."""
        return self._outdated.pop((key_id, shard), frozenset())

    def saw(self, key_id: str, shard: int, item: items.Item, window: Window) -> None:
        """Remember what can go from an item."""
        names = items.outdated(item, window)
        if names:
            if len(self._outdated) >= MOST_REMEMBERED:
                self._outdated = {}
            self._outdated[key_id, shard] = names


def _budgets(demand: _Demand) -> _Budgets:
    limits = demand.limits
    return limits.monthly_budget_micro_usd, limits.total_budget_micro_usd, limits.shards


def _minute_of(demand: _Demand, shard: int) -> tuple[str, int, int, int | None]:
    return demand.key_id, shard, demand.window.minute, admission.part_of(demand.limits, shard).rpm


def _is_short_of_money(demand: _Demand, known: Sequence[State]) -> bool:
    room = admission.room_of(demand.limits, admission.total(known))
    money = Room(requests=None, tokens=None, month=room.month, total=room.total)
    return admission.output_within(money, demand.ask) != demand.ask.output_tokens


def _check_hold_is_there(demand: _Demand, place: Place, failed: ConditionFailedError) -> None:
    """:raises StateConflictError: the hold that was to be made larger has been given back."""
    if demand.at is None or place.gifts:
        return
    if items.bucket_in(failed.item or {}, demand.code).open <= 0:
        raise StateConflictError("The time that this request may take is over.")


def _holding(demand: _Demand, place: Place) -> Change:
    """The hold, on the condition that it fits into the shard's part of the limits and what others give to it."""
    need = admission.needs(demand.ask, place.output_tokens)
    change = Change()
    _take(change, admission.part_of(demand.limits, place.shard), demand.window, need, lent=place.lent)
    change.add(f"h{demand.code}", need.total)
    if demand.at is None:
        change.add(f"k{demand.code}", 1)
    else:
        change.above_zero(f"k{demand.code}")
    return change


def _givings(demand: _Demand, gifts: Sequence[Gift]) -> Iterator[Update]:
    """The gifts, on the condition that the shards have them to give."""
    for gift in gifts:
        change = Change()
        _take(change, admission.part_of(demand.limits, gift.shard), demand.window, gift.amounts)
        yield update_of(demand.key_id, gift.shard, change)


def _take(change: Change, part: Limits, window: Window, need: Amounts, *, lent: Amounts = NOTHING_LENT) -> None:
    """Take what is needed of a shard's part of the limits, on the condition that it fits with what others lend."""
    counters: tuple[tuple[str, Number, Number, Number | None], ...] = (
        (f"r{window.minute}", need.requests, lent.requests, part.rpm),
        (f"t{window.minute}", need.tokens, lent.tokens, part.tpm),
        (f"c{window.month}", need.month, lent.month, part.monthly_budget_micro_usd),
        ("c", need.total, lent.total, part.total_budget_micro_usd),
    )
    with localcontext(EXACT):
        for name, needed, borrowed, limit in counters:
            net = needed - borrowed
            change.add(name, net)
            if limit is not None and needed > 0:
                change.at_most(name, limit - net)


def _settlement(hold: Hold, spent: Spent, *, released: Decimal) -> Change:
    """What was spent, in the place of what was held, as far as that is released."""
    code = items.bucket_code(hold.month, hold.bucket)
    change = Change()
    spend(change, hold.month, spent, committed=EXACT.subtract(spent.cost_micro_usd, released))
    change.add(f"h{code}", -released)
    change.add(f"k{code}", -1)
    _count(change, code, spent)
    return change


def _reconciliation(code: str, bucket: Bucket, missing: Spent) -> Change:
    """What nobody settled, in the place of all that is held, if nobody has touched the bucket since."""
    change = Change()
    spend(change, bucket.month, missing, committed=EXACT.subtract(missing.cost_micro_usd, bucket.held))
    change.put(f"h{code}", 0)
    change.put(f"k{code}", 0)
    _count(change, code, missing)
    change.remove({f"l{code}"})
    change.exactly(f"h{code}", bucket.held)
    change.exactly(f"k{code}", bucket.open)
    change.exactly(f"x{code}", bucket.settled.cost_micro_usd)
    change.exactly(f"y{code}", bucket.settled.requests)
    return change


def _claim(code: str, bucket: Bucket, window: Window) -> Change:
    """Take a bucket on, if nobody has, and if it is still as it was seen."""
    change = Change()
    change.put(f"l{code}", int(window.at) + CLAIM_S)
    change.at_most(f"l{code}", int(window.at))
    change.exactly(f"h{code}", bucket.held)
    change.exactly(f"k{code}", bucket.open)
    return change


def _return(code: str, claimed: Bucket) -> Change:
    """Give a claim back, if it is still the same."""
    change = Change()
    change.remove({f"l{code}"})
    change.exactly(f"l{code}", claimed.claimed_until)
    return change


def spend(change: Change, month: str, spent: Spent, *, committed: Decimal) -> None:
    """Spend in a month, and commit by that much more (or less) than before."""
    change.add("c", committed)
    change.add(f"c{month}", committed)
    change.add("s", spent.cost_micro_usd)
    change.add(f"s{month}", spent.cost_micro_usd)
    change.add(f"n{month}", spent.requests)
    change.add(f"i{month}", spent.input_tokens)
    change.add(f"o{month}", spent.output_tokens)


def _count(change: Change, code: str, spent: Spent) -> None:
    change.add(f"x{code}", spent.cost_micro_usd)
    change.add(f"y{code}", spent.requests)
    change.add(f"u{code}", spent.input_tokens)
    change.add(f"v{code}", spent.output_tokens)


def update_of(key_id: str, shard: int, change: Change) -> Update:
    """The change of a shard's item, as one write of a transaction."""
    return Update(
        items.partition_key(key_id, shard), items.SORT_KEY, change.expression, change.values, change.condition
    )
