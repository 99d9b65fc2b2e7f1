"""The use case everything else serves: get one answer from a model, whichever of its targets can give it.

How a request is attempted
--------------------------
* Targets are tried in the route's order, each up to ``max_attempts`` times, all within the caller's deadline.
* The wait between two attempts is exponential with full jitter, and never shorter than the provider's Retry-After.
* The next target is tried at once when repeating has little to offer: the provider refuses our credentials, asks for a
  longer wait than ``patience_s``, or has just let a whole attempt time out.
* A request refused for what it says (:class:`ProviderRejectedError`) would be refused everywhere: no repeat.

The ledger
----------
Every unit of work that was routed leaves one request log entry, whether it was answered, failed or throttled; what is
refused before (an unknown model, a malformed body) does not. The entry is written before the answer is returned.
When DynamoDB cannot take it, after botocore's own retries, the caller still gets the answer that was paid for: the
loss is logged as an error, with every field of the entry, and counted as ``LedgerWriteFailed``. A *permission* that is
missing is another matter, as it would let everything go unrecorded for as long as nobody looks: that fails the request.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, Generic, TypeVar

import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception

from sluice.domain.deadline import Deadline
from sluice.domain.errors import (
    ProviderError,
    ProviderRejectedError,
    ProviderThrottledError,
    ProviderTimeoutError,
    SluiceError,
    StateError,
)
from sluice.domain.inference import (
    Caller,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    Mode,
    Operation,
)
from sluice.domain.jobs import INTERNAL_ERROR
from sluice.domain.ports import ModelProvider, RequestLog, RouteSource
from sluice.domain.pricing import cost_micro_usd
from sluice.domain.request_log import Outcome, RequestLogEntry
from sluice.domain.routing import ProviderName, Target
from sluice.telemetry import logs, metrics

# Less than this is not worth a call that is paid for and then thrown away.
SHORTEST_ATTEMPT_S: Final = 0.25

Result = TypeVar("Result", ChatResult, EmbeddingResult)
Request = TypeVar("Request", ChatRequest, EmbeddingRequest)
_log = logs.get_logger()
# The operating system's randomness: containers restored from one snapshot must not retry in step.
_system_random = secrets.SystemRandom()


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How persistent to be. Times are seconds, ``max_attempts`` counts per target."""

    max_attempts: int = 3
    attempt_timeout_s: float = 20.0
    base_s: float = 0.2
    longest_wait_s: float = 4.0
    patience_s: float = 2.0


