"""What one request asks of DynamoDB, counted at the wire: the deployed handler, its own clients, a real local cloud.

Round trips are requests as botocore sends them, retries included. Write units are those of the items that the request
has written, by the size that they have in the end: each is at its largest then.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html#write-operation-consumption
"""

from __future__ import annotations

import base64
import json
import math
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from functions.authorizer import handler as authorizer
from functions.chat_completions import handler as chat_completions
from local.environment import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from local.instance import Instance
from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.domain.audit import AdminAction, AdminVerb
from sluice.domain.keys import ApiKey, hash_secret, new_secret
from sluice.domain.ledger import Limits, shards_for
from sluice.runtime import bootstrap, clients, key_context
from sluice.testing.invocations import FakeLambdaContext, api_event
from tests.contract.state.conftest import Aws

UNIT = 1024
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem")
# Amounts as long as they get: what is stored of them must not push an item over the unit.
LIMITS = Limits(
    rpm=10_000,
    tpm=10_000_000,
    monthly_budget_micro_usd=Decimal("98765432109.876543210987"),
    total_budget_micro_usd=Decimal("198765432109.876543210987"),
)
MESSAGES = [{"role": "user", "content": "The door is red. Which colour?"}]


class Provider(BaseHTTPRequestHandler):
    """Answers every chat with the same few words."""

    def do_POST(self) -> None:
        """Read the request, send the answer."""
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "words",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": "The door is red."},
                    }
                ],
                "usage": {"prompt_tokens": 17, "completion_tokens": 5, "total_tokens": 22},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The base address of a provider that speaks OpenAI's protocol."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Wire:
    """The requests to DynamoDB of every client, in order: operation, and the keys of items that were written.

    ``consistent`` says of each ``GetItem`` whether it sees every finished write.
    """

    operations: list[str] = field(default_factory=list)
    consistent: list[bool] = field(default_factory=list)
    written: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, request: Any, **_: Any) -> None:
        operation = request.headers["X-Amz-Target"].decode().rsplit(".", 1)[1]
        body = json.loads(request.body)
        self.operations.append(operation)
        if operation == "GetItem":
            self.consistent.append(body.get("ConsistentRead", False))
        if operation in WRITES:
            key = body.get("Key") or body["Item"]
            self.written.append((key["pk"]["S"], key["sk"]["S"]))

    def clear(self) -> None:
        """Forget what was seen."""
        self.operations.clear()
        self.consistent.clear()
        self.written.clear()

    @property
    def kinds(self) -> Counter[str]:
        """How often each kind of item was written, by the prefix of its key."""
        return Counter(pk.split("#")[0] for pk, _ in self.written)


@dataclass
class Container:
    """A container of chat_completions, warm: it has the routes, the provider's key, and the state of the targets."""

    client: Any
    table: str
    wire: Wire

    def ask(self, key: ApiKey, *, headers: dict[str, str] | None = None, **fields: object) -> dict[str, Any]:
        """One request of this key's, with everything that a key can have."""
        self.wire.clear()
        body = {"model": "auto", "messages": MESSAGES, **fields}
        event = api_event(
            "POST", "/v1/chat/completions", body=body, headers=headers or {}, authorizer=key_context.encode(key)
        )
        answer: dict[str, Any] = chat_completions.handler(event, FakeLambdaContext())
        return answer

    @property
    def units(self) -> int:
        """The write units of the request."""
        return sum(math.ceil(self._size(pk, sk) / UNIT) for pk, sk in self.wire.written)

    def _size(self, pk: str, sk: str) -> int:
        item = self.client.get_item(TableName=self.table, Key={"pk": {"S": pk}, "sk": {"S": sk}})["Item"]
        assert not any(name.startswith("gsi") for name in item), "the index would have to be written as well"
        return size_of({"M": item}) - 3


