"""The X-Ray backend of :mod:`sluice.telemetry.tracing`, and the only file that knows aws-xray-sdk.

The SDK is in maintenance mode: what replaces it has to offer the same four static methods. Imported only inside
Lambda, where the SDK samples as the trace header says; elsewhere its import alone would build an AWS client.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from aws_xray_sdk.core import patch, xray_recorder
from aws_xray_sdk.core.emitters.udp_emitter import UDPEmitter
from aws_xray_sdk.core.lambda_launcher import LambdaContext
from aws_xray_sdk.core.models.entity import Entity
from aws_xray_sdk.core.models.subsegment import Subsegment
from aws_xray_sdk.core.sampling.local.sampler import LocalSampler

from sluice.telemetry.redaction import redacted

if TYPE_CHECKING:
    from aws_xray_sdk.core.models.throwable import Throwable


class _ContentFreeEmitter(UDPEmitter):
    """Sends an exception's type and place but not its text, which may quote what a caller sent."""

    def send_entity(self, entity: Entity) -> None:
        _forget_messages(entity)
        super().send_entity(entity)


def _forget_messages(entity: Entity) -> None:
    if isinstance(entity.cause, dict):
        for throwable in cast("list[Throwable]", entity.cause.get("exceptions", [])):
            throwable.message = ""
    for child in entity.subsegments:
        _forget_messages(child)


class _LambdaContext(LambdaContext):
    """Reads the trace header once in an invocation. The SDK parses it a dozen times for every call that is traced."""

    def __init__(self) -> None:
        super().__init__()
        self._invocation = 0

    def renew(self) -> None:
        """Another invocation begins."""
        self._invocation += 1

    def _refresh_context(self) -> None:
        # What the context knows is kept by thread, and a thread may outlive its invocation. The stubs leave it out.
        known = cast("Any", self)._local  # noqa: SLF001 - a subclass's own
        if getattr(known, "segment", None) is None or getattr(known, "invocation", None) != self._invocation:
            super()._refresh_context()  # type: ignore[misc]
            known.invocation = self._invocation


_context = _LambdaContext()
# The local sampler never asks the X-Ray service for rules: no call leaves a function that it did not make itself.
xray_recorder.configure(sampler=LocalSampler(), sampling=False, emitter=_ContentFreeEmitter(), context=_context)
patch(("botocore",))


class _Span:
    def __init__(self, entity: Subsegment | None) -> None:
        self._entity = entity

    def annotate(self, name: str, value: str | float) -> None:
        if self._entity:
            self._entity.put_annotation(name, redacted(value) if isinstance(value, str) else value)

    def status(self, http_status: int) -> None:
        if self._entity:
            self._entity.put_http_meta("status", http_status)


class XRay:
    """Subsegments below the segment that Lambda itself records."""

    @staticmethod
    def begin() -> None:
        """Forget the invocation before.

        The SDK notices a new trace but not a new segment of the same trace, which is what a Step Functions execution
        gives every task that it runs in a warm function.
        """
        xray_recorder.clear_trace_entities()
        _context.renew()

    @staticmethod
    def current() -> Any:
        """The open subsegment, or the invocation's segment."""
        return xray_recorder.get_trace_entity()

    @staticmethod
    def adopt(parent: Any) -> None:
        """Make ``parent`` the place where this thread's subsegments go."""
        if parent is not None:
            xray_recorder.set_trace_entity(parent)

    @staticmethod
    @contextmanager
    def subsegment(name: str) -> Iterator[_Span]:
        """A remote call named ``name``; an exception marks it as a fault."""
        entity = xray_recorder.begin_subsegment(name, namespace="remote")
        try:
            yield _Span(entity)
        except Exception:
            if entity:
                entity.add_fault_flag()
            raise
        finally:
            xray_recorder.end_subsegment()
