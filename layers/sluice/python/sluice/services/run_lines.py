"""Runs the lines of a chunk side by side, within a deadline, and says what became of each.

What becomes of a line that fails
---------------------------------
* Refused for what it says, or for good: it has its result at once, an error.
* Throttled, or its model is being left alone: it waits for as long as the model asks for, again and again. Where the
  deadline does not hold the wait, it is left for another delivery.
* Failed otherwise (a provider away, a timeout, a 5xx, a bug): run again, ``tries_here`` times in all; then it is left
  for another delivery, or has its result if this one is ``last``.
* Sluice's own state or deployment is broken: it is left, and whoever runs this is told of the error.
"""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final, Protocol

import msgspec

from sluice.domain.deadline import Deadline
from sluice.domain.errors import (
    AllTargetsUnavailableError,
    BudgetExceededError,
    CallerError,
    ConfigurationError,
    ProviderAuthError,
    ProviderError,
    ProviderThrottledError,
    RateLimitedError,
    SluiceError,
    StateError,
)
from sluice.domain.inference import Caller, Mode
from sluice.domain.ports import Endpoints
from sluice.domain.tasks import Task, TaskAnswer
from sluice.services.chunk_log import ChunkLog
from sluice.services.line_queue import Line, LineName, LineQueue, Unit
from sluice.telemetry import logs, tracing

# The wait before a line is run again: doubled each time, with full jitter.
FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 10.0
# Of a model that is not to be asked now without saying for how long.
LEAST_PATIENCE_S: Final = 0.25
_log = logs.get_logger()


class LineEndpoints(Endpoints, Protocol):
    """Endpoints that can do many lines by one call, where the model allows that."""

    def answer_together(
        self, tasks: Sequence[Task], caller: Caller, *, mode: Mode, deadline: Deadline
    ) -> Sequence[TaskAnswer]:
        """The answers to tasks that ask the same of the same model. Raises what ``answer`` raises; none is answered."""
        ...


class Results(Protocol):
    """Where results go. Called from several threads, and never twice for a line."""

    def answered(self, line: Line, answer: TaskAnswer) -> None:
        """The line's answer."""
        ...

    def failed(self, line: LineName, error: Exception) -> None:
        """The line has failed for good."""
        ...

    @property
    def full(self) -> bool:
        """Whether there is as much as should be kept in memory."""
        ...


class Left(msgspec.Struct, kw_only=True):
    """What is left when no more is run. ``failed``: at least one line by its own failure. ``broken``: not by theirs."""

    failed: bool = False
    throttled: bool = False
    broken: Exception | None = None


