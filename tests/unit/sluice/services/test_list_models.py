import pytest

from sluice.domain.errors import NotFoundError, PermissionDeniedError
from sluice.domain.inference import Caller
from sluice.services.list_models import ListModels
from sluice.testing.routes import FakeRoutes, alias, target

ANYONE = Caller(key_id="key_1", request_id="r")
RESTRICTED = Caller(key_id="key_1", request_id="r", allowed_models=("auto",))
MODELS = ListModels(FakeRoutes(target("bedrock/one"), target("openai/two"), alias("auto", "bedrock/one", "openai/two")))


def test_aliases_and_targets_are_listed_by_name_with_their_owner() -> None:
    assert [(model.id, model.owner) for model in MODELS.all(ANYONE)] == [
        ("auto", "sluice"),
        ("bedrock/one", "bedrock"),
        ("openai/two", "openai"),
    ]


def test_a_restricted_key_sees_only_what_it_may_use() -> None:
    assert [model.id for model in MODELS.all(RESTRICTED)] == ["auto"]


def test_one_model_is_described_by_name() -> None:
    assert MODELS.one("openai/two", ANYONE).created == 1_700_000_000


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(NotFoundError) as raised:
        MODELS.one("nonsense", ANYONE)
    assert raised.value.code == "model_not_found"


def test_a_model_that_the_key_may_not_use_is_refused() -> None:
    with pytest.raises(PermissionDeniedError):
        MODELS.one("openai/two", RESTRICTED)
