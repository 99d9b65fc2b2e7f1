"""Which targets and providers the lines of a chunk may ask."""

from __future__ import annotations

import json

import msgspec
import pytest

from sluice.domain.routing import RouteTable, Target
from sluice.domain.tasks import Task
from sluice.runtime.endpoints import InferenceEndpoints
from sluice.services.chunk_units import ModelsBehind
from sluice.testing.routes import FakeRoutes, alias, target


def at(name: str, provider: str = "bedrock", *, base_url: str | None = None, region: str | None = None) -> Target:
    changes = {"provider": provider, "base_url": base_url, "region": region}
    return msgspec.structs.replace(target(name), **changes)


def task(model: str) -> Task:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return InferenceEndpoints().parse("/v1/chat/completions", json.dumps(body).encode())


def routes(*targets: Target) -> RouteTable:
    return FakeRoutes(*targets, alias("any", *(each.name for each in targets))).load()


@pytest.mark.parametrize(
    ("targets", "providers"),
    [
        ([at("a/1"), at("a/2"), at("b/3")], ["provider#bedrock"]),
        ([at("a/1"), at("a/2", "sagemaker")], ["provider#bedrock", "provider#sagemaker"]),
        (
            [at("a/1", region="us-east-1"), at("a/2", region="eu-west-1"), at("a/3", region="eu-west-1")],
            ["provider#bedrock#eu-west-1", "provider#bedrock#us-east-1"],
        ),
        (
            [
                at("a/1", "openai_compatible", base_url="https://one.example/v1"),
                at("a/2", "openai_compatible", base_url="https://one.example/v1/", region="eu-west-1"),
                at("b/3", "openai_compatible", base_url="https://two.example/v1"),
            ],
            [
                "provider#openai_compatible#https://one.example/v1",
                "provider#openai_compatible#https://two.example/v1",
            ],
        ),
        ([at("a/1", "in_process")], []),
    ],
)
def test_the_providers_behind_a_model(targets: list[Target], providers: list[str]) -> None:
    models = ModelsBehind(routes(*targets), None)
    assert models.providers([task("any"), task("any")]) == providers
    assert models.outside([task("any")]) == [each.name for each in targets if each.provider != "in_process"]


def test_a_model_that_nobody_knows_has_no_provider() -> None:
    assert ModelsBehind(routes(at("a/1")), None).providers([task("unknown")]) == []
