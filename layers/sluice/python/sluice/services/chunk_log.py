"""What the lines of a chunk came to, added up: a few entries of the request log instead of thousands.

Entries are by model, target and outcome. A line counts once, when it has its result, with the target that was asked
last; what was billed for it on the way there counts where it was billed, also of a line that is left for later.
"""

import threading
from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Final

import msgspec

from sluice.domain.admission import EXACT
from sluice.domain.batch_steps import with_usage
from sluice.domain.batches import MOST_ENTRIES
from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.ledger import ZERO
from sluice.domain.request_log import Outcome, RequestLogEntry
from sluice.telemetry import metrics

# Names of models beyond this many are not told apart; one entry takes up all the others of an operation and outcome.
_MOST_GROUPS: Final = MOST_ENTRIES - len(Operation) * len(Outcome)
VARIOUS: Final = "(various)"


class _Key(msgspec.Struct, frozen=True):
    operation: Operation
    model: str
    target: str | None
    outcome: Outcome
    # A cost that is not known must not pass for none of those that are.
    known: bool
    price_version: str | None


class _Sum(msgspec.Struct):
    """What has been added up. ``status`` and ``code`` are the first line's; ``latency_ms`` is of all calls together."""

    started_at: float
    status: int
    code: str | None
    requests: int = 0
    calls: int = 0
    latency_ms: int = 0
    attempts: int = 0
    fallbacks: int = 0
    usage: Usage | None = None
    cost_micro_usd: Decimal = ZERO


class ChunkLog:
    """Implements :class:`~sluice.domain.ports.RequestLog`. Safe to use from several threads."""

    def __init__(self) -> None:
        self._sums: dict[_Key, _Sum] = {}
        self._last: dict[str, RequestLogEntry] = {}
        self._lock = threading.Lock()

    def append(self, entry: RequestLogEntry) -> None:
        with self._lock:
            self._last[entry.request_id] = entry
            if entry.usage is not None:
                self._add(entry)

    def ended(self, request_id: str, *, lines: int = 1) -> None:
        """So many lines have their results now, by what was last done as ``request_id``, if anything was."""
        with self._lock:
            entry = self._last.pop(request_id, None)
            if entry is not None:
                self._sum_of(entry).requests += lines

    def left(self, request_id: str) -> None:
        """Nothing came of it yet: it will be run again."""
        with self._lock:
            self._last.pop(request_id, None)

    @property
    def cost_micro_usd(self) -> Decimal:
        """What is known of the cost of everything."""
        with self._lock, localcontext(EXACT):
            return sum((each.cost_micro_usd for each in self._sums.values()), ZERO)

    @property
    def usage(self) -> Usage | None:
        """The tokens of everything; ``None`` when no model was asked."""
        total: Usage | None = None
        with self._lock:
            for each in self._sums.values():
                total = with_usage(total, each.usage)
        return total

    def entries(self, prefix: str, key_id: str) -> Sequence[RequestLogEntry]:
        """The entries, with request ids that begin with ``prefix``, in the order in which they came about."""
        with self._lock:
            sums = [(key, each) for key, each in self._sums.items() if each.requests or each.usage is not None]
        return [_entry(f"{prefix}-{index}", key_id, key, each) for index, (key, each) in enumerate(sums)]

    def _add(self, entry: RequestLogEntry) -> None:
        total = self._sum_of(entry)
        total.calls += 1
        total.latency_ms += entry.latency_ms
        total.attempts += entry.attempts
        total.fallbacks += entry.fallbacks
        total.usage = with_usage(total.usage, entry.usage)
        with localcontext(EXACT):
            total.cost_micro_usd += entry.cost_micro_usd or ZERO

    def _sum_of(self, entry: RequestLogEntry) -> _Sum:
        key = _Key(
            operation=entry.operation,
            model=entry.model,
            target=entry.target,
            outcome=entry.outcome,
            known=entry.usage is not None and entry.cost_micro_usd is not None,
            price_version=entry.price_version,
        )
        if key not in self._sums and len(self._sums) >= _MOST_GROUPS:
            key = _Key(entry.operation, VARIOUS, None, entry.outcome, known=True, price_version=None)
        fresh = _Sum(started_at=entry.started_at, status=entry.http_status, code=entry.error_code)
        return self._sums.setdefault(key, fresh)


def tell_operators(entries: Sequence[RequestLogEntry]) -> None:
    """The metrics of a part: of each operation and target the sums of its lines."""
    for entry in entries:
        usage = entry.usage
        metrics.emit(
            {"Operation": entry.operation.value, "Target": entry.target or "none"},
            Requests=entry.requests,
            Errors=entry.requests if entry.outcome is Outcome.FAILED else 0,
            Throttles=entry.requests if entry.outcome is Outcome.THROTTLED else 0,
            InputTokens=usage.input_tokens if usage else None,
            OutputTokens=usage.output_tokens if usage else None,
            CostMicroUsd=entry.cost_micro_usd,
        )


def _entry(request_id: str, key_id: str, key: _Key, total: _Sum) -> RequestLogEntry:
    return RequestLogEntry(
        request_id=request_id,
        key_id=key_id,
        mode=Mode.BATCH,
        operation=key.operation,
        model=key.model,
        outcome=key.outcome,
        http_status=total.status,
        started_at=total.started_at,
        latency_ms=round(total.latency_ms / max(1, total.calls)),
        target=key.target,
        error_code=total.code,
        usage=total.usage,
        cost_micro_usd=total.cost_micro_usd if key.known else None,
        price_version=key.price_version,
        attempts=total.attempts,
        fallbacks=total.fallbacks,
        requests=total.requests,
        # An attempt that says again what it came to says it in the same place.
        unit=request_id,
    )
