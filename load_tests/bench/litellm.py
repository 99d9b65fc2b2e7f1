"""The LiteLLM proxy in an environment of its own, in front of the same instant provider: what it adds to a request."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import psutil

from load_tests.bench.world import QUESTION

__all__ = ["COMPARISON", "Proxy", "ProxyError"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_START_S: Final = 120.0
_WARM_UP: Final = 100
_PROXY_MODEL: Final = "fast"
# Of setuptools, which venv itself puts there. The two malicious releases came with a file of this kind.
_STARTED_ANYWAY: Final = frozenset({"distutils-precedence.pth"})

COMPARISON: Final = (
    "Sluice: from handing the event over to having the answer, as API Gateway would see its function. In it: parsing,",
    "routing, circuit state, the provider call itself, exact cost, ledger, log, trace, metrics, and every AWS call, at",
    "an instant stand-in. Not in it: API Gateway, the authorizer (a function of its own), the network.",
    "LiteLLM: the time through the proxy less the time to the provider directly; one worker, one caller at a time, one",
    "kept connection. In it: HTTP, parsing, routing, the provider call, less that call itself. Not on: keys, budgets,",
    "rate limits, database, cache, tracing, request log; it knows no price for this model.",
)


class ProxyError(Exception):
    """The proxy could not be installed or did not start."""


class Proxy:
    """A running LiteLLM proxy. A context manager."""

    def __init__(self, provider_url: str, folder: Path) -> None:
        self._provider = provider_url
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _free_port()
        self.start_s = 0.0
        self.version = ""

    def __enter__(self) -> Self:
        python = _installed()
        self.version = _output(python, "-c", "from importlib.metadata import version; print(version('litellm'))")
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "litellm.yaml"
        config.write_text(_config(self._provider))
        program = str(python.parent / "litellm")
        command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(self._port)]
        began = time.monotonic()
        with (self._folder / "litellm.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--num_workers", "1"], env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._await_health()
        except BaseException:
            self._stop()
            raise
        self.start_s = time.monotonic() - began
        self.through(_WARM_UP)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def direct(self, requests: int) -> tuple[float, ...]:
        """Latencies of requests to the provider, in seconds."""
        return _ask(urlsplit(self._provider).port or 80, requests)

    def through(self, requests: int) -> tuple[float, ...]:
        """Latencies of the same requests by way of the proxy, in seconds."""
        return _ask(self._port, requests)

    def cpu_s(self) -> float:
        """CPU seconds so far, of the proxy and all that it started."""
        return float(sum(sum(one.cpu_times()[:2]) for one in self._processes()))

    def rss_mb(self) -> float:
        """Resident memory, of the proxy and all that it started."""
        return float(sum(one.memory_info().rss for one in self._processes())) / 2**20

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        top = psutil.Process(self._process.pid)
        return [top, *top.children(recursive=True)]

    def _await_health(self) -> None:
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
                connection.request("GET", "/health/liveliness")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.2)
        raise ProxyError(f"LiteLLM did not start; see {self._folder.relative_to(_ROOT) / 'litellm.log'}")

    def _stop(self) -> None:
        if self._process is None:
            return
        for process in reversed(self._processes() if self._process.poll() is None else []):
            process.kill()
        self._process.wait()


def _installed() -> Path:
    """The interpreter of the environment that ``requirements/litellm.txt`` makes."""
    done = subprocess.run(
        ["sh", "local/setup.sh", "litellm"],  # noqa: S607 - sh is found on PATH
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ProxyError(f"LiteLLM could not be installed: {done.stderr.strip()[-1500:]}")
    folder = _ROOT / ".local" / "venvs" / "litellm"
    strangers = sorted(path.name for path in folder.rglob("*.pth") if path.name not in _STARTED_ANYWAY)
    if strangers:
        raise ProxyError(f"not started: {', '.join(strangers)} would run with every start of its interpreter")
    return folder / "bin" / "python"


def _output(python: Path, *arguments: str) -> str:
    done = subprocess.run([python, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _config(provider_url: str) -> str:
    # JSON is YAML too.
    parameters = {"model": "openai/bench-model", "api_base": provider_url, "api_key": "key-of-the-benchmark"}
    config: dict[str, Any] = {
        "model_list": [{"model_name": _PROXY_MODEL, "litellm_params": parameters}],
        "litellm_settings": {"telemetry": False, "set_verbose": False},
    }
    return json.dumps(config)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("HOME", "LD_LIBRARY_PATH", "PATH", "TMPDIR") if name in os.environ}
    return {
        **kept,
        # Neither the price list nor telemetry may wait for an answer from the internet.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def _ask(port: int, requests: int) -> tuple[float, ...]:
    body = json.dumps(dict(QUESTION)).encode()
    headers = {"content-type": "application/json", "authorization": "Bearer key-of-the-benchmark"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found = []
    for _ in range(requests):
        began = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        answer = response.read()
        found.append(time.perf_counter() - began)
        if response.status != 200:
            raise ProxyError(f"HTTP {response.status}: {answer[:500].decode(errors='replace')}")
    connection.close()
    return tuple(found)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
