"""Tracing, whatever does it. The backend is one file (:mod:`sluice.telemetry.xray`), loaded only when a trace is on.

Outside Lambda, or in an invocation that carries no trace header, everything here does nothing.
"""

import contextvars
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from sluice.telemetry import xray

P = ParamSpec("P")
R = TypeVar("R")

# Set by Lambda, per invocation and per environment:
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
TRACE_HEADER_VARIABLE = "_X_AMZN_TRACE_ID"
LAMBDA_VARIABLE = "LAMBDA_TASK_ROOT"


class Span(Protocol):
    """An open subsegment."""

    def annotate(self, name: str, value: str | float) -> None:
        """Attach an indexed value; ``name`` is letters, digits and underscores."""
        ...

    def status(self, http_status: int) -> None:
        """Record the status of the HTTP answer, which decides between ok, error, throttle and fault."""
        ...


class _NoSpan:
    def annotate(self, name: str, value: str | float) -> None:
        """Nothing is traced."""

    def status(self, http_status: int) -> None:
        """Nothing is traced."""


def _backend() -> "type[xray.XRay] | None":
    if LAMBDA_VARIABLE not in os.environ or TRACE_HEADER_VARIABLE not in os.environ:
        return None
    from sluice.telemetry.xray import XRay

    return XRay


def prepare() -> None:
    """Load the backend before the first invocation, where there will be one."""
    if LAMBDA_VARIABLE in os.environ:
        from sluice.telemetry import xray  # noqa: F401 - its import is the preparation


def begin() -> None:
    """Start an invocation: AWS calls made from here on are traced below its own segment."""
    if backend := _backend():
        backend.begin()


def trace_id() -> str | None:
    """The root trace id of this invocation, as X-Ray shows it."""
    parts = os.environ.get(TRACE_HEADER_VARIABLE, "").split(";")
    return next((part.removeprefix("Root=") for part in parts if part.startswith("Root=")), None)


@contextmanager
def subsegment(name: str, **annotations: str | int) -> Iterator[Span]:
    """Trace a call to something that is not AWS (AWS calls are traced by themselves)."""
    backend = _backend()
    if backend is None:
        yield _NoSpan()
        return
    with backend.subsegment(name) as span:
        for key, value in annotations.items():
            span.annotate(key, value)
        yield span


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` for use in another thread, with this thread's log context and open subsegment."""
    context = contextvars.copy_context()
    backend = _backend()
    parent = backend.current() if backend else None

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if backend:
            backend.adopt(parent)
        # A context can be entered by one thread at a time, so every call gets its own copy.
        return context.copy().run(function, *args, **kwargs)

    return run