def size_of(value: dict[str, Any]) -> int:
    """The bytes of a value by DynamoDB's rules.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    [(kind, content)] = value.items()
    if kind == "M":
        return 3 + sum(len(name.encode()) + size_of(part) + 1 for name, part in content.items())
    if kind == "L":
        return 3 + sum(size_of(part) + 1 for part in content)
    if kind == "N":
        digits = Decimal(content).normalize().as_tuple().digits
        return 2 + math.ceil(len(digits) / 2)
    if kind == "B":
        return len(content) if isinstance(content, bytes) else len(base64.b64decode(content))
    return len(content.encode()) if kind == "S" else 1


@pytest.fixture(scope="module")
def wire() -> Wire:
    """What goes over the wire of any client that is made after this."""
    return Wire()


@pytest.fixture(scope="module")
def container(cloud: Instance, aws: Aws, provider: str, wire: Wire) -> Iterator[Container]:
    """A container that has been asked before."""
    table, _ = aws.table()
    secret = aws.client("secretsmanager").create_secret(Name=uuid.uuid4().hex, SecretString='{"local": "provider-key"}')
    put_routes(aws.client("dynamodb"), table._name, provider)
    environ = {
        "SLUICE_ENVIRONMENT": "test",
        "SLUICE_SERVICE": "chat_completions",
        "AWS_ENDPOINT_URL": cloud.cloud_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "TABLE_NAME": table._name,
        "BUCKET_NAME": aws.bucket(),
        "PROVIDER_SECRET_ARN": secret["ARN"],
        "REQUEST_LOG_TTL_DAYS": "90",
        "ATTEMPT_TIMEOUT_SECONDS": "20",
        "MAX_ATTEMPTS": "2",
        "CIRCUIT_CACHE_SECONDS": "60",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        forget_everything()
        session: Any = clients._session()
        session.register("before-send.dynamodb", wire)
        made = Container(aws.client("dynamodb"), table._name, wire)
        assert made.ask(a_key())["statusCode"] == 200
        yield made
    forget_everything()


def forget_everything() -> None:
    """As in a container that has just been started."""
    made: tuple[Any, ...] = (
        chat_completions.inference,
        chat_completions.replays,
        authorizer.authorize,
        bootstrap.routes,
        bootstrap._watch,
        clients.client,
        clients._session,
    )
    for once in made:
        once.cache_clear()


def put_routes(client: Any, table: str, provider: str) -> None:
    """The alias ``auto`` and its one target, as Terraform writes them."""
    target = {
        "sk": {"S": "TARGET#words"},
        "name": {"S": "words"},
        "provider": {"S": "openai_compatible"},
        "model": {"S": "words"},
        "operations": {"L": [{"S": "chat"}]},
        "capabilities": {"L": [{"S": "streaming"}]},
        "created": {"N": "1795219200"},
        "base_url": {"S": provider},
        "secret_field": {"S": "local"},
        "max_output_tokens": {"N": "1024"},
        "price": {
            "M": {
                "version": {"S": "2026-11-21"},
                "input_per_mtok": {"S": "0.123456789"},
                "output_per_mtok": {"S": "0.987654321"},
                "reasoning_per_mtok": {"S": "1.234567891"},
            }
        },
    }
    alias = {
        "sk": {"S": "ALIAS#auto"},
        "name": {"S": "auto"},
        "operation": {"S": "chat"},
        "strategy": {"S": "priority"},
        "targets": {"L": [{"M": {"target": {"S": "words"}, "weight": {"N": "1"}}}]},
    }
    for item in (target, alias):
        client.put_item(TableName=table, Item={"pk": {"S": "ROUTES"}, **item})


def a_key(limits: Limits = LIMITS) -> ApiKey:
    """A key of its own for every test."""
    secret = new_secret()
    return ApiKey(
        id=f"key_{uuid.uuid4().hex}",
        key_hash=hash_secret(secret),
        name="x",
        prefix=secret[:14],
        created_at=1,
        limits=limits,
    )


LIMITLESS = Limits(shards=8)
FAST = Limits(rpm=200_000, tpm=10**9, monthly_budget_micro_usd=Decimal(10) ** 12)
SHARDED = Limits(
    rpm=FAST.rpm, tpm=FAST.tpm, monthly_budget_micro_usd=FAST.monthly_budget_micro_usd, shards=shards_for(FAST)
)


@pytest.mark.parametrize("limits", [LIMITS, LIMITLESS, SHARDED], ids=["limits and budgets", "no limits", "14 shards"])
def test_a_request_takes_three_round_trips_and_three_write_units(container: Container, limits: Limits) -> None:
    key = a_key(limits)
    # A container that has not met a split budget looks at all of its parts, once.
    assert container.ask(key)["statusCode"] == 200
    for _ in range(3):
        answer = container.ask(key)
        assert answer["statusCode"] == 200, answer["body"]
        assert container.wire.operations == ["UpdateItem", "PutItem", "UpdateItem"]
        assert container.wire.kinds == {"LEDGER": 2, "REQ": 1}
        assert container.units == 3


def test_an_idempotency_key_adds_two_of_each_at_most(container: Container) -> None:
    headers = {"idempotency-key": "x" * 255}
    key = a_key()
    first = container.ask(key, headers=headers)
    assert first["statusCode"] == 200
    assert len(container.wire.operations) == 5
    assert container.wire.kinds == {"LEDGER": 2, "REQ": 1, "IDEM": 2}
    assert container.units == 5

    again = container.ask(key, headers=headers)
    assert again["body"] == first["body"]
    assert container.wire.operations == ["PutItem"]


def test_what_may_be_cached_takes_a_read_before_and_a_write_after(container: Container) -> None:
    key, headers = a_key(), {"x-sluice-cache": "on"}
    assert container.ask(key, headers=headers)["headers"]["x-sluice-cache"] == "miss"
    assert Counter(container.wire.operations) == {"GetItem": 1, "UpdateItem": 2, "PutItem": 2}
    assert container.units <= 5

    assert container.ask(key, headers=headers)["headers"]["x-sluice-cache"] == "hit"
    assert Counter(container.wire.operations) == {"GetItem": 1, "UpdateItem": 2, "PutItem": 1}
    assert container.units == 3


def test_a_refusal_takes_one_round_trip_and_then_none(container: Container) -> None:
    key = a_key(Limits(rpm=1))
    answers = [container.ask(key)["statusCode"] for _ in range(3)]
    if answers.count(200) == 1:  # the minute was not over in between
        assert answers == [200, 429, 429]
        assert container.wire.operations == []


def test_a_budget_that_is_spent_refuses_with_one_round_trip(container: Container) -> None:
    key = a_key(Limits(total_budget_micro_usd=Decimal(60)))
    while (answer := container.ask(key, max_completion_tokens=16))["statusCode"] == 200:
        assert container.wire.operations == ["UpdateItem", "PutItem", "UpdateItem"]
    assert answer["statusCode"] == 429
    assert container.wire.operations == ["UpdateItem"]


def test_where_less_output_fits_than_asked_for_one_more_write_holds_that(container: Container) -> None:
    key = a_key(Limits(total_budget_micro_usd=Decimal(200)))
    answer = container.ask(key)
    assert answer["statusCode"] == 200
    answer = container.ask(key)
    assert 64 <= int(answer["headers"]["x-sluice-max-output-tokens"]) < 1024
    assert Counter(container.wire.operations) == {"UpdateItem": 3, "PutItem": 1}
    assert container.units == 4


def test_a_key_is_looked_up_once_a_minute_and_container(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_CACHE_SECONDS", "60")
    secret = new_secret()
    key = ApiKey(id="key_1", key_hash=hash_secret(secret), name="x", prefix="x", created_at=1, limits=LIMITS)
    action = AdminAction(id="1", verb=AdminVerb.KEY_CREATED, actor="a", subject=key.id, at=1.0, request_id="r")
    DynamoDBKeys(Table(container.client, container.table)).create(key, action)
    event = {
        "type": "REQUEST",
        "methodArn": "arn:aws:execute-api:us-east-1:0:api/api/GET/v1/models",
        "headers": {"authorization": f"Bearer {secret}"},
    }
    container.wire.clear()
    for _ in range(3):
        answer = authorizer.handler(event, FakeLambdaContext())
        assert answer["policyDocument"]["Statement"][0]["Effect"] == "Allow"
    assert container.wire.operations == ["GetItem"]
    # What it says is believed for a minute: a revocation before it must be seen.
    assert container.wire.consistent == [True]
