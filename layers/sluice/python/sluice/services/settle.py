"""What is left of a unit of work when it is over: a log entry, a settled hold, metrics, what was learned.

Every unit of work that was admitted leaves one request log entry, whether it was answered, failed or throttled; what is
refused before (an unknown model, a malformed body, a limit) does not. The entry is written before the answer is
returned, and before the ledger is told: of a function that is killed in between, the log says what it spent.
When DynamoDB cannot take it, after botocore's own retries, the caller still gets the answer that was paid for: the
loss is logged as an error, with every field of the entry, and counted as ``LedgerWriteFailed``. A *permission* that is
missing is another matter, as it would let everything go unrecorded for as long as nobody looks: that fails the request.
"""

import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from sluice.domain.caching import Caching
from sluice.domain.deadline import Deadline
from sluice.domain.errors import ProviderError, ProviderThrottledError, SluiceError, StateError
from sluice.domain.inference import Caller, ChatResult, EmbeddingResult, FinishReason, Mode, Operation, Usage
from sluice.domain.jobs import INTERNAL_ERROR
from sluice.domain.ledger import ZERO, Spent
from sluice.domain.ports import RequestLog
from sluice.domain.pricing import Charge, charge, price_versions, total_cost, total_usage
from sluice.domain.request_log import Outcome, RequestLogEntry, new_unit
from sluice.domain.resilience import UNMEASURED, Sample, Verdict, verdict_on
from sluice.domain.routing import CacheStatus, Preferences, Report, Target
from sluice.domain.strategies import Demand
from sluice.services.admit import Admission
from sluice.services.answer_cache import AnswerCache, Found
from sluice.services.attempts import Progress, Won
from sluice.services.select_targets import Asked
from sluice.services.watch_targets import Permit, WatchTargets
from sluice.telemetry import logs, metrics

_log = logs.get_logger()


class Billed(Protocol):
    """A result that says what it used."""

    @property
    def usage(self) -> Usage:
        """The tokens that a provider bills."""
        ...


Result = TypeVar("Result", bound=Billed)
Request = TypeVar("Request", bound=Asked)


