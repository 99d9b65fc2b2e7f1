"""Messages to callers' own servers, over a connection that leads to where it was allowed to and nowhere else.

A name is resolved once. Each of its addresses is looked at, and the connection is made to the very address that was
found good, with the name kept for TLS and for the ``Host`` header: a name that points to somewhere else a moment later
changes nothing. Nothing is followed or reused, and of what the server says only its status and one header are read.

A pool of urllib3 would resolve the name again, and bounds each read by itself, not all of them together: a server that
sends a byte now and then could keep a function busy for good, and with it everybody else's messages.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, Final
from urllib.parse import SplitResult

from sluice.adapters.retry_after import retry_after_s
from sluice.domain.callback_urls import is_public, parsed_address, split_callback_url
from sluice.domain.errors import InvalidRequestError, WebhookError
from sluice.domain.webhooks import WebhookAnswer, WebhookMessage

CONNECT_TIMEOUT_S: Final = 5.0
# Somewhere behind a name there may be a dozen; the first ones tell whether the others are worth waiting for.
MOST_ADDRESSES: Final = 3
_PORTS: Final = {"https": 443, "http": 80}
_REFUSED: Final = "Messages are sent to public addresses only, over HTTPS."

# What socket.getaddrinfo gives, of which the last part is the address.
Resolver = Callable[..., Sequence[tuple[Any, Any, int, str, tuple[Any, ...]]]]


class HttpsWebhooks:
    """A :class:`~sluice.domain.ports.WebhookSender`.

    ``allow_private`` lets plain HTTP and addresses in that are not public. ``context`` verifies the servers; it has to
    check names. How long a name takes to resolve is up to the system's resolver and its own timeouts.
    """

    def __init__(self, *, allow_private: bool, context: ssl.SSLContext, resolve: Resolver = socket.getaddrinfo) -> None:
        self._allow_private = allow_private
        self._context = context
        self._resolve = resolve

    def post(self, url: str, message: WebhookMessage, *, timeout_s: float) -> WebhookAnswer:
        parts = self._parts(url)
        until = time.monotonic() + timeout_s
        with _told():
            plain = _connected(self._addresses(parts), until)
            with closing(plain), _cut_off_at(plain, until) as cut_off:
                try:
                    answer = self._exchange(plain, parts, message)
                except (OSError, http.client.HTTPException) as exc:
                    if cut_off.is_set():
                        # Whatever it looks like from here, it was our own scissors.
                        raise TimeoutError from exc
                    raise
                if cut_off.is_set():
                    # Headers that end with the connection count as complete.
                    raise TimeoutError
                return answer

    def _parts(self, url: str) -> SplitResult:
        try:
            return split_callback_url(url, allow_private=self._allow_private, param="callback_url")
        except InvalidRequestError as exc:
            # It was good when it was accepted, so the deployment's rules have changed.
            raise WebhookError(_REFUSED, code="webhook_address_refused") from exc

    def _addresses(self, parts: SplitResult) -> list[tuple[Any, ...]]:
        """Where the URL's host is: all of its addresses, or none if one of them is not for us."""
        port = parts.port or _PORTS[parts.scheme]
        try:
            found = self._resolve(parts.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            raise WebhookError("The server's name cannot be resolved.", code="webhook_unresolvable") from exc
        addresses = [address[-1] for address in found]
        if not addresses:
            raise WebhookError("The server's name has no address.", code="webhook_unresolvable")
        if not self._allow_private and not all(_is_public(str(address[0])) for address in addresses):
            raise WebhookError(_REFUSED, code="webhook_address_refused")
        return addresses[:MOST_ADDRESSES]

    def _exchange(self, plain: socket.socket, parts: SplitResult, message: WebhookMessage) -> WebhookAnswer:
        host = str(parts.hostname)
        stream = self._context.wrap_socket(plain, server_hostname=host) if parts.scheme == "https" else plain
        connection = http.client.HTTPConnection(host, parts.port or _PORTS[parts.scheme])
        # Connected already, so it never resolves or connects anything by itself.
        connection.sock = stream
        with closing(connection):
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {**message.headers, "host": parts.netloc, "connection": "close"}
            connection.request("POST", target, body=message.body, headers=headers)
            with closing(connection.getresponse()) as response:
                headers = dict(response.headers.items())
                return WebhookAnswer(status=response.status, retry_after_s=retry_after_s(headers))


def _is_public(text: str) -> bool:
    # An address of a link (fe80::1%eth0) is parsed with its zone, and is not public.
    address = parsed_address(text)
    return address is not None and is_public(address)


def _connected(addresses: Sequence[tuple[Any, ...]], until: float) -> socket.socket:
    """A connection to the first of ``addresses`` that takes one."""
    failure = OSError()
    for address in addresses:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        try:
            # An address in figures: there is nothing left to resolve.
            return socket.create_connection((address[0], address[1]), timeout=min(CONNECT_TIMEOUT_S, left))
        except OSError as exc:
            failure = exc
    raise failure


@contextmanager
def _cut_off_at(connection: socket.socket, until: float) -> Iterator[threading.Event]:
    """Shut the connection at ``until`` (monotonic seconds) whatever it is doing; the event says that it was."""
    left = max(0.001, until - time.monotonic())
    connection.settimeout(left)
    # A second handle on the same connection: TLS takes the first one over, and it is the connection that is shut.
    handle = connection.dup()
    cut_off = threading.Event()

    def cut() -> None:
        cut_off.set()
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(left, cut)
    timer.daemon = True
    timer.start()
    try:
        yield cut_off
    finally:
        timer.cancel()
        timer.join()
        handle.close()


@contextmanager
def _told() -> Iterator[None]:
    """The domain's error for what sockets, TLS and HTTP raise; never in their words, which quote addresses."""
    try:
        yield
    except WebhookError:
        raise
    except TimeoutError as exc:
        raise WebhookError("The server did not answer in time.", code="webhook_timeout") from exc
    except ssl.SSLError as exc:
        raise WebhookError("The server's TLS cannot be trusted or does not work.", code="webhook_tls") from exc
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise WebhookError("The server cannot be reached or does not speak HTTP.", code="webhook_unreachable") from exc
