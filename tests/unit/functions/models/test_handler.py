import json
from typing import Any

import pytest
from openai.types import Model

from functions.models import handler as module
from sluice.services.list_models import ListModels
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.routes import FakeRoutes, alias, target


@pytest.fixture(autouse=True)
def catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    models = ListModels(FakeRoutes(target("bedrock/one"), alias("auto", "bedrock/one")))
    monkeypatch.setattr(module, "catalogue", lambda: models)


def ask(model: str | None = None, *, allowed_models: str | None = None) -> tuple[int, Any]:
    authorizer = {**CALLER, "allowed_models": allowed_models} if allowed_models else CALLER
    resource, parameters = ("/v1/models/{model+}", {"model": model}) if model else ("/v1/models", None)
    event = api_event("GET", resource, path_parameters=parameters, authorizer=authorizer)
    response = module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def test_models_are_listed_in_openais_format() -> None:
    status, body = ask()
    assert (status, body["object"]) == (200, "list")
    assert [Model.model_validate(model, strict=True).id for model in body["data"]] == ["auto", "bedrock/one"]


@pytest.mark.parametrize("path", ["bedrock/one", "bedrock%2Fone"])
def test_one_model_is_described_whichever_way_its_slash_is_sent(path: str) -> None:
    assert ask(path) == (
        200,
        {"id": "bedrock/one", "object": "model", "created": 1_700_000_000, "owned_by": "bedrock"},
    )


def test_an_unknown_model_is_not_found() -> None:
    status, body = ask("nonsense")
    assert (status, body["error"]["code"]) == (404, "model_not_found")


def test_a_restricted_key_sees_its_own_models_only() -> None:
    assert [model["id"] for model in ask(allowed_models="auto")[1]["data"]] == ["auto"]
    assert ask("bedrock/one", allowed_models="auto")[0] == 403
