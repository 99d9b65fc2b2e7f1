"""Both provider adapters against the local model server, made and wired as the runtime does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
import msgspec
import pytest
from botocore.config import Config

from sluice.adapters.bedrock import Bedrock
from sluice.adapters.openai_compatible import OpenAICompatible
from sluice.domain.errors import ConfigurationError
from sluice.domain.inference import Operation
from sluice.domain.ports import ModelProvider
from sluice.domain.routing import ProviderName, Target
from tests.contract.local_models.support import CHAT, EMBEDDINGS, KEY, Server, running

if TYPE_CHECKING:
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient

OPERATIONS = (Operation.CHAT, Operation.EMBED)


class Secrets:
    """The provider secret, with the one field that the local models ask for."""

    def __init__(self) -> None:
        self.fields = {"local": KEY}
        self.forgotten = 0

    def field(self, name: str) -> str:
        if name not in self.fields:
            raise ConfigurationError(f"The provider secret has no field '{name}'.")
        return self.fields[name]

    def forget(self) -> None:
        self.forgotten += 1


@dataclass
class Provider:
    """An adapter, its targets, and the server behind it."""

    server: Server
    adapter: ModelProvider
    chat: Target
    embeddings: Target
    secrets: Secrets

    def fault(self, **spec: object) -> None:
        self.server.fault(CHAT, **spec)
        self.server.fault(EMBEDDINGS, **spec)

    def elsewhere(self, base_url: str) -> Target:
        """The chat target at another address."""
        return msgspec.structs.replace(self.chat, base_url=base_url)


@pytest.fixture(scope="session")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("providers") / "state") as server:
        yield server


def _target(provider: ProviderName, model: str, server: Server) -> Target:
    name = f"{provider.removesuffix('_compatible')}/{model}"
    if provider == "bedrock":
        return Target(name=name, provider=provider, model=model, operations=OPERATIONS)
    url = f"{server.url}/openai/v1"
    return Target(name=name, provider=provider, model=model, operations=OPERATIONS, base_url=url, secret_field="local")


def _bedrock(server: Server) -> Bedrock:
    def client_for(timeout_s: float) -> BedrockRuntimeClient:
        config = Config(connect_timeout=2, read_timeout=timeout_s, retries={"total_max_attempts": 1})
        return boto3.client("bedrock-runtime", endpoint_url=server.url, region_name="us-east-1", config=config)

    return Bedrock(client_for, longest_timeout_s=20)


@pytest.fixture(params=["bedrock", "openai_compatible"])
def provider(request: pytest.FixtureRequest, model_server: Server) -> Provider:
    """Either provider, without faults."""
    model_server.call("DELETE", "/faults")
    model_server.call("DELETE", "/requests")
    kind: ProviderName = request.param
    secrets = Secrets()
    return Provider(
        server=model_server,
        adapter=_bedrock(model_server) if kind == "bedrock" else OpenAICompatible(secrets),
        chat=_target(kind, CHAT, model_server),
        embeddings=_target(kind, EMBEDDINGS, model_server),
        secrets=secrets,
    )


@pytest.fixture
def openai_compatible(model_server: Server) -> Provider:
    model_server.call("DELETE", "/faults")
    secrets = Secrets()
    return Provider(
        server=model_server,
        adapter=OpenAICompatible(secrets),
        chat=_target("openai_compatible", CHAT, model_server),
        embeddings=_target("openai_compatible", EMBEDDINGS, model_server),
        secrets=secrets,
    )
