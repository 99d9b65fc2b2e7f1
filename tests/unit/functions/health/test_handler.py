import json
from typing import Any

import pytest

from functions.health import handler as module
from sluice.domain.errors import ConfigurationError, SluiceError, StateError
from sluice.services.check_health import CheckHealth
from sluice.testing.invocations import FakeLambdaContext, api_event
from sluice.testing.routes import FakeRoutes, target


def ask(monkeypatch: pytest.MonkeyPatch, routes: FakeRoutes) -> tuple[int, Any]:
    monkeypatch.setattr(module, "health", lambda: CheckHealth(routes, "test"))
    response = module.handler(api_event("GET", "/v1/health"), FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def test_a_platform_that_can_serve_says_so_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    status, body = ask(monkeypatch, FakeRoutes(target("bedrock/one")))
    assert (status, body["status"], body["environment"], body["models"]) == (200, "ok", "test", 1)


def test_a_platform_without_routes_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    status, body = ask(monkeypatch, FakeRoutes())
    assert (status, body["status"]) == (503, "no_routes")


@pytest.mark.parametrize(
    ("failure", "status"), [(StateError("The table is throttling."), 503), (ConfigurationError("AccessDenied"), 500)]
)
def test_a_platform_that_cannot_read_its_routes_is_not_healthy(
    monkeypatch: pytest.MonkeyPatch, failure: SluiceError, status: int
) -> None:
    routes = FakeRoutes()
    routes.failing = failure
    assert ask(monkeypatch, routes)[0] == status
