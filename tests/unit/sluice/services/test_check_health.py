import pytest

from sluice.domain.errors import StateError
from sluice.services.check_health import CheckHealth
from sluice.testing.routes import FakeRoutes, alias, target


def test_a_platform_with_routes_is_serving() -> None:
    health = CheckHealth(FakeRoutes(target("a"), alias("auto", "a")), "test").check()
    assert (health.serving, health.status, health.models, health.environment) == (True, "ok", 2, "test")


def test_a_platform_without_routes_is_not() -> None:
    assert not CheckHealth(FakeRoutes(), "test").check().serving


def test_a_table_that_cannot_be_read_is_not_hidden() -> None:
    routes = FakeRoutes()
    routes.failing = StateError("The table is throttling.")
    with pytest.raises(StateError):
        CheckHealth(routes, "test").check()
