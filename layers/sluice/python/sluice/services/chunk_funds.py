"""The money that was set aside for a chunk, spent line by line.

The whole of it was held when the batch began, so no line asks the key's ledger for anything. What is in use here (the
most that each line under way can come to) and what is spent never exceed what the chunk still holds: a key's budget is
kept by that alone. Lines come to less than they may, so a call that a line needs on top, to have an answer repaired,
finds room as a rule.
"""

import threading
import time
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Final

import msgspec

from sluice.domain.admission import EXACT
from sluice.domain.errors import BudgetExceededError
from sluice.domain.ledger import (
    ZERO,
    Ask,
    Hold,
    Limit,
    Limits,
    Spent,
    Standing,
    minute_of,
    month_of,
    seconds_to_next_minute,
    seconds_to_next_month,
)

# Not the name of any bucket: nothing of this is in the ledger's item.
_BUCKET: Final = "set-aside"


class ChunkFunds:
    """Implements :class:`~sluice.domain.ports.Ledger` over ``held_micro_usd``. Safe to use from several threads.

    A key without a budget is refused nothing, whatever is held. Rates are not looked at: batches are not counted
    against them.
    """

    def __init__(self, held_micro_usd: Decimal, *, now: Callable[[], float] = time.time) -> None:
        self._left = held_micro_usd
        self._now = now
        self._lock = threading.Lock()

    def reserve(self, key_id: str, limits: Limits, ask: Ask, *, until: float) -> Hold:
        now = self._now()
        cost = ask.cost_with(ask.output_tokens)
        self._take(limits, cost)
        return Hold(
            key_id=key_id,
            shard=0,
            minute=minute_of(now),
            month=month_of(now),
            bucket=_BUCKET,
            until=int(until),
            tokens=ask.tokens_with(ask.output_tokens),
            output_tokens=ask.output_tokens,
            cost_micro_usd=cost,
            standing=self.standing(key_id, limits),
        )

    def extend(self, hold: Hold, limits: Limits, cost_micro_usd: Decimal) -> Hold:
        self._take(limits, cost_micro_usd)
        with localcontext(EXACT):
            return msgspec.structs.replace(hold, cost_micro_usd=hold.cost_micro_usd + cost_micro_usd)

    def settle(self, hold: Hold, spent: Spent) -> None:
        with self._lock, localcontext(EXACT):
            self._left += hold.cost_micro_usd - spent.cost_micro_usd

    def standing(self, key_id: str, limits: Limits) -> Standing:  # noqa: ARG002 - the port's signature
        now = self._now()
        return Standing(
            limits=limits,
            month=month_of(now),
            reset_s=seconds_to_next_minute(now),
            month_reset_s=seconds_to_next_month(now),
        )

    def _take(self, limits: Limits, cost_micro_usd: Decimal) -> None:
        with self._lock, localcontext(EXACT):
            if limits.has_budget and cost_micro_usd > self._left and cost_micro_usd > ZERO:
                raise self._refusal(limits)
            self._left -= cost_micro_usd

    def _refusal(self, limits: Limits) -> BudgetExceededError:
        monthly = limits.monthly_budget_micro_usd is not None
        return BudgetExceededError(
            "What was set aside for this batch does not cover another call for this line.",
            limit=Limit.MONTHLY_BUDGET if monthly else Limit.TOTAL_BUDGET,
            standing=self.standing("", limits),
            retry_after_s=None,
        )