class Answer(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """An answer, who gave it, and how it came about."""

    result: Result
    target: Target
    report: Report


ChatOutcome = Answer[ChatResult]
EmbeddingOutcome = Answer[EmbeddingResult]


class Work(msgspec.Struct, Generic[Request], kw_only=True):
    """One unit of work under way. ``measured`` says whether its route chooses by how targets have been doing.

    ``caching`` of ``None`` means that it has nothing to do with the cache; ``admission`` is there once it is admitted.
    ``unit`` is its name in the request log.
    """

    request: Request
    operation: Operation
    caller: Caller
    mode: Mode
    deadline: Deadline
    started_at: float
    clock_start: float
    preferences: Preferences
    unit: str = msgspec.field(default_factory=new_unit)
    streaming: bool = False
    measured: bool = False
    demand: Demand = Demand()
    progress: Progress = msgspec.field(default_factory=Progress)
    charges: list[Charge] = msgspec.field(default_factory=list)
    admission: Admission | None = None
    caching: Caching | None = None
    cache: CacheStatus = "bypass"
    age_s: int | None = None

    @property
    def is_batch(self) -> bool:
        """Whether it is a line of a batch, which has rates of its own."""
        return self.mode is Mode.BATCH

    @property
    def admitted(self) -> Admission:
        """What it holds. :raises RuntimeError: nothing yet; no provider may be asked before."""
        if self.admission is None:
            raise RuntimeError("The request has not been admitted.")
        return self.admission


class Settlement:
    """Settles units of work. ``http_status`` maps an error to the status that callers are told.

    Without ``answers`` none are kept.
    """

    def __init__(
        self,
        *,
        request_log: RequestLog,
        watch: WatchTargets,
        http_status: Callable[[SluiceError], int],
        answers: AnswerCache | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request_log = request_log
        self._watch = watch
        self._http_status = http_status
        self._answers = answers
        self._now = now
        self._clock = clock

    def begun(self, work: Work[Any]) -> Report:
        """How a streamed answer came about, as far as that is known when its first output is there: not the cost.

        So the key stands as it did at admission, with all held that the answer can come to.
        """
        report = self._report(work, self._entry(work, Outcome.COMPLETED, 200))
        return msgspec.structs.replace(report, cost_micro_usd=None, standing=work.admitted.hold.standing)

    def attempt_succeeded(self, work: Work[Any], won: Won[Any]) -> None:
        """Take note of a whole answer."""
        self._watch.report(won.permit, Verdict.SUCCESS, operation=work.operation.value)
        # Some results take several calls, and each is billed by itself.
        calls = getattr(won.result, "calls", ()) or (won.result.usage,)
        work.charges += [charge(won.target.name, usage, won.target.price, batch=work.is_batch) for usage in calls]
        self._measure(work, won.target, won.result.usage, won.elapsed_s)

    def attempt_lost(self, work: Work[Any], target: Target, error: ProviderError | None, elapsed_s: float) -> None:
        """Take note of an attempt that led nowhere; without an ``error`` it was abandoned for a faster one."""
        if error is not None:
            work.charges += [charge(target.name, usage, target.price, batch=work.is_batch) for usage in error.calls]
        if work.measured and (error is None or verdict_on(error) is Verdict.FAILURE):
            # It took at least this long for what it would have written.
            health = self._watch.health([target.name]).get(target.name, UNMEASURED)
            tokens = max(1, work.demand.output_tokens(target, health))
            self._watch.measured(target.name, Sample(ms_per_token=elapsed_s * 1000 / tokens, at=self._now()))

    def _measure(self, work: Work[Any], target: Target, usage: Usage, elapsed_s: float) -> None:
        if not work.measured:
            return
        # What does not write is as quick as it reads.
        tokens = max(1, usage.output_tokens or usage.input_tokens)
        sample = Sample(
            ms_per_token=elapsed_s * 1000 / tokens,
            at=self._now(),
            output_tokens=float(usage.output_tokens),
            cached_share=usage.cache_read_tokens / usage.input_tokens if usage.input_tokens else None,
        )
        self._watch.measured(target.name, sample)

    def broke_off(self, work: Work[Any], target: Target, permit: Permit, error: BaseException, usage: Usage) -> Report:
        """Record a stream that ended before its end, at the cost of what was written."""
        retry_after_s = error.retry_after_s if isinstance(error, ProviderError) else None
        self._watch.report(permit, verdict_on(error), operation=work.operation.value, retry_after_s=retry_after_s)
        if isinstance(error, ProviderError):
            _log.warning("stream_broke_off", target=target.name, **logs.describe(error))
        work.charges.append(charge(target.name, usage, target.price, batch=work.is_batch))
        return self.failed(work, error)

    def answered(self, work: Work[Any], target: Target, result: Result) -> Answer[Result]:
        """Record the answer, and keep it for the next time where that is wanted."""
        entry = self._entry(work, Outcome.COMPLETED, 200)
        self._record(work, entry)
        if not _cut_short(work, result):
            self._keep(work, target, result)
        return Answer(result=result, target=target, report=self._report(work, entry))

    def _keep(self, work: Work[Any], target: Target, result: Any) -> None:
        if work.caching is not None and self._answers is not None:
            self._answers.keep(work.caching, work.caller.key_id, work.operation, work.request, target, result)

    def found(self, work: Work[Any], target: Target, found: Found[Result]) -> Answer[Result]:
        """Record an answer that was given before: it costs nothing, and no provider knows of it."""
        work.cache, work.age_s, work.progress.target = "hit", found.age_s, target
        entry = self._entry(work, Outcome.COMPLETED, 200)
        entry = msgspec.structs.replace(entry, cost_micro_usd=ZERO, cached=True)
        self._record(work, entry)
        return Answer(result=found.result, target=target, report=self._report(work, entry))

    def failed(self, work: Work[Any], error: BaseException) -> Report:
        """Record the failure; the report goes with the error, for the response's headers."""
        outcome = Outcome.THROTTLED if isinstance(error, ProviderThrottledError) else Outcome.FAILED
        status, code = 500, INTERNAL_ERROR
        if isinstance(error, SluiceError):
            status, code = self._http_status(error), error.code or INTERNAL_ERROR
        entry = msgspec.structs.replace(self._entry(work, outcome, status), error_code=code)
        self._record(work, entry)
        report = self._report(work, entry)
        if isinstance(error, SluiceError):
            error.report = report
        return report

    def _report(self, work: Work[Any], entry: RequestLogEntry) -> Report:
        progress = work.progress
        elapsed_s = self._clock() - work.clock_start
        return Report(
            target=entry.target,
            attempts=progress.attempts,
            fallbacks=progress.fallbacks,
            cost_micro_usd=entry.cost_micro_usd,
            overhead_ms=round(max(elapsed_s - progress.waited_s, 0.0) * 1000, 1),
            hedged=progress.hedged,
            cache=work.cache,
            age_s=work.age_s,
            standing=work.admitted.standing(_spent(entry)),
            max_output_tokens=work.admitted.max_output_tokens,
        )

    def _entry(self, work: Work[Any], outcome: Outcome, http_status: int) -> RequestLogEntry:
        progress = work.progress
        return RequestLogEntry(
            request_id=work.caller.request_id,
            key_id=work.caller.key_id,
            mode=work.mode,
            operation=work.operation,
            model=work.request.model,
            outcome=outcome,
            http_status=http_status,
            started_at=work.started_at,
            latency_ms=round((self._clock() - work.clock_start) * 1000),
            target=progress.target.name if progress.target else None,
            usage=total_usage(work.charges),
            cost_micro_usd=total_cost(work.charges),
            price_version=price_versions(work.charges),
            charges=tuple(work.charges) if len(work.charges) > 1 else (),
            attempts=progress.attempts,
            fallbacks=progress.fallbacks,
            hold=work.admitted.hold.reference,
            unit=work.unit,
        )

    def _record(self, work: Work[Any], entry: RequestLogEntry) -> None:
        _tell_operators(work, entry)
        try:
            self._append(entry)
        finally:
            # Whatever became of the entry, the money is spent.
            work.admitted.settle(_spent(entry))

    def _append(self, entry: RequestLogEntry) -> None:
        try:
            self._request_log.append(entry)
        except StateError as error:
            # Everything that the log would have held, so that it can be mended from this line.
            _log.error("ledger_write_failed", entry=msgspec.to_builtins(entry, str_keys=True), **logs.describe(error))
            metrics.emit(LedgerWriteFailed=1)


def _spent(entry: RequestLogEntry) -> Spent:
    """What the ledger is told: just what the log says, so that the one is always the sum of the other."""
    usage = entry.usage
    return Spent(
        requests=entry.requests,
        input_tokens=usage.input_tokens if usage else 0,
        output_tokens=usage.output_tokens if usage else 0,
        cost_micro_usd=entry.cost_micro_usd or ZERO,
    )


def _cut_short(work: Work[Any], result: object) -> bool:
    """Whether the answer ends where the key's limits ended it: the next time there may be more."""
    limited = work.admitted.max_output_tokens is not None
    return limited and isinstance(result, ChatResult) and result.finish_reason is FinishReason.LENGTH


def _tell_operators(work: Work[Any], entry: RequestLogEntry) -> None:
    if work.mode is Mode.BATCH:
        # A line of thousands: whoever runs them tells their sums.
        return
    usage = entry.usage
    logs.canonical(
        target=entry.target,
        outcome=entry.outcome.value,
        attempts=entry.attempts,
        fallbacks=entry.fallbacks,
        hedged=work.progress.hedged or None,
        cache=None if work.cache == "bypass" else work.cache,
        max_output_tokens=work.admitted.max_output_tokens,
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        usage_estimated=(usage.estimated or None) if usage else None,
        cost_micro_usd=entry.cost_micro_usd,
        provider_ms=round(work.progress.waited_s * 1000),
    )
    metrics.emit(
        {"Operation": work.operation.value, "Target": entry.target or "none"},
        Requests=1,
        Errors=int(entry.outcome is Outcome.FAILED),
        Throttles=int(entry.outcome is Outcome.THROTTLED),
        LatencyMs=entry.latency_ms,
        InputTokens=usage.input_tokens if usage else None,
        OutputTokens=usage.output_tokens if usage else None,
        CostMicroUsd=entry.cost_micro_usd,
        CacheHits=1 if entry.cached else None,
    )
