"""Lambda's Runtime API on the wire, in its streaming mode.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
"""

import base64
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Final

import msgspec

from sluice.telemetry import logs

_VERSION: Final = "/2018-06-01/runtime"
_CONTENT_TYPE: Final = "application/vnd.awslambda.http-integration-response"
_ERROR_TYPE: Final = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY: Final = "Lambda-Runtime-Function-Error-Body"

LARGEST_CHUNK: Final = 64 * 1024
# A reader that takes nothing for half of the time that is left is given up, so that the other half is there for
# reading the provider to its end and for settling.
PATIENCE_SHARE: Final = 0.5
SHORTEST_PATIENCE_S: Final = 0.05


class RuntimeApiError(Exception):
    """The Runtime API refused a request: this process and Lambda no longer agree on what comes next."""


class Failure(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What Lambda is told of an error. ``error_type`` is of the form ``Runtime.SomeError``; no text of a caller's."""

    error_message: str
    error_type: str
    stack_trace: tuple[str, ...] = ()


class Invoked(msgspec.Struct, frozen=True, kw_only=True):
    """One invocation: its event as JSON, and the moment (epoch milliseconds) at which Lambda kills the function.

    It is the Lambda context of its handler as well.
    """

    aws_request_id: str
    event: bytes
    deadline_ms: int
    trace_header: str | None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda kills the function, never below zero."""
        return max(0, self.deadline_ms - int(time.time() * 1000))


class Reply:
    """The streamed response to one invocation.

    Sending never fails: when the other side is gone, or takes nothing for too long, what follows is dropped, and
    :attr:`gone` says so. So whoever makes the pieces goes on to the end.
    """

    def __init__(self, connection: HTTPConnection, path: str, *, remaining_s: Callable[[], float]) -> None:
        self._connection = connection
        self._path = path
        self._remaining_s = remaining_s
        self.begun = False
        self.gone = False

    def send(self, piece: bytes) -> None:
        """Send ``piece`` at once; the first one opens the response."""
        if not self.begun:
            self.begun = True
            self._attempt(self._open)
        for start in range(0, len(piece), LARGEST_CHUNK):
            chunk = piece[start : start + LARGEST_CHUNK]
            self._attempt(partial(self._write, b"%x\r\n%b\r\n" % (len(chunk), chunk)))

    def end(self, failure: Failure | None = None) -> None:
        """Close the response, with ``failure`` in its trailers if it broke off.

        :raises RuntimeApiError: the Runtime API took all of it, and says that it failed.
        """
        trailers = b"" if failure is None else _trailers(failure)
        self._attempt(partial(self._write, b"0\r\n%b\r\n" % trailers))
        self._attempt(self._confirm)

    def _open(self) -> None:
        self._connection.putrequest("POST", self._path, skip_accept_encoding=True)
        self._connection.putheader("Content-Type", _CONTENT_TYPE)
        self._connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
        self._connection.putheader("Transfer-Encoding", "chunked")
        self._connection.putheader("Trailer", f"{_ERROR_TYPE}, {_ERROR_BODY}")
        self._connection.endheaders()

    def _write(self, data: bytes) -> None:
        self._connection.sock.settimeout(max(self._remaining_s() * PATIENCE_SHARE, SHORTEST_PATIENCE_S))
        self._connection.send(data)

    def _confirm(self) -> None:
        self._connection.sock.settimeout(max(self._remaining_s(), SHORTEST_PATIENCE_S))
        response = self._connection.getresponse()
        response.read()
        self._connection.sock.settimeout(None)
        if response.status != 202:
            raise RuntimeApiError(f"The Runtime API answered a response with {response.status}.")

    def _attempt(self, step: Callable[[], None]) -> None:
        if self.gone:
            return
        try:
            step()
        except (OSError, HTTPException) as error:
            self.gone = True
            # In the middle of a chunk: the connection is good for nothing else.
            self._connection.close()
            logs.canonical(client_gone=True, client_gone_by=type(error).__name__)


class RuntimeApi:
    """A client of the Runtime API at ``address`` (host:port): one connection, kept alive from one call to the next."""

    def __init__(self, address: str) -> None:
        # No timeout: between invocations the process is frozen for as long as nobody calls.
        self._connection = HTTPConnection(address, timeout=None)

    def next(self) -> Invoked:
        """Wait for the next invocation. :raises RuntimeApiError: there will be none."""
        headers, body = self._call("GET", "/invocation/next", expected=200)
        return Invoked(
            aws_request_id=headers["lambda-runtime-aws-request-id"],
            event=body,
            deadline_ms=int(headers["lambda-runtime-deadline-ms"]),
            trace_header=headers.get("lambda-runtime-trace-id"),
        )

    def reply(self, invoked: Invoked) -> Reply:
        """The response to ``invoked``, to be sent piece by piece."""
        return Reply(
            self._connection,
            f"{_VERSION}/invocation/{invoked.aws_request_id}/response",
            remaining_s=lambda: invoked.get_remaining_time_in_millis() / 1000,
        )

    def failed(self, invoked: Invoked, failure: Failure) -> None:
        """Report that there is no response to ``invoked``. :raises RuntimeApiError: it is not accepted."""
        self._report(f"/invocation/{invoked.aws_request_id}/error", failure)

    def init_failed(self, failure: Failure) -> None:
        """Report that this process cannot serve anything. :raises RuntimeApiError: it is not accepted."""
        self._report("/init/error", failure)

    def restore_next(self) -> None:
        """Say that the snapshot may be taken, and wait to be restored from it.

        :raises RuntimeApiError: it is not accepted.
        """
        self._call("GET", "/restore/next", expected=200)

    def restore_failed(self, failure: Failure) -> None:
        """Report that this process is of no use after it was restored. :raises RuntimeApiError: it is not accepted."""
        self._report("/restore/error", failure)

    def _report(self, path: str, failure: Failure) -> None:
        headers = {"Content-Type": "application/json", _ERROR_TYPE: failure.error_type}
        self._call("POST", path, expected=202, body=msgspec.json.encode(failure), headers=headers)

    def _call(
        self,
        method: str,
        path: str,
        *,
        expected: int,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Mapping[str, str], bytes]:
        try:
            answer = self._exchange(method, path, body, headers or {})
        except (OSError, HTTPException):
            # One that was kept alive may have been closed meanwhile, by a client that had gone or by a snapshot.
            self._connection.close()
            answer = self._exchange(method, path, body, headers or {})
        status, answered, content = answer
        if status != expected:
            raise RuntimeApiError(f"The Runtime API answered {method} {path} with {status}.")
        return answered, content

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        self._connection.request(method, _VERSION + path, body=body, headers=dict(headers))
        response = self._connection.getresponse()
        content = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, content


def _trailers(failure: Failure) -> bytes:
    body = base64.b64encode(msgspec.json.encode(failure))
    return b"%b: %b\r\n%b: %b\r\n" % (
        _ERROR_TYPE.encode(),
        failure.error_type.encode(),
        _ERROR_BODY.encode(),
        body,
    )
