"""Every route that takes a key holds it to its scope, before anything else is looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions.async_status import handler as async_status
from functions.async_submit import handler as async_submit
from functions.batches import handler as batches
from functions.chat import handler as chat
from functions.chat_completions import handler as chat_completions
from functions.classify import handler as classify
from functions.completions import handler as completions
from functions.embeddings import handler as embeddings
from functions.files import handler as files
from functions.models import handler as models
from functions.score import handler as score
from functions.uploads import handler as uploads
from functions.webhooks import handler as webhooks
from functions.workflow_start import handler as workflow_start
from functions.workflow_status import handler as workflow_status
from sluice.domain.keys import Scope
from sluice.services.list_models import ListModels
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.routes import FakeRoutes, target

GUARDED = [
    (chat, Scope.INFERENCE),
    (chat_completions, Scope.INFERENCE),
    (classify, Scope.INFERENCE),
    (completions, Scope.INFERENCE),
    (embeddings, Scope.INFERENCE),
    (score, Scope.INFERENCE),
    (async_submit, Scope.BATCH),
    (async_status, Scope.BATCH),
    (batches, Scope.BATCH),
    (files, Scope.BATCH),
    (uploads, Scope.BATCH),
    (webhooks, Scope.BATCH),
    (workflow_start, Scope.WORKFLOW),
    (workflow_status, Scope.WORKFLOW),
]


def call(module: Any, scopes: str) -> tuple[int, Any]:
    event = api_event("POST", "/v1/anything", body="not json", authorizer={**CALLER, "scopes": scopes})
    response = module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


@pytest.mark.parametrize(("module", "scope"), GUARDED)
def test_a_key_without_the_scope_is_refused_and_told_which_it_lacks(module: Any, scope: Scope) -> None:
    others = ",".join(other.value for other in Scope if other is not scope)
    status, body = call(module, others)
    assert (status, body["error"]["code"]) == (403, "insufficient_scope")
    assert f"'{scope.value}'" in body["error"]["message"]


@pytest.mark.parametrize("scope", Scope)
def test_the_catalogue_is_for_every_key(monkeypatch: pytest.MonkeyPatch, scope: Scope) -> None:
    catalogue = ListModels(FakeRoutes(target("a")))
    monkeypatch.setattr(models, "catalogue", lambda: catalogue)
    status, body = call(models, scope.value)
    assert (status, [model["id"] for model in body["data"]]) == (200, ["a"])
