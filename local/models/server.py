"""Binding the port and running uvicorn on it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from local.models.settings import LOOPBACK

if TYPE_CHECKING:
    from starlette.applications import Starlette

# A "hang" must not keep a stopping server alive.
_SHUTDOWN_S = 2


class ConnectionProtocol(H11Protocol):
    """HTTP/1.1 that hands its transport to the application: ASGI offers no way to drop a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport where ``replies.hang_up`` finds it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def bind(port: int) -> socket.socket:
    """A socket bound to ``port`` of the loopback interface; not yet listening, so nobody can connect.

    Raises:
        OSError: the port is taken.
    """
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it on, the second
    # write of every answer waits 40 ms for the client's delayed acknowledgement.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Without it, a restart would have to wait for the connections of the last run to be forgotten.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((LOOPBACK, port))
    except OSError:
        bound.close()
        raise
    return bound


def serve(app: Starlette, bound: socket.socket) -> None:
    """Serve ``app`` until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        app,
        http=ConnectionProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    uvicorn.Server(config).run(sockets=[bound])
