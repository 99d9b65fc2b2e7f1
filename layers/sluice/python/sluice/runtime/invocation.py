"""What happens around every invocation, whatever triggered it: log context, trace, deadline, summary, metrics."""

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Final, Protocol

from sluice.domain.deadline import Deadline
from sluice.runtime.settings import Settings, load
from sluice.telemetry import logs, metrics, tracing

# Left of Lambda's own timeout for writing the log entry and answering: a function that is killed says nothing at all.
SAFETY_MARGIN_S: Final = 1.0
# So much sooner than Lambda does API Gateway give up (infra/sync.tf).
GATEWAY_LEAD_S: Final = 1.0
# Left of API Gateway's time for the same. It is longer, since that time began with the start of a new container.
GATEWAY_MARGIN_S: Final = 2.0
# A function with a short timeout keeps most of it for its work.
LARGEST_MARGIN_SHARE: Final = 0.2
# No deadline leaves more than this of the function's life for what comes after the work.
LARGEST_MARGIN_S: Final = GATEWAY_LEAD_S + GATEWAY_MARGIN_S


class LambdaContext(Protocol):
    """What Sluice uses of Lambda's context object."""

    @property
    def aws_request_id(self) -> str:
        """The id of this invocation."""
        ...

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda kills the function."""
        ...


@cache
def _settings() -> Settings:
    return load(Settings, os.environ)


_unused = [True]


def _cold_start() -> bool:
    """Whether this is the first invocation of this container."""
    return bool(_unused) and _unused.pop()


class Invocation:
    """One invocation of a function, from begin to finish. ``behind_gateway``: API Gateway waits for the answer."""

    def __init__(
        self, context: LambdaContext, clock: Callable[[], float] = time.monotonic, *, behind_gateway: bool = False
    ) -> None:
        self._clock = clock
        self._started = clock()
        left = context.get_remaining_time_in_millis() / 1000
        waited_for, margin = (left - GATEWAY_LEAD_S, GATEWAY_MARGIN_S) if behind_gateway else (left, SAFETY_MARGIN_S)
        self.max_input_bytes: int | None = None
        self.deadline = Deadline.after(waited_for - min(margin, waited_for * LARGEST_MARGIN_SHARE), clock)

    def begin(self, *, request_id: str, **fields: object) -> None:
        """Bind what every line of this invocation says.

        :raises ConfigurationError: the function does not know who it is.
        """
        logs.begin(request_id=request_id, trace_id=tracing.trace_id(), **fields)
        logs.canonical(cold_start=_cold_start())
        tracing.begin()
        settings = _settings()
        self.max_input_bytes = settings.max_input_bytes
        environment, function = settings.sluice_environment, settings.sluice_service
        logs.configure(function=function, environment=environment, level=settings.log_level)
        metrics.configure(function=function, environment=environment)

    def finish(self, *, failed: bool, throttled: bool = False, **fields: object) -> None:
        """Write the canonical line and the function's metrics."""
        duration_ms = round((self._clock() - self._started) * 1000, 1)
        write = logs.get_logger().error if failed else logs.get_logger().info
        write("request", duration_ms=duration_ms, **{**logs.canonical_fields(), **fields})
        metrics.emit(Requests=1, Errors=int(failed), Throttles=int(throttled), LatencyMs=duration_ms)
