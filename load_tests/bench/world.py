"""What the functions are told and given: their environment, the routes, a key with every limit, and a request."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from load_tests.bench.layout import OURS, Layout
from load_tests.bench.runtime_api import Sandbox
from load_tests.bench.stand_ins import PROVIDER_KEY

__all__ = ["ENVIRONMENT", "QUESTION", "BenchError", "World", "trace_id"]

_ROOT: Final = Path(__file__).resolve().parents[2]

# As Terraform sets them in production; what each means is told at the functions' Settings.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "ATTEMPT_TIMEOUT_SECONDS": "25",
    "BUCKET_NAME": "sluice-bench",
    "CIRCUIT_CACHE_SECONDS": "3",
    "CIRCUIT_FAILURES": "5",
    "CIRCUIT_OPEN_SECONDS": "30",
    "IDEMPOTENCY_TTL_SECONDS": "86400",
    "KEY_CACHE_SECONDS": "60",
    "LOG_LEVEL": "INFO",
    "MAX_ATTEMPTS": "2",
    "MAX_INPUT_BYTES": "1048576",
    "MAX_OUTPUT_TOKENS": "16384",
    "PROVIDER_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:providers-bench",
    "REQUEST_LOG_TTL_DAYS": "90",
    "SLUICE_ENVIRONMENT": "bench",
    "TABLE_NAME": "sluice-bench",
}
# The longest that a request may take, like a limit on a key: nothing is refused, everything is counted.
_KEY: Final = {
    "name": "benchmark",
    "rpm": 60_000,
    "tpm": 200_000_000,
    "monthly_budget_usd": "100000",
    "total_budget_usd": "1000000",
}
QUESTION: Final[Mapping[str, Any]] = {
    "model": "fast",
    "messages": [
        {"role": "system", "content": "You answer questions of our customers, briefly and politely. " * 3},
        {"role": "user", "content": "What does it take to move my subscription to another account? " * 4},
    ],
    "temperature": 0.2,
    "max_tokens": 64,
}


class BenchError(Exception):
    """The benchmark lacks something of the machine it runs on."""


@dataclass(frozen=True)
class _Certificate:
    """For 127.0.0.1. In ``bundle`` it stands among the authorities that botocore trusts, so that as much is read."""

    certificate: Path
    key: Path
    bundle: Path


def _certificate(layout: Layout) -> _Certificate:
    folder = layout.folder / "tls"
    folder.mkdir(exist_ok=True)
    found = _Certificate(folder / "certificate.pem", folder / "key.pem", folder / "bundle.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    try:
        subprocess.run(
            [*command, *subject, "-keyout", found.key, "-out", found.certificate], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as problem:
        raise BenchError("--tls needs the openssl command, for a certificate of its own") from problem
    trusted = layout.folder / OURS / "python" / "botocore" / "cacert.pem"
    found.bundle.write_bytes(trusted.read_bytes() + b"\n" + found.certificate.read_bytes())
    return found


def trace_id() -> str:
    """A trace header as Lambda gives it to a sampled invocation."""
    root = f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"
    return f"Root={root};Parent={secrets.token_hex(8)};Sampled=1"


class World:
    """The stand-ins, running, and what goes to the functions. A context manager."""

    def __init__(self, layout: Layout, *, tls: bool = False) -> None:
        self.layout = layout
        self.event = b""
        self._tls = _certificate(layout) if tls else None
        self._ports: dict[str, int] = {}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "load_tests.bench.stand_ins",
                *((self._tls.certificate, self._tls.key) if self._tls else ()),
            ],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._ports = json.loads(self._process.stdout.readline())
        self.control("put", _routes(self.provider_url()))
        self.event = _chat_event(self._authorized(self._new_key()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def url(self, port: str) -> str:
        """Where a stand-in listens."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._ports[port]}"

    def provider_url(self) -> str:
        """The base address of the provider."""
        return f"{self.url('provider')}/v1"

    def upstream_url(self) -> str:
        """The base address of the same provider in plain HTTP."""
        return f"http://127.0.0.1:{self._ports['upstream']}/v1"

    def control(self, name: str, body: object = None) -> Any:
        """Steer the stand-ins: see ``Control`` in :mod:`load_tests.bench.stand_ins`."""
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["control"], timeout=10)
        connection.request("POST", f"/{name}", json.dumps(body))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def sandbox(
        self,
        name: str,
        handler: str,
        *,
        layers: str = OURS,
        aws: str = "aws",
        service: str | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Sandbox:
        """A sandbox for the task ``name``, as Lambda's environment has it; not started yet."""
        layout = self.layout
        environment = {
            **ENVIRONMENT,
            **_lambda_environment(name, handler, layout),
            "AWS_ENDPOINT_URL": self.url(aws),
            "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{self._ports['xray']}",
            "FLOOR_PROVIDER_KEY": PROVIDER_KEY,
            "FLOOR_PROVIDER_URL": f"{self.provider_url()}/chat/completions",
            "PYTHONPATH": layout.path(name, layers),
            "SLUICE_SERVICE": service or name,
            **({"AWS_CA_BUNDLE": str(self._tls.bundle), "SSL_CERT_FILE": str(self._tls.bundle)} if self._tls else {}),
            **(more or {}),
        }
        logs = layout.folder / "logs"
        logs.mkdir(exist_ok=True)
        return Sandbox(layout.command(handler), environment, logs / f"{name}.log", layout.task(name))

    def _new_key(self) -> str:
        """A key with every limit there is, made by the platform's own function."""
        event = _api_event("POST", "/v1/admin/keys", _KEY, {}, actor="arn:aws:iam::123456789012:user/bench")
        with self.sandbox("admin_keys", "functions.admin_keys.handler.handler") as sandbox:
            answer = json.loads(sandbox.invoke(event, trace_id=trace_id()).answer)
        return str(json.loads(answer["body"])["key"])

    def _authorized(self, key: str) -> dict[str, Any]:
        """What the platform's own authorizer says of the key, and API Gateway hands to the route behind it."""
        event = {
            "type": "REQUEST",
            "methodArn": "arn:aws:execute-api:us-east-1:123456789012:bench/api/POST/v1/chat/completions",
            "headers": {"Authorization": f"Bearer {key}"},
            "requestContext": {"requestId": "bench-authorizer"},
        }
        with self.sandbox("authorizer", "functions.authorizer.handler.handler") as sandbox:
            answer = json.loads(sandbox.invoke(json.dumps(event).encode(), trace_id=trace_id()).answer)
        return {**answer["context"], "principalId": answer["principalId"], "integrationLatency": 9}


def _lambda_environment(name: str, handler: str, layout: Layout) -> dict[str, str]:
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    inherited = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return {
        **inherited,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        "AWS_LAMBDA_FUNCTION_NAME": f"sluice-bench-{name}",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AWS_SESSION_TOKEN": "token-of-the-function-s-role-" * 20,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "LAMBDA_TASK_ROOT": str(layout.task(name)),
        "LANG": "en_US.UTF-8",
        "NO_PROXY": "127.0.0.1",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TZ": ":UTC",
        "_HANDLER": handler,
    }


def _routes(provider_url: str) -> list[dict[str, Any]]:
    """The item set that Terraform writes, with two targets behind one alias, in DynamoDB's form."""
    price = {"M": {"version": {"S": "2026-11-21"}, "input_per_mtok": {"S": "0.035"}, "output_per_mtok": {"S": "0.14"}}}
    names = ("bench/first", "bench/second")
    targets = [
        {
            "pk": {"S": "ROUTES"},
            "sk": {"S": f"TARGET#{name}"},
            "name": {"S": name},
            "provider": {"S": "openai_compatible"},
            "model": {"S": "bench-model"},
            "operations": {"L": [{"S": "chat"}]},
            "capabilities": {"L": [{"S": "streaming"}, {"S": "tools"}, {"S": "json_schema"}]},
            "base_url": {"S": provider_url},
            "secret_field": {"S": "bench"},
            "context_length": {"N": "131072"},
            "max_output_tokens": {"N": "4096"},
            "price": price,
        }
        for name in names
    ]
    alias = {
        "pk": {"S": "ROUTES"},
        "sk": {"S": "ALIAS#fast"},
        "name": {"S": "fast"},
        "operation": {"S": "chat"},
        "strategy": {"S": "priority"},
        "targets": {"L": [{"M": {"target": {"S": name}}} for name in names]},
    }
    return [*targets, alias]


def _chat_event(authorizer: Mapping[str, Any]) -> bytes:
    return _api_event("POST", "/v1/chat/completions", QUESTION, authorizer)


def _api_event(
    method: str, path: str, body: Mapping[str, Any], authorizer: Mapping[str, Any], *, actor: str | None = None
) -> bytes:
    """API Gateway's proxy event (payload 1.0), with the headers that an OpenAI client and CloudFront's hop leave.

    ``actor`` is the ARN of whoever signed for an admin route.
    """
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "Authorization": "Bearer sk-sluice-of-the-benchmark",
        "Content-Type": "application/json",
        "Host": "bench.execute-api.us-east-1.amazonaws.com",
        "User-Agent": "OpenAI/Python",
        "X-Amzn-Trace-Id": "Root=1-00000000-000000000000000000000000",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
        "x-stainless-retry-count": "0",
    }
    multiple: Mapping[str, Sequence[str]] = {name: [value] for name, value in headers.items()}
    event = {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": multiple,
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "resourceId": "abc123",
            "authorizer": dict(authorizer),
            "resourcePath": path,
            "httpMethod": method,
            "path": f"/api{path}",
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": "api",
            "requestTimeEpoch": 1_700_000_000_000,
            "requestId": secrets.token_hex(16),
            "identity": {"sourceIp": "203.0.113.7", "userAgent": "OpenAI/Python", "userArn": actor},
            "domainName": "bench.execute-api.us-east-1.amazonaws.com",
            "apiId": "bench",
        },
        "body": json.dumps(dict(body)),
        "isBase64Encoded": False,
    }
    return json.dumps(event).encode()
