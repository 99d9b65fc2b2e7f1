"""One invocation after the other, as AWS's own runtime does it, except that responses are streamed.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html
"""

import importlib
import os
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, Protocol, cast

import msgspec

from sluice.domain.errors import ConfigurationError
from sluice.runtime.invocation import LambdaContext
from sluice.runtime.streaming.runtime_api import Failure, Invoked, RuntimeApi, RuntimeApiError
from sluice.telemetry import logs
from sluice.telemetry.tracing import TRACE_HEADER_VARIABLE

# As AWS's runtime ends in these cases.
INIT_FAILED: Final = 1
SNAPSHOT_FAILED: Final = 64
RESTORE_FAILED: Final = 65


class Streaming(Protocol):
    """A handler that streams, such as a :class:`~sluice.runtime.streaming.function.StreamingFunction`."""

    def stream(self, event: dict[str, Any], context: LambdaContext) -> Generator[bytes, None, None]:
        """The response piece by piece."""
        ...


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Serve until Lambda ends the process; the exit code when it cannot go on."""
    api = RuntimeApi(environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        handler = load_handler(environ["_HANDLER"])
    except Exception as error:  # noqa: BLE001 - whatever it is, Lambda waits to be told
        return _give_up(api.init_failed, error, INIT_FAILED)
    if environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        code = _snapshot(api)
        if code:
            return code
    try:
        while True:
            serve(api, handler, api.next())
    except RuntimeApiError as error:
        # Lambda starts another process. Going on would answer the wrong invocation.
        logs.get_logger().error("runtime_api_refused", error_message=str(error))
        return INIT_FAILED


def load_handler(name: str) -> Streaming:
    """The handler with this dotted name. :raises ConfigurationError: there is none that streams."""
    module, _, attribute = name.rpartition(".")
    handler = getattr(importlib.import_module(module), attribute, None)
    if not hasattr(handler, "stream"):
        raise ConfigurationError(f"{name} is no handler that streams.")
    return cast("Streaming", handler)


def serve(api: RuntimeApi, handler: Streaming, invoked: Invoked) -> None:
    """Answer one invocation. :raises RuntimeApiError: the Runtime API did not accept the answer."""
    _set_trace_header(invoked.trace_header)
    reply = api.reply(invoked)
    try:
        for piece in handler.stream(msgspec.json.decode(invoked.event), invoked):
            reply.send(piece)
    except Exception as error:  # noqa: BLE001 - the next invocation must not suffer
        failure = _failure(error)
        if reply.begun:
            reply.end(failure)
        else:
            api.failed(invoked, failure)
    else:
        reply.end()


def _set_trace_header(header: str | None) -> None:
    if header is None:
        os.environ.pop(TRACE_HEADER_VARIABLE, None)
    else:
        os.environ[TRACE_HEADER_VARIABLE] = header


def _snapshot(api: RuntimeApi) -> int:
    """SnapStart: prepare, wait for the snapshot and for being restored from it; the exit code, 0 to go on."""
    import snapshot_restore_py as hooks

    try:
        # In the order of AWS's runtime: what was registered last may build on what came before.
        for function, args, kwargs in reversed(hooks.get_before_snapshot()):
            function(*args, **kwargs)
        api.restore_next()
    except Exception as error:  # noqa: BLE001 - whatever it is, Lambda waits to be told
        return _give_up(api.init_failed, error, SNAPSHOT_FAILED)
    try:
        for function, args, kwargs in hooks.get_after_restore():
            function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - as above
        return _give_up(api.restore_failed, error, RESTORE_FAILED)
    return 0


def _give_up(report: Callable[[Failure], None], error: Exception, code: int) -> int:
    logs.get_logger().error("init_failed", **logs.describe(error))
    report(_failure(error))
    return code


def _failure(error: Exception) -> Failure:
    """What Lambda is told, which it writes into its log: no text of anything that was not raised on purpose."""
    described = logs.describe(error)
    places = cast("list[str]", described.get("error_at", []))
    return Failure(
        error_message=str(described.get("error_message", "See the log.")),
        error_type=f"Runtime.{type(error).__name__}",
        stack_trace=tuple(places),
    )
