"""The process: how it starts, says that it is ready, and stops; and what it says to nonsense."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.contract.local_models.support import CHAT, EMBEDDINGS, ROOT, SCORER, Server, running, says


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local.models", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30, check=False
    )


def test_health_tells_what_is_loaded(server: Server) -> None:
    answer = server.call("GET", "/health")
    assert answer.status == 200
    assert answer.json == {"status": "ready", "models": [CHAT, EMBEDDINGS, SCORER], "chat": CHAT}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_even_in_the_middle_of_a_hang(tmp_path: Path, number: int) -> None:
    with running(tmp_path / "server") as server:
        server.fault(CHAT, kind="hang")
        port = int(server.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST /model/extractive-v1/converse HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
            while server.calls(CHAT) == 0:
                time.sleep(0.02)
            server.process.send_signal(number)
            assert server.process.wait(6) in {0, -number}


def test_a_taken_port_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        stopped = start("--port", str(port))
    assert stopped.returncode == 1
    assert stopped.stderr.strip() == f"local models: port {port} cannot be used: Address already in use"


@pytest.mark.parametrize(
    ("arguments", "environment", "says_"),
    [
        (["--port", "70000"], {}, "--port must be between 0 and 65535"),
        ([], {}, "--port"),
        (["--port", "0"], {"SLUICE_LOCAL_LLM_URL": "localhost:11434"}, "SLUICE_LOCAL_LLM_URL"),
    ],
)
def test_a_wrong_setting_is_told_by_its_name(arguments: list[str], environment: dict[str, str], says_: str) -> None:
    stopped = start(*arguments, **environment)
    assert stopped.returncode == 2
    assert says_ in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(server: Server) -> None:
    """With Nagle's algorithm on, every answer on a kept connection took 40 ms more."""
    taken = []
    for _ in range(21):
        started = time.perf_counter()
        server.call("GET", "/health")
        taken.append(time.perf_counter() - started)
    assert sorted(taken)[10] < 0.03


def test_it_listens_on_the_loopback_interface_only(server: Server) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    # 7F000001 is 127.0.0.1; state 0A is "listening".
    rows = [line.split() for line in Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    assert listening == {f"0100007F:{port:04X}"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/model/x/explode", 404),
        ("PATCH", "/faults", 405),
        ("GET", "/model/x/converse", 405),
    ],
)
def test_an_unknown_address_is_refused_in_awss_shape(server: Server, method: str, path: str, status: int) -> None:
    answer = server.call(method, path)
    assert answer.status == status
    assert answer.headers["x-amzn-errortype"] == "UnknownOperationException"
    assert path in answer.json["message"]


def test_a_broken_request_does_not_stop_the_server(server: Server) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    for junk in (b"\x16\x03\x01\x00", b"GET\r\n\r\n", b"POST /model/x/converse HTTP/1.1\r\ncontent-length: 9\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(junk)
    answer = server.openai().chat.completions.create(model=CHAT, messages=says("Is it on?", "The light is on."))
    assert answer.choices[0].message.content == "The light is on."
