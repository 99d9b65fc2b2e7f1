"""Is a port free, and if not, who has it?"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

import psutil

from local.errors import LocalError

__all__ = ["explain_taken", "holder_of", "is_free", "require_free"]

_HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """True when nothing accepts connections on the port of 127.0.0.1 and we could listen there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        # On BSD a bind with SO_REUSEADDR succeeds beside a listener on 0.0.0.0, so ask by connecting first.
        if probe.connect_ex((_HOST, port)) == 0:
            return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def holder_of(port: int) -> psutil.Process | None:
    """The process listening on the port, or None when the operating system does not show it to us."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.pid and _is_listener(connection, port):
                return psutil.Process(connection.pid)
        return None
    # macOS shows the system-wide list to root only, but every user the connections of their own processes.
    return next((process for process in psutil.process_iter() if _listens(process, port)), None)


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        return any(_is_listener(connection, port) for connection in process.net_connections(kind="tcp"))
    except (psutil.Error, OSError):
        return False


def _is_listener(connection: Any, port: int) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr.port == port)


def require_free(port: int, what: str, variable: str) -> None:
    """Raise LocalError naming the port, its holder and the variable that moves `what` elsewhere, unless it is free."""
    if not is_free(port):
        raise explain_taken(port, what, variable)


def explain_taken(port: int, what: str, variable: str) -> LocalError:
    """The error for a port that somebody else has."""
    other = port + 100 if port + 100 < 65536 else port - 100
    hint = f"stop it, or choose another port: {variable}={other}"
    return LocalError(f"port {port}, which {what} needs, is taken by {_describe(holder_of(port))}", hint)


def _describe(process: psutil.Process | None) -> str:
    if process is None:
        return "another process (not visible to this user)"
    try:
        with process.oneshot():
            owner = "" if process.uids().real == os.getuid() else f", user {process.username()}"
            command = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return f"pid {process.pid}"
    return f"`{command[:80]}` (pid {process.pid}{owner})"
