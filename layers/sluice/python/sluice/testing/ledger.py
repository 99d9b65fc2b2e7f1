"""A ledger in memory: the real one's arithmetic under one lock, so that every operation is one atomic step."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from sluice.domain.admission import (
    EXACT,
    NOTHING,
    Bucket,
    State,
    Window,
    output_within,
    refusal,
    room_of,
    standing,
    sum_of,
)
from sluice.domain.errors import SluiceError, StateConflictError
from sluice.domain.ledger import ZERO, Ask, Hold, Limits, Spent, Standing, bucket_of, reference_of
from sluice.testing.request_log import FakeRequestLog


@dataclass
class _Account:
    requests: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    committed: dict[str, Decimal] = field(default_factory=dict)
    settled: dict[str, Spent] = field(default_factory=dict)
    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)

    def state(self, window: Window) -> State:
        everything = sum_of(self.settled.values())
        month = self.settled.get(window.month, NOTHING)
        return State(
            requests=self.requests[window.minute],
            tokens=self.tokens[window.minute],
            committed=sum(self.committed.values(), ZERO),
            committed_month=self.committed.get(window.month, ZERO),
            spent=everything.cost_micro_usd,
            spent_month=month.cost_micro_usd,
            settled=month,
            buckets=tuple(self.buckets.values()),
        )

    def commit(self, month: str, cost: Decimal) -> None:
        self.committed[month] = self.committed.get(month, ZERO) + cost

    def spend(self, month: str, spent: Spent) -> None:
        self.settled[month] = sum_of((self.settled.get(month, NOTHING), spent))


class FakeLedger:
    """Implements :class:`~sluice.domain.ports.Ledger`. ``failing`` is raised by every call while it is set.

    ``calls`` counts the calls by method. Expired holds are settled from ``request_log``, if there is one. Shards make
    no difference here, as they make none to what is admitted.
    """

    def __init__(self, request_log: FakeRequestLog | None = None, *, now: Callable[[], float] = time.time) -> None:
        self.failing: SluiceError | None = None
        self.calls: Counter[str] = Counter()
        self._request_log = request_log
        self._now = now
        self._accounts: dict[str, _Account] = {}
        self._lock = threading.RLock()

    def reserve(self, key_id: str, limits: Limits, ask: Ask, *, until: float) -> Hold:
        with self._lock:
            self._called("reserve")
            account, now = self._account(key_id), self._now()
            window = Window.of(now)
            output = output_within(room_of(limits, account.state(window)), ask)
            if output != ask.output_tokens:
                self._reclaim(key_id, account)
                output = output_within(room_of(limits, account.state(window)), ask)
            if output is None:
                raise refusal(limits, account.state(window), ask, now=now)
            name = bucket_of(now, until)[0]
            tokens, cost = ask.tokens_with(output), ask.cost_with(output)
            account.requests[window.minute] += ask.requests
            account.tokens[window.minute] += tokens
            account.commit(window.month, cost)
            bucket = account.buckets.get((window.month, name)) or Bucket(month=window.month, name=name)
            account.buckets[window.month, name] = msgspec.structs.replace(
                bucket, held=bucket.held + cost, open=bucket.open + 1
            )
            return Hold(
                key_id=key_id,
                shard=0,
                minute=window.minute,
                month=window.month,
                bucket=name,
                until=until,
                tokens=tokens,
                output_tokens=output,
                cost_micro_usd=cost,
                standing=standing(limits, account.state(window), now=now),
            )

    def extend(self, hold: Hold, limits: Limits, cost_micro_usd: Decimal) -> Hold:
        with self._lock:
            self._called("extend")
            if not limits.has_budget:
                return hold
            account, now = self._account(hold.key_id), self._now()
            self._reclaim(hold.key_id, account)
            window = msgspec.structs.replace(Window.of(now), month=hold.month)
            ask = Ask(requests=0, cost_micro_usd=cost_micro_usd)
            state, budgets = account.state(window), msgspec.structs.replace(limits, rpm=None, tpm=None)
            if output_within(room_of(budgets, state), ask) is None:
                raise refusal(budgets, state, ask, now=now)
            bucket = account.buckets[hold.month, hold.bucket]
            if bucket.open <= 0:
                raise StateConflictError("The time that this request may take is over.")
            account.commit(hold.month, cost_micro_usd)
            account.buckets[hold.month, hold.bucket] = msgspec.structs.replace(
                bucket, held=bucket.held + cost_micro_usd
            )
            return msgspec.structs.replace(hold, cost_micro_usd=hold.cost_micro_usd + cost_micro_usd)

    def settle(self, hold: Hold, spent: Spent) -> None:
        with self._lock:
            self._called("settle")
            account = self._account(hold.key_id)
            account.spend(hold.month, spent)
            bucket = account.buckets[hold.month, hold.bucket]
            released = hold.cost_micro_usd if bucket.open > 0 else ZERO
            account.commit(hold.month, spent.cost_micro_usd - released)
            account.buckets[hold.month, hold.bucket] = msgspec.structs.replace(
                bucket, held=bucket.held - released, open=bucket.open - 1, settled=sum_of((bucket.settled, spent))
            )
            if Window.of(self._now()).minute == hold.minute:
                account.tokens[hold.minute] += spent.input_tokens + spent.output_tokens - hold.tokens
            self._reclaim(hold.key_id, account)

    def standing(self, key_id: str, limits: Limits) -> Standing:
        with self._lock:
            self._called("standing")
            account, now = self._account(key_id), self._now()
            self._reclaim(key_id, account)
            return standing(limits, account.state(Window.of(now)), now=now)

    def now(self) -> float:
        """The time by the ledger's clock."""
        return self._now()

    def set_aside(self, hold: Hold) -> None:
        """Keep the money of a hold for good: it is held by nobody who could die. The adapter's ``set_aside``."""
        with self._lock:
            self._called("set_aside")
            account = self._account(hold.key_id)
            bucket = account.buckets[hold.month, hold.bucket]
            if bucket.open <= 0:
                raise StateConflictError("The hold has been given back.")
            account.buckets[hold.month, hold.bucket] = msgspec.structs.replace(
                bucket, held=bucket.held - hold.cost_micro_usd, open=bucket.open - 1
            )

    def settle_part(self, key_id: str, month: str, spent: Spent, *, released: Decimal) -> None:
        """Spend some of what was set aside, and give back what of ``released`` it did not cost."""
        with self._lock:
            self._called("settle_part")
            account = self._account(key_id)
            account.spend(month, spent)
            account.commit(month, EXACT.subtract(spent.cost_micro_usd, released))

    def open_holds(self, key_id: str) -> int:
        """How many holds of the key nobody has settled."""
        with self._lock:
            return sum(bucket.open for bucket in self._account(key_id).buckets.values())

    def _called(self, method: str) -> None:
        self.calls[method] += 1
        if self.failing is not None:
            raise self.failing

    def _account(self, key_id: str) -> _Account:
        return self._accounts.setdefault(key_id, _Account())

    def _reclaim(self, key_id: str, account: _Account) -> None:
        now = self._now()
        for place, bucket in account.buckets.items():
            if not bucket.leaks_at(now):
                continue
            missing = bucket.unsettled(self._logged(key_id, bucket), now=now)
            account.spend(bucket.month, missing)
            account.commit(bucket.month, missing.cost_micro_usd - bucket.held)
            settled = sum_of((bucket.settled, missing))
            account.buckets[place] = msgspec.structs.replace(bucket, held=ZERO, open=0, settled=settled)

    def _logged(self, key_id: str, bucket: Bucket) -> Spent:
        entries = self._request_log.entries if self._request_log else []
        reference = reference_of(0, bucket.month, bucket.name)
        return sum_of(
            Spent(
                requests=entry.requests,
                input_tokens=entry.usage.input_tokens if entry.usage else 0,
                output_tokens=entry.usage.output_tokens if entry.usage else 0,
                cost_micro_usd=entry.cost_micro_usd or ZERO,
            )
            for entry in entries
            if entry.key_id == key_id and entry.hold == reference
        )
