"""Functions behind anything else than HTTP: queues, streams, Step Functions, the authorizer."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from sluice.domain.deadline import Deadline
from sluice.domain.errors import SluiceError
from sluice.runtime.invocation import Invocation, LambdaContext
from sluice.telemetry import logs

R = TypeVar("R")


class UnexpectedFailureError(Exception):
    """Stands for an exception nobody foresaw.

    Lambda writes the text of what a function raises into its log, and that text might quote a prompt; so the type and
    the place go into the canonical line, and this is raised instead.
    """


def event_function(handler: Callable[[dict[str, Any], Deadline], R]) -> Callable[[dict[str, Any], LambdaContext], R]:
    """The Lambda entry point of ``handler``: a function of the event and the moment it has to be done by.

    What the handler returns is the function's result. What it raises is logged and raised again, so that the trigger
    repeats the work: a :class:`SluiceError` as it is, anything else as :class:`UnexpectedFailureError`.
    """

    @functools.wraps(handler)
    def entry_point(event: dict[str, Any], context: LambdaContext) -> R:
        invocation = Invocation(context)
        failed = True
        try:
            invocation.begin(request_id=context.aws_request_id)
            result = handler(event, invocation.deadline)
            failed = False
            return result
        except SluiceError as error:
            logs.canonical(**logs.describe(error))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, its text must not reach Lambda's own log
            logs.canonical(**logs.describe(error))
            raise UnexpectedFailureError(f"{type(error).__name__}: see the log line 'request'.") from None
        finally:
            invocation.finish(failed=failed)

    return entry_point
