"""The local model server as a process of its own, and the official clients that judge it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import urllib3
from botocore.config import Config
from openai import OpenAI

if TYPE_CHECKING:
    from mypy_boto3_bedrock_runtime.client import BedrockRuntimeClient
    from mypy_boto3_sagemaker_runtime.client import SageMakerRuntimeClient

ROOT = Path(__file__).resolve().parents[3]
CHAT = "extractive-v1"
EMBEDDINGS = "wordllama-256"
SCORER = "lead-scorer"
KEY = "local-models-key"


@dataclass(frozen=True)
class Answer:
    """A raw HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A running server: its control plane, and clients without retries, so that every call is one call."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.process = process
        self._openai: dict[tuple[str, bool, float], OpenAI] = {}
        self._http = urllib3.PoolManager(retries=False, timeout=30)
        self.bedrock: BedrockRuntimeClient = boto3.client(
            "bedrock-runtime", endpoint_url=url, region_name="us-east-1", config=self._config()
        )
        self.sagemaker: SageMakerRuntimeClient = boto3.client(
            "sagemaker-runtime", endpoint_url=url, region_name="us-east-1", config=self._config()
        )

    @staticmethod
    def _config(read_timeout_s: float = 20) -> Config:
        return Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout_s)

    def impatient_bedrock(self) -> BedrockRuntimeClient:
        client: BedrockRuntimeClient = boto3.client(
            "bedrock-runtime", endpoint_url=self.url, region_name="us-east-1", config=self._config(0.4)
        )
        return client

    def impatient_sagemaker(self) -> SageMakerRuntimeClient:
        client: SageMakerRuntimeClient = boto3.client(
            "sagemaker-runtime", endpoint_url=self.url, region_name="us-east-1", config=self._config(0.4)
        )
        return client

    def openai(self, *, key: str = KEY, strict: bool = True, timeout_s: float = 20) -> OpenAI:
        made = self._openai.get((key, strict, timeout_s))
        if made is None:
            # Kept, because each one loads the machine's certificates, which takes longer than a test.
            made = self._openai[key, strict, timeout_s] = OpenAI(
                base_url=f"{self.url}/openai/v1",
                api_key=key,
                max_retries=0,
                timeout=timeout_s,
                _strict_response_validation=strict,
            )
        return made

    def call(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        """One plain HTTP request; ``body`` is sent as JSON unless it is bytes."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        answer = self._http.request(method, self.url + path, body=data, headers=headers or {})
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.data)

    def fault(self, model: str, **spec: object) -> None:
        answer = self.call("PUT", f"/faults/{model}", spec)
        assert answer.status == 200, answer.body

    def calls(self, model: str) -> int:
        """How often ``model`` was called since the last reset."""
        total: int = self.call("GET", f"/requests?model={model}").json["total"]
        return total

    def close(self) -> None:
        self._http.clear()
        self.bedrock.close()
        self.sagemaker.close()
        for client in self._openai.values():
            client.close()


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[Server]:
    """Start a server on a port the system chooses, with its log beside `folder`; seen to stop at the end."""
    command = [sys.executable, "-m", "local.models", "--port", "0"]
    log = (folder.parent / f"{folder.name}.log").open("w")
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=log, text=True
    )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        assert " on http://" in ready, f"not ready: {ready!r}; see {log.name}"
        server = Server(ready.split()[-1], process)
        yield server
        server.close()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
        log.close()


def says(question: str, context: str = "") -> list[Any]:
    """A conversation in OpenAI's shape."""
    system = [{"role": "system", "content": context}] if context else []
    return [*system, {"role": "user", "content": question}]


def user(text: str) -> list[Any]:
    """A conversation in Bedrock's shape."""
    return [{"role": "user", "content": [{"text": text}]}]


def drained(stream: Any) -> Iterator[Any]:
    """The items of a client's stream, whose connection is closed whatever ends it."""
    with closing(stream):
        yield from stream


def eventually(probe: Any, *, within_s: float, what: str) -> None:
    """Wait until ``probe()`` is true."""
    deadline = time.monotonic() + within_s
    while not probe():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)
