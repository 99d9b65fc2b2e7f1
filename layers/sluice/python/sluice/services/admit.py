"""Admission: a request is held to its key's limits before a provider is asked, and so is every call it needs.

What is held is the most that the request can come to at the target that is asked first (:mod:`sluice.domain.bounds`,
:func:`sluice.domain.pricing.ceiling`), in one atomic write. Where that does not fit, it makes do with less output,
which is then what the provider is told.

Most requests need no more than that first call. Whoever makes another one (a repeat, a dearer target, a hedge, a
repair) has it covered before: what has been charged, what is under way and this call must fit into what is held, or
more is held. A call that was abandoned counts as under way for good, as its provider may bill it.

Only budgets are extended in this way. The tokens of a minute are those of the first call until the request is settled:
they limit how much is started, and what really was used counts then.
"""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar, cast

import msgspec

from sluice.domain import bounds
from sluice.domain.bounds import Bound
from sluice.domain.classification import ClassificationRequest
from sluice.domain.deadline import Deadline
from sluice.domain.errors import LimitError, PermissionDeniedError, StateError
from sluice.domain.inference import Caller, ChatRequest, EmbeddingRequest
from sluice.domain.ledger import ZERO, Ask, Hold, Limits, Spent, Standing
from sluice.domain.limits import bounded
from sluice.domain.ports import Ledger
from sluice.domain.pricing import Ceiling, Charge, ceiling
from sluice.domain.routing import Report, Target
from sluice.services import classify
from sluice.telemetry import logs, metrics

# A request that is cut off at its deadline still has to be settled.
SETTLING_S = 2.0
_log = logs.get_logger()
Request = TypeVar("Request")


