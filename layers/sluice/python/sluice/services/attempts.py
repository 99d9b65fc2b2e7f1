"""How one request is attempted, whatever its operation.

* Targets are tried in the order given, each up to ``max_attempts`` times, all within the caller's deadline. A target
  whose circuit is open is passed over; one that is half open gets this request as its probe, once.
* The wait between two attempts is exponential with full jitter, and never shorter than the provider's Retry-After.
* The next target is tried at once when repeating has little to offer: the provider refuses our credentials, asks for a
  longer wait than ``patience_s``, has just let a whole attempt time out, or its circuit has opened meanwhile.
* A request refused for what it says (:class:`ProviderRejectedError`) would be refused everywhere: no repeat. One that
  is too long goes on to targets with more room; one that needs what a target lacks, to any other.
* Hedging: when the first attempt keeps silent for ``hedge_after_s``, the next target is asked as well, and the first
  answer wins. The other call is abandoned; its provider may bill it, and only says so if it comes back in time.
* No call is made that the caller's budget does not cover. A target that is too dear is passed over, a hedge left out.
  If nothing else is to be had, the caller is told of the provider's failure, or of the budget if nobody has failed.
"""

import math
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception

from sluice.domain.deadline import Deadline
from sluice.domain.errors import (
    AllTargetsUnavailableError,
    BudgetExceededError,
    ContextTooLongError,
    ProviderError,
    ProviderRejectedError,
    ProviderTimeoutError,
    StateError,
    UnsupportedByTargetError,
)
from sluice.domain.resilience import Verdict
from sluice.domain.routing import Target
from sluice.services.streams import ProviderStream
from sluice.services.watch_targets import Permit, WatchTargets
from sluice.telemetry import logs, tracing

# Less than this is not worth a call that is paid for and then thrown away.
SHORTEST_ATTEMPT_S: Final = 0.25