class Answer(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """An answer and how it came about. ``cost_micro_usd`` of ``None`` means that the target's price is unknown."""

    result: Result
    target: Target
    cost_micro_usd: Decimal | None
    attempts: int
    fallbacks: int


ChatOutcome = Answer[ChatResult]
EmbeddingOutcome = Answer[EmbeddingResult]


class _Work(msgspec.Struct, kw_only=True):
    """One unit of work under way."""

    request: ChatRequest | EmbeddingRequest
    operation: Operation
    caller: Caller
    mode: Mode
    deadline: Deadline
    started_at: float
    clock_start: float
    target: Target | None = None
    attempts: int = 0
    fallbacks: int = 0


Call = Callable[[ModelProvider, Target, float], Result]


class Inference:
    """Answers chat and embedding requests. ``http_status`` maps an error to the status that callers are told."""

    def __init__(  # noqa: PLR0913 - the last four are the clock and the dice, which only tests replace
        self,
        *,
        routes: RouteSource,
        providers: Mapping[ProviderName, ModelProvider],
        request_log: RequestLog,
        policy: RetryPolicy,
        http_status: Callable[[SluiceError], int],
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float, float], float] = _system_random.uniform,
    ) -> None:
        self._routes = routes
        self._providers = providers
        self._request_log = request_log
        self._policy = policy
        self._http_status = http_status
        self._now = now
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    def chat(
        self, request: ChatRequest, caller: Caller, *, mode: Mode, deadline: Deadline, started_at: float | None = None
    ) -> ChatOutcome:
        """Continue the conversation. ``started_at`` (epoch seconds) makes the log entry of a repeated run the same one.

        :raises CallerError: the model is unknown, not allowed, or cannot chat.
        :raises ProviderError: no target answered in time.
        """
        work = self._begin(request, Operation.CHAT, caller, mode, deadline, started_at)
        return self._run(work, lambda provider, target, timeout_s: provider.chat(target, request, timeout_s=timeout_s))

    def embed(
        self,
        request: EmbeddingRequest,
        caller: Caller,
        *,
        mode: Mode,
        deadline: Deadline,
        started_at: float | None = None,
    ) -> EmbeddingOutcome:
        """Embed every input; otherwise as :meth:`chat`."""
        work = self._begin(request, Operation.EMBED, caller, mode, deadline, started_at)
        return self._run(work, lambda provider, target, timeout_s: provider.embed(target, request, timeout_s=timeout_s))

    def _begin(
        self,
        request: ChatRequest | EmbeddingRequest,
        operation: Operation,
        caller: Caller,
        mode: Mode,
        deadline: Deadline,
        started_at: float | None,
    ) -> _Work:
        logs.canonical(model=request.model, operation=operation.value, mode=mode.value)
        return _Work(
            request=request,
            operation=operation,
            caller=caller,
            mode=mode,
            deadline=deadline,
            started_at=self._now() if started_at is None else started_at,
            clock_start=self._clock(),
        )

    def _run(self, work: _Work, call: Call[Result]) -> Answer[Result]:
        targets = self._routes.load().resolve(work.request.model, work.operation, work.caller.allowed_models)
        try:
            target, result = self._try_targets(work, targets, call)
        except Exception as error:
            self._record(work, self._failure_entry(work, error))
            raise
        cost = cost_micro_usd(result.usage, target.price)
        self._record(work, self._success_entry(work, target, result, cost))
        return Answer(
            result=result,
            target=target,
            cost_micro_usd=cost,
            attempts=work.attempts,
            fallbacks=work.fallbacks,
        )

    def _try_targets(self, work: _Work, targets: Sequence[Target], call: Call[Result]) -> tuple[Target, Result]:
        failures: list[ProviderError] = []
        for position, target in enumerate(targets):
            if failures and work.deadline.remaining_s() < SHORTEST_ATTEMPT_S:
                break
            work.target, work.fallbacks = target, position
            try:
                return target, self._try_target(work, target, call, is_last=position == len(targets) - 1)
            except ProviderRejectedError:
                raise
            except ProviderError as error:
                failures.append(error)
        # The most hopeful answer: a caller who may succeed by asking again should be told so.
        raise next((error for error in reversed(failures) if error.retryable), failures[-1])

    def _try_target(self, work: _Work, target: Target, call: Call[Result], *, is_last: bool) -> Result:
        def wait(state: RetryCallState) -> float:
            ceiling = min(self._policy.base_s * 2**state.attempt_number, self._policy.longest_wait_s)
            return max(self._jitter(0, ceiling), _retry_after_s(state))

        def stop(state: RetryCallState) -> bool:
            if state.attempt_number >= self._policy.max_attempts:
                return True
            if not is_last and _better_elsewhere(_error(state), patience_s=self._policy.patience_s):
                return True
            return state.upcoming_sleep + SHORTEST_ATTEMPT_S > work.deadline.remaining_s()

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, ProviderError) and error.retryable),
            wait=wait,
            stop=stop,
            sleep=self._sleep,
            reraise=True,
        )
        result: Result = retrying(self._attempt, work, target, call)
        return result

    def _attempt(self, work: _Work, target: Target, call: Call[Result]) -> Result:
        timeout_s = work.deadline.within(self._policy.attempt_timeout_s)
        if timeout_s < SHORTEST_ATTEMPT_S:
            raise ProviderTimeoutError("There was no time left to ask the model.", target=target.name)
        work.attempts += 1
        try:
            return call(self._providers[target.provider], target, timeout_s)
        except ProviderError as error:
            _log.warning("attempt_failed", target=target.name, attempt=work.attempts, **logs.describe(error))
            raise

    def _success_entry(
        self, work: _Work, target: Target, result: ChatResult | EmbeddingResult, cost: Decimal | None
    ) -> RequestLogEntry:
        return msgspec.structs.replace(
            self._entry(work, Outcome.COMPLETED, 200),
            usage=result.usage,
            cost_micro_usd=cost,
            price_version=target.price.version if target.price else None,
        )

    def _failure_entry(self, work: _Work, error: Exception) -> RequestLogEntry:
        outcome = Outcome.THROTTLED if isinstance(error, ProviderThrottledError) else Outcome.FAILED
        status, code = 500, INTERNAL_ERROR
        if isinstance(error, SluiceError):
            status, code = self._http_status(error), error.code or INTERNAL_ERROR
        return msgspec.structs.replace(self._entry(work, outcome, status), error_code=code)

    def _entry(self, work: _Work, outcome: Outcome, http_status: int) -> RequestLogEntry:
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
            target=work.target.name if work.target else None,
            attempts=work.attempts,
            fallbacks=work.fallbacks,
        )

    def _record(self, work: _Work, entry: RequestLogEntry) -> None:
        _tell_operators(work, entry)
        try:
            self._request_log.append(entry)
        except StateError as error:
            # Everything that the ledger would have held, so that it can be mended from the log.
            _log.error("ledger_write_failed", entry=msgspec.to_builtins(entry, str_keys=True), **logs.describe(error))
            metrics.emit(LedgerWriteFailed=1)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after_s(state: RetryCallState) -> float:
    error = _error(state)
    return (error.retry_after_s or 0.0) if isinstance(error, ProviderError) else 0.0


def _better_elsewhere(error: BaseException | None, *, patience_s: float) -> bool:
    """Whether the next target is a better bet than this one again."""
    impatient = isinstance(error, ProviderError) and (error.retry_after_s or 0.0) > patience_s
    return impatient or isinstance(error, ProviderTimeoutError)


def _tell_operators(work: _Work, entry: RequestLogEntry) -> None:
    usage = entry.usage
    logs.canonical(
        target=entry.target,
        outcome=entry.outcome.value,
        attempts=entry.attempts,
        fallbacks=entry.fallbacks,
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        cost_micro_usd=entry.cost_micro_usd,
        provider_ms=entry.latency_ms,
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
    )
