"""Structured logs: one JSON object a line on standard output, with the invocation's context in every line.

What goes in is named field by field by the code that logs, and redacted before it is written
(:mod:`sluice.telemetry.redaction`). Exceptions are described by :func:`describe`, which keeps an
unexpected exception's text out: it may quote the value it choked on, and that value may be a prompt or a key.
"""

import logging
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, cast

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from sluice.domain.errors import SluiceError
from sluice.telemetry.redaction import redact_event

# Their DEBUG lines hold request bodies and signed headers, whatever level the function itself logs at.
_CHATTY_LIBRARIES = ("boto3", "botocore", "s3transfer", "urllib3", "aws_xray_sdk")

_canonical: ContextVar[dict[str, object] | None] = ContextVar("sluice_canonical", default=None)
_identity: dict[str, str] = {}
_applied: dict[str, str] = {}


class _Stdout:
    """Writes to whatever ``sys.stdout`` is at that moment, a whole line at once so that lines never interleave."""

    def msg(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    log = debug = info = warning = error = critical = exception = msg


def _name_only(value: object) -> str:
    return f"<{type(value).__name__}>"


def encode(fields: Mapping[str, Any], **_: object) -> str:
    """JSON for one line. Decimals become strings; of a value JSON cannot hold only its type is told."""
    return msgspec.json.encode(fields, enc_hook=_name_only).decode()


def _add_identity(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {**_identity, **event}


def _in_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """When, how bad and what come first, for the people who read lines."""
    return {**{name: event.pop(name) for name in ("timestamp", "level", "event")}, **event}


def _describe_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """``logger.exception(...)`` tells no more of an exception than :func:`describe` does."""
    raised = event.pop("exc_info", None)
    error = sys.exc_info()[1] if raised is True else raised
    return {**event, **describe(error)} if isinstance(error, BaseException) else event


def _apply(level: int) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_identity,
            _describe_exception,
            structlog.processors.add_log_level,
            # Lambda filters JSON lines by `level` and `timestamp`, under exactly these names:
            # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            _in_order,
            redact_event,
            structlog.processors.JSONRenderer(serializer=encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Stdout(),
    )


_apply(logging.INFO)


def configure(*, function: str, environment: str, level: str) -> None:
    """Say who logs and from which level on; ``level`` is a name of :mod:`logging`. May be called again."""
    _identity.update(function=function, environment=environment)
    # Every invocation says it anew, and setting a logger's level throws away what logging remembers of all of them.
    if _applied.get("level") == level:
        return
    _applied["level"] = level
    for name in _CHATTY_LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    _apply(logging.getLevelNamesMapping()[level])


def get_logger() -> FilteringBoundLogger:
    """The logger: ``get_logger().info("what_happened", field=value)``."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def begin(**fields: object) -> None:
    """Start an invocation: forget the last one's context and bind ``fields`` to every line of this one."""
    structlog.contextvars.clear_contextvars()
    _canonical.set({})
    bind(**fields)


def bind(**fields: object) -> None:
    """Add ``fields`` to every further line of this invocation; ``None`` values are left out."""
    structlog.contextvars.bind_contextvars(**{name: value for name, value in fields.items() if value is not None})


def begin_part(**fields: object) -> None:
    """Start a part of an invocation that sums itself up, such as one message of a batch; in this context only."""
    _canonical.set({})
    bind(**fields)


def bound(name: str) -> object | None:
    """The value bound to ``name`` in this invocation, if any."""
    return structlog.contextvars.get_contextvars().get(name)


def canonical(**fields: object) -> None:
    """Add ``fields`` to the one line that sums the invocation up; ``None`` values are left out."""
    collected = _canonical.get()
    if collected is not None:
        collected.update({name: value for name, value in fields.items() if value is not None})


def canonical_fields() -> dict[str, object]:
    """What :func:`canonical` collected since :func:`begin`."""
    return dict(_canonical.get() or {})


def describe(error: BaseException) -> dict[str, object]:
    """An exception in fields that are safe to log.

    Errors of our own tell their message and code, AWS errors their operation and code; of any other only the type and
    the places in the code are told, never the text. ``error_causes`` holds the same for what it was raised from.
    """
    fields: dict[str, object] = {"error_type": type(error).__name__}
    if isinstance(error, SluiceError):
        fields |= {"error_code": error.code, "error_message": error.message, "error_param": error.param}
    else:
        fields["error_at"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    causes = [_brief(cause) for cause in _chain(error)]
    if causes:
        fields["error_causes"] = causes
    return {name: value for name, value in fields.items() if value is not None}


def _chain(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    following = error.__cause__
    while following is not None and len(causes) < 5:
        causes.append(following)
        following = following.__cause__
    return causes


def _brief(error: BaseException) -> str:
    if isinstance(error, SluiceError):
        return f"{type(error).__name__}: {error.message}"
    # A ClientError, recognised by its shape so that no log line costs an import of botocore.
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        code = response.get("Error", {}).get("Code", "unknown")
        return f"{type(error).__name__}: {code} from {getattr(error, 'operation_name', 'unknown')}"
    return type(error).__name__