Result = TypeVar("Result")
Given_co = TypeVar("Given_co", covariant=True)
_log = logs.get_logger()
# The operating system's randomness: containers restored from one snapshot must not retry in step.
system_random: Final = secrets.SystemRandom()


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How persistent to be. Times are seconds, ``max_attempts`` counts per target, ``hedge_after_s=None`` is never.

    Of a stream only the first output has to come within an attempt. It has no more than ``first_output_timeout_s``: a
    target that keeps silent for so long is given up, even where a whole answer would have been waited for.
    """

    max_attempts: int = 3
    attempt_timeout_s: float = 20.0
    first_output_timeout_s: float = math.inf
    base_s: float = 0.2
    longest_wait_s: float = 4.0
    patience_s: float = 2.0
    hedge_after_s: float | None = None

    def timeout_s(self, target: Target, deadline: Deadline, *, streaming: bool) -> float:
        """How long one attempt may take now."""
        most = min(self.attempt_timeout_s, self.first_output_timeout_s) if streaming else self.attempt_timeout_s
        return deadline.within(most if target.attempt_timeout_s is None else min(target.attempt_timeout_s, most))


class Won(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """A result. Whoever gets it reports how its ``permit`` ended; it took ``elapsed_s`` to come."""

    result: Result
    target: Target
    position: int
    permit: Permit
    elapsed_s: float


class Progress(msgspec.Struct, kw_only=True):
    """How far a request has come. ``waited_s`` is the time spent on waiting for providers, pauses included."""

    target: Target | None = None
    attempts: int = 0
    fallbacks: int = 0
    waited_s: float = 0.0
    hedged: bool = False


class Call(Protocol[Given_co]):
    """One call of a provider; ``timeout_s`` is for this attempt."""

    def __call__(self, target: Target, timeout_s: float, /) -> Given_co:
        """The result. :raises ProviderError: there is none."""
        ...


class Observer(Protocol):
    """Who wants to know of attempts that led nowhere."""

    def __call__(self, target: Target, error: ProviderError | None, elapsed_s: float, /) -> None:
        """The attempt ended with ``error``, or was abandoned (``None``) for a faster one."""
        ...


class Purse(Protocol):
    """Who pays for calls. Asked in the thread that makes the attempts, never in one of theirs."""

    def cover(self, target: Target, /) -> None:
        """See to it that a call of ``target`` is paid for. :raises BudgetExceededError: it cannot be."""
        ...

    def done(self, target: Target, /) -> None:
        """A call that was covered has come back, or was not made."""
        ...


class Attempts(Generic[Result]):
    """The attempts of one request."""

    def __init__(  # noqa: PLR0913 - the last three are the clock and the dice, which only tests replace
        self,
        call: Call[Result],
        *,
        operation: str,
        watch: WatchTargets,
        policy: RetryPolicy,
        deadline: Deadline,
        observer: Observer,
        purse: Purse,
        streaming: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float, float], float] = system_random.uniform,
    ) -> None:
        self._call = call
        self._operation = operation
        self._watch = watch
        self._policy = policy
        self._deadline = deadline
        self._observer = observer
        self._purse = purse
        self._streaming = streaming
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        # What the target under way has failed with so far.
        self._failed: list[ProviderError] = []
        self.progress = Progress()

    def run(self, targets: Sequence[Target]) -> Won[Result]:
        """The first result that any of the targets gives.

        :raises AllTargetsUnavailableError: the circuits of all of them are open.
        :raises ProviderError: they were asked, and none answered in time.
        :raises BudgetExceededError: those that could be asked are too dear.
        """
        failures: list[ProviderError] = []
        too_dear: BudgetExceededError | None = None
        remaining = list(enumerate(targets))
        while remaining and not (failures and self._deadline.remaining_s() < SHORTEST_ATTEMPT_S):
            position, target = remaining.pop(0)
            if not self._watch.may_ask(target.name):
                continue
            self.progress.target, self.progress.fallbacks = target, position
            self._failed.clear()
            try:
                hedge = self._hedge(remaining) if not self.progress.attempts else None
                if hedge is not None:
                    return self._race((position, target), hedge, remaining)
                return self._try_target(position, target, is_last=not self._any_open_to(remaining))
            except _NotPermittedError:
                continue
            except BudgetExceededError as error:
                too_dear = error
                failures += self._failed[-1:]
            except ProviderRejectedError as error:
                remaining = _worth_asking(error, target, remaining)
                failures.append(error)
            except ProviderError as error:
                failures.append(error)
        if not failures:
            raise too_dear or self._all_open(targets)
        # The most hopeful answer: a caller who may succeed by asking again should be told so.
        raise next((error for error in reversed(failures) if error.retryable), failures[-1])

    def again(self, won: Won[Any], call: Call[Result], *, purse: Purse) -> Won[Result]:
        """One more attempt at the target that answered, for another try at what it said; ``purse`` is to pay for it.

        :raises ProviderError: it did not answer this time.
        :raises BudgetExceededError: there is no money left for it.
        """
        self._call, self._purse = call, purse
        try:
            return self._attempt(won.position, won.target)
        except _NotPermittedError:
            raise self._all_open((won.target,)) from None

    def _try_target(self, position: int, target: Target, *, is_last: bool) -> Won[Result]:
        def wait(state: RetryCallState) -> float:
            ceiling = min(self._policy.base_s * 2**state.attempt_number, self._policy.longest_wait_s)
            return max(self._jitter(0, ceiling), _retry_after_s(state))

        def stop(state: RetryCallState) -> bool:
            if state.attempt_number >= self._policy.max_attempts or not self._watch.may_ask(target.name):
                return True
            if not is_last and _better_elsewhere(_error(state), patience_s=self._policy.patience_s):
                return True
            return state.upcoming_sleep + SHORTEST_ATTEMPT_S > self._deadline.remaining_s()

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, ProviderError) and error.retryable),
            wait=wait,
            stop=stop,
            sleep=self._pause,
            reraise=True,
        )
        won: Won[Result] = retrying(self._attempt, position, target)
        return won

    def _attempt(self, position: int, target: Target) -> Won[Result]:
        permit, timeout_s = self._admit(target)
        began = self._clock()
        try:
            result = self._call(target, timeout_s)
        except BaseException as error:
            elapsed_s = self._clock() - began
            self.progress.waited_s += elapsed_s
            self._lost(permit, target, error, elapsed_s)
            raise
        elapsed_s = self._clock() - began
        self.progress.waited_s += elapsed_s
        self._purse.done(target)
        return Won(result=result, target=target, position=position, permit=permit, elapsed_s=elapsed_s)

    def _admit(self, target: Target) -> tuple[Permit, float]:
        self._purse.cover(target)
        try:
            return self._permitted(target)
        except BaseException:
            self._purse.done(target)
            raise

    def _permitted(self, target: Target) -> tuple[Permit, float]:
        timeout_s = self._policy.timeout_s(target, self._deadline, streaming=self._streaming)
        if self._deadline.remaining_s() < SHORTEST_ATTEMPT_S:
            raise ProviderTimeoutError("There was no time left to ask the model.", target=target.name)
        # A probe that goes on after its first output, as a stream does, holds its lease until the request is over.
        lease_s = self._deadline.remaining_s() if self._streaming else timeout_s
        permit = self._watch.permit(target.name, lease_s=lease_s)
        if permit is None:
            raise _NotPermittedError
        self.progress.attempts += 1
        return permit, timeout_s

    def _lost(self, permit: Permit, target: Target, error: BaseException, elapsed_s: float) -> None:
        """Take note of an attempt that ended with ``error``."""
        self._purse.done(target)
        if isinstance(error, UnsupportedByTargetError):
            # Refused on our side: nobody was asked.
            self.progress.attempts -= 1
            self._watch.report(permit, Verdict.NOTHING, operation=self._operation)
            return
        self._watch.lost(permit, error, operation=self._operation)
        if isinstance(error, ProviderError):
            self._failed.append(error)
            attempt = self.progress.attempts
            _log.warning("attempt_failed", target=target.name, attempt=attempt, **logs.describe(error))
            self._observer(target, error, elapsed_s)

    def _pause(self, seconds: float) -> None:
        self._sleep(seconds)
        self.progress.waited_s += seconds

    def _any_open_to(self, remaining: Sequence[tuple[int, Target]]) -> bool:
        return any(self._watch.may_ask(target.name) for _, target in remaining)

    def _all_open(self, targets: Sequence[Target]) -> AllTargetsUnavailableError:
        return AllTargetsUnavailableError(
            "Every target of this model has failed lately and is being left alone. Try again later.",
            target=targets[-1].name,
            retry_after_s=self._watch.opens_in_s([target.name for target in targets]),
        )

    def _hedge(self, remaining: Sequence[tuple[int, Target]]) -> tuple[int, Target] | None:
        """The target to ask as well when the first keeps silent."""
        if self._policy.hedge_after_s is None:
            return None
        return next((each for each in remaining if self._watch.may_ask(each[1].name)), None)

    def _race(
        self, first: tuple[int, Target], second: tuple[int, Target], remaining: list[tuple[int, Target]]
    ) -> Won[Result]:
        """Ask ``first``, and ``second`` too if that keeps silent; then go on as usual if both fail.

        :raises ProviderError: those that were asked have failed; ``remaining`` are those that were not.
        """
        race = _Race(self._call, self._clock)
        began = self._clock()
        try:
            race.enter(*first, *self._admit(first[1]))
            finish = race.next_finish(self._policy.hedge_after_s or 0.0)
            if finish is None:
                self._join(race, second, remaining)
            error: BaseException | None = None
            while race.running:
                finish = finish or race.next_finish(self._deadline.remaining_s())
                if finish is None:
                    break
                if finish.error is None:
                    return self._crown(race, finish)
                error = finish.error
                self._lost(finish.permit, finish.target, finish.error, finish.elapsed_s)
                race.running.remove(finish)
                finish = None
                if isinstance(error, ProviderRejectedError) and not isinstance(error, UnsupportedByTargetError):
                    break
            self._abandon(race, Verdict.NOTHING if error else Verdict.FAILURE)
            raise error or ProviderTimeoutError("The model provider did not answer in time.", target=first[1].name)
        finally:
            self.progress.waited_s += self._clock() - began

    def _join(self, race: "_Race[Result]", second: tuple[int, Target], remaining: list[tuple[int, Target]]) -> None:
        try:
            race.enter(*second, *self._admit(second[1]))
        except (_NotPermittedError, ProviderTimeoutError):
            return
        except (BudgetExceededError, StateError) as error:
            # The first is still at work: what cannot be paid for is not worth failing for.
            _log.info("not_hedged", target=second[1].name, **logs.describe(error))
            return
        remaining.remove(second)
        self.progress.hedged = True
        _log.info("hedged", target=second[1].name)

    def _crown(self, race: "_Race[Result]", finish: "_Runner[Result]") -> Won[Result]:
        race.running.remove(finish)
        self._purse.done(finish.target)
        self._abandon(race, Verdict.NOTHING)
        self.progress.target, self.progress.fallbacks = finish.target, finish.position
        result: Any = finish.result
        return Won(
            result=result,
            target=finish.target,
            position=finish.position,
            permit=finish.permit,
            elapsed_s=finish.elapsed_s,
        )

    def _abandon(self, race: "_Race[Result]", verdict: Verdict) -> None:
        for runner in race.running:
            runner.abandon()
            _log.info("attempt_abandoned", target=runner.target.name)
            self._watch.report(runner.permit, verdict, operation=self._operation)
            self._observer(runner.target, None, self._clock() - runner.began)


class _NotPermittedError(Exception):
    """The circuit does not let the attempt through."""


class _Runner(Generic[Result]):
    """One attempt in a thread of its own."""

    def __init__(self, position: int, target: Target, permit: Permit, clock: Callable[[], float]) -> None:
        self.position = position
        self.target = target
        self.permit = permit
        self.began = clock()
        self.elapsed_s = 0.0
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._clock = clock
        self._given_up = False
        self._lock = threading.Lock()

    def run(self, call: Call[Result], timeout_s: float) -> None:
        try:
            result = call(self.target, timeout_s)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for this runner
            self.error = error
        else:
            with self._lock:
                self.result = result
                if self._given_up:
                    _discard(result)
        self.elapsed_s = self._clock() - self.began

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            self._given_up = True
            _discard(self.result)


def _discard(result: object) -> None:
    if isinstance(result, ProviderStream):
        result.abandon()


class _Race(Generic[Result]):
    """The attempts that are under way at the same time."""

    def __init__(self, call: Call[Result], clock: Callable[[], float]) -> None:
        self._call = call
        self._clock = clock
        self._finishes: queue.SimpleQueue[_Runner[Result]] = queue.SimpleQueue()
        self.running: list[_Runner[Result]] = []

    def enter(self, position: int, target: Target, permit: Permit, timeout_s: float) -> None:
        """Start one more."""
        runner = _Runner[Result](position, target, permit, self._clock)

        def run() -> None:
            runner.run(self._call, timeout_s)
            self._finishes.put(runner)

        self.running.append(runner)
        threading.Thread(target=tracing.carried(run), name=f"attempt {target.name}", daemon=True).start()

    def next_finish(self, within_s: float) -> _Runner[Result] | None:
        """The next that comes back, ``None`` when none does in time."""
        try:
            return self._finishes.get(timeout=within_s)
        except queue.Empty:
            return None


def _worth_asking(
    error: ProviderRejectedError, target: Target, remaining: Sequence[tuple[int, Target]]
) -> list[tuple[int, Target]]:
    """Of the remaining targets those that may accept what ``target`` has refused."""
    if isinstance(error, UnsupportedByTargetError):
        return list(remaining)
    if isinstance(error, ContextTooLongError) and target.context_length is not None:
        return [each for each in remaining if (each[1].context_length or 0) > target.context_length]
    return []


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after_s(state: RetryCallState) -> float:
    error = _error(state)
    return (error.retry_after_s or 0.0) if isinstance(error, ProviderError) else 0.0


def _better_elsewhere(error: BaseException | None, *, patience_s: float) -> bool:
    """Whether the next target is a better bet than this one again."""
    impatient = isinstance(error, ProviderError) and (error.retry_after_s or 0.0) > patience_s
    return impatient or isinstance(error, ProviderTimeoutError)