class Admit:
    """Holds requests to the limits of their keys. ``most_output_tokens`` is the deployment's own limit."""

    def __init__(
        self, ledger: Ledger, *, most_output_tokens: int | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._ledger = ledger
        self._most = most_output_tokens
        self._now = now

    def request(
        self,
        caller: Caller,
        request: object,
        target: Target,
        deadline: Deadline,
        charges: list[Charge],
        *,
        batch: bool = False,
    ) -> "Admission":
        """Hold what ``request`` comes to at ``target``; ``charges`` is where what it is charged will be found.

        ``batch`` says that it is a line of a batch, which has rates of its own.

        :raises LimitError: it does not fit.
        :raises StateError: nobody can tell whether it does.
        """
        ask = _ask(bound_of(request, target, most=self._most), target, batch=batch)
        hold = self._reserve(caller, ask, deadline)
        limits = caller.limits
        return Admission(self._ledger, hold, ask, limits=limits, most=self._most, charges=charges, batch=batch)

    def cached(self, caller: Caller, deadline: Deadline) -> "Admission":
        """As :meth:`request`, for an answer that costs nobody anything: it is one request all the same."""
        ask = Ask()
        return Admission(self._ledger, self._reserve(caller, ask, deadline), ask, limits=caller.limits)

    def _reserve(self, caller: Caller, ask: Ask, deadline: Deadline) -> Hold:
        until = self._now() + deadline.remaining_s() + SETTLING_S
        try:
            return self._ledger.reserve(caller.key_id, caller.limits, ask, until=until)
        except LimitError as error:
            logs.canonical(limited_by=error.limit.value)
            metrics.emit(LimitRefusals=1)
            error.report = Report(standing=error.standing)
            raise


class Admission:
    """What is held for one request, and how much of it is in use. Its calls are made from one thread."""

    def __init__(
        self,
        ledger: Ledger,
        hold: Hold,
        ask: Ask,
        *,
        limits: Limits,
        most: int | None = None,
        charges: list[Charge] | None = None,
        batch: bool = False,
    ) -> None:
        self.hold = hold
        self._batch = batch
        self._ledger = ledger
        self._admitted = hold
        self._limits = limits
        self._most = most
        self._charges = [] if charges is None else charges
        self._under_way: list[tuple[str, Decimal]] = []
        # Tokens and money both bound the output; without either there is nothing to hold it to.
        self._granted = hold.output_tokens if limits.has_budget or limits.tpm is not None else None
        self.max_output_tokens = hold.output_tokens if hold.output_tokens < ask.output_tokens else None

    def sent(self, request: Request, target: Target) -> Request:
        """The request as ``target`` is sent it: with no more output than is held."""
        return cast("Request", self._chat_sent(request, target)) if isinstance(request, ChatRequest) else request

    def purse(self, request: object) -> "CallPurse":
        """What pays for calls with this request."""
        return CallPurse(self, request)

    def cover(self, request: object, target: Target) -> None:
        """See to it that a call with ``request`` is paid for whatever it comes to. Given back by :meth:`done`.

        :raises BudgetExceededError: there is not so much left.
        :raises PermissionDeniedError: nobody can tell what it comes to.
        :raises StateError: nobody can tell whether there is.
        """
        if not self._limits.has_budget:
            return
        cost = self._cost(request, target)
        missing = self._in_use + cost - self.hold.cost_micro_usd
        if missing > 0:
            self.hold = self._ledger.extend(self.hold, self._limits, missing)
        self._under_way.append((target.name, cost))

    def done(self, target: Target) -> None:
        """A call of ``target`` has come back: what it cost, if anything, is among the charges from now on."""
        for entry in self._under_way:
            if entry[0] == target.name:
                self._under_way.remove(entry)
                return

    def settle(self, spent: Spent) -> None:
        """Give back what was not used. To be called once, after the request log has the entry."""
        try:
            self._ledger.settle(self.hold, spent)
        except StateError as error:
            # The hold runs out by itself, and the request log says then what was spent.
            _log.error("settle_failed", hold=self.hold.reference, **logs.describe(error))

    def standing(self, spent: Spent) -> Standing:
        """How the key stands once this is settled, as far as this request can tell."""
        before, hold = self._admitted.standing, self._admitted
        tokens = before.remaining_tokens
        if tokens is not None:
            tokens = max(0, tokens + hold.tokens - spent.input_tokens - spent.output_tokens)
        return msgspec.structs.replace(
            before,
            remaining_tokens=tokens,
            spent_micro_usd=before.spent_micro_usd + spent.cost_micro_usd,
            held_micro_usd=max(ZERO, before.held_micro_usd - hold.cost_micro_usd),
            total_spent_micro_usd=before.total_spent_micro_usd + spent.cost_micro_usd,
            total_held_micro_usd=max(ZERO, before.total_held_micro_usd - hold.cost_micro_usd),
            requests=before.requests + spent.requests,
            input_tokens=before.input_tokens + spent.input_tokens,
            output_tokens=before.output_tokens + spent.output_tokens,
        )

    def _chat_sent(self, request: ChatRequest, target: Target) -> ChatRequest:
        given = bounded(request, target, most=self._most)
        if self._granted is None or (given.max_tokens is not None and given.max_tokens <= self._granted):
            return given
        self.max_output_tokens = self._granted
        return msgspec.structs.replace(given, max_tokens=self._granted)

    @property
    def _in_use(self) -> Decimal:
        charged = sum((each.cost_micro_usd or ZERO for each in self._charges), ZERO)
        return charged + sum((cost for _, cost in self._under_way), ZERO)

    def _cost(self, request: object, target: Target) -> Decimal:
        bound = bound_of(self.sent(request, target), target, most=self._most)
        dearest = _dearest(bound, target, batch=self._batch)
        if dearest is None:
            raise without_price()
        return dearest.cost(calls=bound.calls, input_tokens=bound.input_tokens, output_tokens=bound.output_tokens)


class CallPurse:
    """Pays for calls with one request out of what is held. A :class:`~sluice.services.attempts.Purse`."""

    def __init__(self, admission: Admission, request: object) -> None:
        self._admission = admission
        self._request = request

    def cover(self, target: Target) -> None:
        self._admission.cover(self._request, target)

    def done(self, target: Target) -> None:
        self._admission.done(target)


def bound_of(request: Any, target: Target, *, most: int | None) -> Bound:
    """The most that any request comes to at ``target``; ``most`` is the deployment's limit to an answer."""
    if isinstance(request, ChatRequest):
        return bounds.of_chat(bounded(request, target, most=most))
    if isinstance(request, EmbeddingRequest):
        return bounds.of_embedding(request)
    if isinstance(request, ClassificationRequest):
        return classify.bound_of(request, target)
    # A scorer reads numbers, not tokens.
    return Bound()


def is_payable(request: object, target: Target, *, batch: bool = False) -> bool:
    """Whether anybody can tell what ``request`` costs at ``target``, which a budget has to know."""
    return _dearest(bound_of(request, target, most=None), target, batch=batch) is not None


def without_price() -> PermissionDeniedError:
    """The error for a key with a budget where no target has a price that it could be held to."""
    return PermissionDeniedError(
        "This key has a budget, and no target of this model has a price that is known beforehand.",
        code="model_without_price",
        param="model",
    )


def _dearest(bound: Bound, target: Target, *, batch: bool) -> Ceiling | None:
    return ceiling(target.price, input_tokens=bound.input_tokens, writes=bound.output_tokens > 0, batch=batch)


def _ask(bound: Bound, target: Target, *, batch: bool) -> Ask:
    # Without a price nothing can be held; keys with a budget are never led to such a target.
    dearest = _dearest(bound, target, batch=batch) or Ceiling(
        per_call=ZERO, per_input_token=ZERO, per_output_token=ZERO
    )
    return Ask(
        tokens=bound.input_tokens,
        cost_micro_usd=dearest.cost(calls=bound.calls, input_tokens=bound.input_tokens, output_tokens=0),
        output_tokens=bound.output_tokens,
        least_output_tokens=bound.least_output_tokens,
        output_rate_micro_usd=dearest.per_output_token,
    )
