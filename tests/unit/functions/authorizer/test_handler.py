import json
from decimal import Decimal
from typing import Any

import pytest

from functions.authorizer import handler as module
from sluice.domain.audit import Administrator
from sluice.domain.errors import StateError
from sluice.domain.keys import ApiKey, Scope, caller_of, hash_secret, new_secret
from sluice.domain.ledger import Limits
from sluice.runtime import key_context
from sluice.services.authorize import Authorize
from sluice.services.manage_keys import ManageKeys
from sluice.testing.invocations import FakeLambdaContext
from sluice.testing.keys import FakeKeys
from sluice.wire.keys import LATEST, MOST_ALLOWED_MODELS_BYTES, MOST_RPM, MOST_TPM, AdminKeyRequest

SECRET = new_secret()
STAGE = "arn:aws:execute-api:us-east-1:000000000000:abc123/api"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeKeys:
    store = FakeKeys(
        ApiKey(
            id="key_1",
            key_hash=hash_secret(SECRET),
            name="tests",
            prefix=SECRET[:14],
            created_at=1,
            allowed_models=("auto", "bedrock/one"),
        )
    )
    service = Authorize(store, cache_seconds=60)
    monkeypatch.setattr(module, "authorize", lambda: service)
    return store


def ask(**headers: str) -> dict[str, Any]:
    event = {
        "type": "REQUEST",
        "methodArn": f"{STAGE}/POST/v1/chat/completions",
        "headers": {name.replace("_", "-"): value for name, value in headers.items()} or None,
    }
    return module.handler(event, FakeLambdaContext())


def verdict(decision: dict[str, Any]) -> tuple[str, str]:
    [statement] = decision["policyDocument"]["Statement"]
    return statement["Effect"], statement["Resource"]


@pytest.mark.parametrize("headers", [{"Authorization": f"Bearer {SECRET}"}, {"X_Api_Key": SECRET}])
def test_a_usable_key_opens_the_whole_stage(store: FakeKeys, headers: dict[str, str]) -> None:
    decision = ask(**headers)
    assert verdict(decision) == ("Allow", f"{STAGE}/*")
    assert decision["principalId"] == "key_1"
    assert decision["context"] == {
        "key_id": "key_1",
        "key_name": "tests",
        "allowed_models": "auto,bedrock/one",
        "shards": "1",
    }


def test_a_key_without_restriction_passes_none_on(store: FakeKeys) -> None:
    open_secret = new_secret()
    key = ApiKey(id="key_2", key_hash=hash_secret(open_secret), name="open", prefix="sk", created_at=1)
    store.stored[key.key_hash] = key
    assert ask(Authorization=f"Bearer {open_secret}")["context"] == {
        "key_id": "key_2",
        "key_name": "open",
        "shards": "1",
    }


def test_what_the_key_may_use_is_passed_on_to_the_routes(store: FakeKeys) -> None:
    secret = new_secret()
    limits = Limits(rpm=60, monthly_budget_micro_usd=Decimal("1.5"), shards=2)
    key = ApiKey(
        id="key_2",
        key_hash=hash_secret(secret),
        name="open",
        prefix="sk",
        created_at=1,
        scopes=("batch", "workflow"),
        limits=limits,
    )
    store.stored[key.key_hash] = key
    context = ask(Authorization=f"Bearer {secret}")["context"]
    assert all(isinstance(value, str) for value in context.values())
    assert key_context.caller(context, "request-1") == caller_of(key, "request-1")


def test_of_no_key_more_is_told_than_api_gateway_takes(store: FakeKeys) -> None:
    asked = AdminKeyRequest(
        name="\U0001f511" * 128,
        scopes=list(Scope),
        allowed_models=[f"{number:0127}" for number in range(MOST_ALLOWED_MODELS_BYTES // 128)],
        rpm=MOST_RPM,
        tpm=MOST_TPM,
        monthly_budget_usd="999999999999.999999999999",
        total_budget_usd="999999999999.999999999999",
        expires_at=LATEST,
    )
    _, secret = ManageKeys(store).create(asked.to_settings(), Administrator(actor="ada", request_id="request-1"))
    decision = ask(x_api_key=secret)
    assert verdict(decision)[0] == "Allow"
    # https://docs.aws.amazon.com/general/latest/gr/apigateway.html
    assert len(json.dumps(decision)) < 8_192


@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Bearer {new_secret()}"}, {"Authorization": "Basic x"}])
def test_anything_else_is_denied_without_an_error_of_the_function(
    store: FakeKeys, headers: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    decision = ask(**headers)
    assert verdict(decision) == ("Deny", f"{STAGE}/*")
    assert decision["context"] == {}
    canonical, metric = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (canonical["level"], canonical["allowed"], metric["Errors"]) == ("info", False, 0)
    assert canonical["reason"]


def test_a_key_that_cannot_be_looked_up_is_a_failure_not_a_denial(store: FakeKeys) -> None:
    store.failing = StateError("The table is throttling.")
    with pytest.raises(StateError):
        ask(Authorization=f"Bearer {SECRET}")


@pytest.mark.parametrize("failing", [False, True])
def test_no_key_is_ever_logged(store: FakeKeys, failing: bool, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = [SECRET, new_secret(), "sk-sluice-malformed-" + new_secret()]
    if failing:
        store.failing = StateError("The table is throttling.")
    for secret in secrets:
        for headers in ({"Authorization": f"Bearer {secret}"}, {"x-api-key": secret}):
            try:
                ask(**headers)
            except StateError:
                continue
    output = capsys.readouterr().out
    assert not any(secret in output or hash_secret(secret) in output for secret in secrets)


@pytest.mark.parametrize(
    ("proposed", "bound"),
    [("the-callers-own", "the-callers-own"), ("no good!", "gateway-request-1"), (None, "gateway-request-1")],
)
@pytest.mark.parametrize("key", [SECRET, "wrong"])
def test_its_lines_carry_the_request_id_that_the_route_has(
    store: FakeKeys, capsys: pytest.CaptureFixture[str], proposed: str | None, bound: str, key: str
) -> None:
    headers = {"authorization": f"Bearer {key}"} | ({} if proposed is None else {"X-Request-Id": proposed})
    event = {
        "type": "REQUEST",
        "methodArn": f"{STAGE}/GET/v1/models",
        "headers": headers,
        "requestContext": {"requestId": "gateway-request-1"},
    }
    module.handler(event, FakeLambdaContext())
    canonical = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (canonical["event"], canonical["request_id"]) == ("request", bound)
