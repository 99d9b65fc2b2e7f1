"""A runtime in thirty lines, for machines that have no wheel of ``awslambdaric``: what it does with one invocation.

Run inside the sandbox, so it imports nothing but the standard library: ``python runtime_loop.py <module>.<function>``.
"""

from __future__ import annotations

import http.client
import importlib
import json
import os
import sys
import time
from typing import Any

_PREFIX = "/2018-06-01/runtime/invocation/"


class Context:
    """Lambda's context object, as far as it is asked for."""

    def __init__(self, headers: http.client.HTTPMessage) -> None:
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self) -> int:
        """Until Lambda would end the process."""
        return max(0, self._deadline_ms - int(time.time() * 1000))


def _call(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> Any:
    connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
    return connection.getresponse()


def main(name: str) -> None:
    """Serve invocations until the process is ended."""
    module, _, function = name.rpartition(".")
    handler = getattr(importlib.import_module(module), function)
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        given = _call(connection, "GET", f"{_PREFIX}next", None)
        event = json.loads(given.read())
        os.environ["_X_AMZN_TRACE_ID"] = given.headers["Lambda-Runtime-Trace-Id"] or ""
        context = Context(given.headers)
        answer = json.dumps(handler(event, context)).encode()
        _call(connection, "POST", f"{_PREFIX}{context.aws_request_id}/response", answer).read()


if __name__ == "__main__":
    # Where the function is, not where this file is.
    sys.path.pop(0)
    main(sys.argv[1])
