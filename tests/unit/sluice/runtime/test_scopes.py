from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sluice.domain.keys import Scope
from sluice.runtime import invocation
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.scopes import requires
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLUICE_ENVIRONMENT", "test")
    monkeypatch.setenv("SLUICE_SERVICE", "echo")
    invocation._settings.cache_clear()
    yield
    invocation._settings.cache_clear()


@api_function
@requires(Scope.BATCH)
def handler(request: ApiRequest) -> ApiResponse:
    """Answer."""
    return ApiResponse(200, {"key_id": request.authenticated.key_id})


def call(authorizer: dict[str, str]) -> tuple[int, Any]:
    response = handler(api_event("POST", "/v1/echo", body="not json", authorizer=authorizer), FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


@pytest.mark.parametrize("scopes", [None, "", "batch", "inference,batch"])
def test_a_key_with_the_scope_or_with_none_at_all_is_let_in(scopes: str | None) -> None:
    status, body = call(CALLER if scopes is None else {**CALLER, "scopes": scopes})
    assert (status, body) == (200, {"key_id": "key_1"})


@pytest.mark.parametrize("scopes", ["inference", "inference,workflow", "chat", "batches", "BATCH"])
def test_any_other_key_is_told_which_scope_it_lacks(scopes: str) -> None:
    status, body = call({**CALLER, "scopes": scopes})
    error = body["error"]
    assert (status, error["code"], error["type"]) == (403, "insufficient_scope", "permission_error")
    assert "'batch'" in error["message"]


def test_a_route_that_is_deployed_without_the_authorizer_is_a_failure() -> None:
    assert call({})[0] == 500


def test_the_handler_is_still_known_by_its_name() -> None:
    assert (handler.__name__, handler.__doc__) == ("handler", "Answer.")