class RunLines:
    """One run over the ``units`` of a chunk's attempt. ``last``: what fails has its result now, whatever it was."""

    def __init__(  # noqa: PLR0913 - what a run needs, from its chunk and from its container
        self,
        queue: LineQueue,
        *,
        endpoints: LineEndpoints,
        results: Results,
        log: ChunkLog,
        caller: Caller,
        request_id: Callable[[Line], str],
        deadline: Deadline,
        tries_here: int,
        last: bool,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._queue = queue
        self._endpoints = endpoints
        self._results = results
        self._log = log
        self._caller = caller
        self._request_id = request_id
        self._deadline = deadline
        self._tries_here = tries_here
        self._last = last
        self._jitter = jitter
        self._lock = threading.Lock()
        self.left = Left()

    def run(self, *, concurrency: int, look: Callable[[], bool], look_every_s: float) -> None:
        """Run what can be run, up to ``concurrency`` units at once. ``look`` is asked now and then whether to go on.

        Raises nothing of a line's own: what a line's failure means is told above.
        """
        # A thread more than there is work for would only take memory.
        concurrency = max(1, min(concurrency, self._queue.width))
        with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="line") as pool:
            workers = [pool.submit(tracing.carried(self._work)) for _ in range(concurrency)]
            try:
                while not _over(workers, within_s=look_every_s):
                    if not look():
                        self._queue.stop()
            finally:
                self._queue.stop()
        for worker in workers:
            # A bug of ours, not of a line: the attempt has failed.
            worker.result()
        # What has failed and found no time to be run again; where time was not the matter, it will be run at once.
        self.left.failed = self.left.failed or (self._queue.late and self._queue.tried())

    def _work(self) -> None:
        # A line is no unit of work with a log line of its own: what is told of it is in the sums.
        logs.begin_part()
        try:
            while (unit := self._queue.take()) is not None:
                self._run(unit)
                if self._results.full:
                    self._queue.stop()
        except BaseException:
            # Nobody will give back what this one had.
            self._queue.stop()
            raise

    def _run(self, unit: Unit) -> None:
        caller = msgspec.structs.replace(self._caller, request_id=self._request_id(unit.lines[0]))
        try:
            answers = self._answers(unit, caller)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is this line's, and the others go on
            self._lost(unit, caller.request_id, error)
            return
        for line, answer in zip(unit.lines, answers, strict=True):
            self._results.answered(line, answer)
        self._log.ended(caller.request_id, lines=len(unit.lines))
        self._queue.done(unit, answered=True)

    def _answers(self, unit: Unit, caller: Caller) -> Sequence[TaskAnswer]:
        tasks = [line.task for line in unit.lines]
        if len(tasks) > 1:
            return self._endpoints.answer_together(tasks, caller, mode=Mode.BATCH, deadline=self._deadline)
        return [self._endpoints.answer(tasks[0], caller, mode=Mode.BATCH, deadline=self._deadline)]

    def _lost(self, unit: Unit, request_id: str, error: Exception) -> None:
        if isinstance(error, StateError | ConfigurationError | ProviderAuthError):
            self._broken(unit, request_id, error)
        elif _is_about_room(error):
            self._wait(unit, request_id, error)
        elif len(unit.lines) > 1:
            # One of them is at fault, and only it is to suffer.
            self._log.left(request_id)
            self._queue.replace(unit, [Unit(lines=(line,), tries=unit.tries) for line in unit.lines])
        elif _is_final(error):
            self._end(unit, request_id, error)
        else:
            self._try_again(unit, request_id, error)

    def _broken(self, unit: Unit, request_id: str, error: Exception) -> None:
        _log.warning("line_not_run", **logs.describe(error))
        with self._lock:
            self.left.broken = self.left.broken or error
        self._log.left(request_id)
        self._queue.drop(unit)
        if isinstance(error, StateError):
            self._queue.stop()
        else:
            # An operator has to mend it; other models may be in order.
            self._queue.close(unit.model, for_s=self._deadline.remaining_s())

    def _wait(self, unit: Unit, request_id: str, error: Exception) -> None:
        asked_s = error.retry_after_s if isinstance(error, ProviderError | RateLimitedError) else None
        wait_s = max(asked_s or 0.0, LEAST_PATIENCE_S)
        with self._lock:
            self.left.throttled = True
        self._log.left(request_id)
        self._queue.close(unit.model, for_s=wait_s)
        self._queue.put_back(unit, after_s=wait_s)

    def _try_again(self, unit: Unit, request_id: str, error: Exception) -> None:
        if not isinstance(error, SluiceError):
            _log.error("line_failed_unexpectedly", **logs.describe(error))
        unit.tries += 1
        if unit.tries < self._tries_here:
            self._log.left(request_id)
            ceiling = min(FIRST_WAIT_S * 2 ** (unit.tries - 1), LONGEST_WAIT_S)
            self._queue.put_back(unit, after_s=self._jitter(0, ceiling))
        elif self._last or isinstance(error, BudgetExceededError):
            self._end(unit, request_id, error)
        else:
            with self._lock:
                self.left.failed = True
            self._log.left(request_id)
            self._queue.drop(unit)

    def _end(self, unit: Unit, request_id: str, error: Exception) -> None:
        [line] = unit.lines
        self._results.failed(line, error)
        self._log.ended(request_id)
        self._queue.done(unit, answered=False)


def _is_about_room(error: Exception) -> bool:
    """Whether the line has only come too early."""
    return isinstance(error, ProviderThrottledError | AllTargetsUnavailableError | RateLimitedError)


def _is_final(error: Exception) -> bool:
    """Whether running the line again is useless."""
    if isinstance(error, BudgetExceededError):
        # What other lines have under way now may leave room.
        return False
    return isinstance(error, CallerError) or (isinstance(error, SluiceError) and not error.retryable)


def _over(workers: Sequence[Future[None]], *, within_s: float) -> bool:
    return not wait(workers, timeout=within_s).not_done
