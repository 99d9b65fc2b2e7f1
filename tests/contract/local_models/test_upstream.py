"""Chat forwarded to another OpenAI-compatible server: here a second instance of this very one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from botocore.exceptions import ClientError, EventStreamError

from tests.contract.local_models.support import CHAT, EMBEDDINGS, KEY, Server, drained, running, says, user

CONTEXT = "The ferry leaves at seven. Bicycles travel free of charge. Dogs need a lead."
BIKES = says("Do bicycles cost anything?", CONTEXT)
ANSWER = "Bicycles travel free of charge."


@pytest.fixture(scope="module")
def gateway_server(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {"SLUICE_LOCAL_LLM_URL": f"{shared_server.url}/openai/v1/", "SLUICE_LOCAL_LLM_API_KEY": KEY}
    with running(tmp_path_factory.mktemp("upstream") / "gateway", **environment) as server:
        yield server


@pytest.fixture
def gateway(gateway_server: Server, server: Server) -> Server:
    """The forwarding server; ``server`` is its upstream."""
    gateway_server.call("DELETE", "/faults")
    return gateway_server


def converse(server: Server, **more: Any) -> Any:
    return server.bedrock.converse(modelId=CHAT, messages=user(f"{CONTEXT} Do bicycles cost anything?"), **more)


def test_the_upstreams_answer_comes_in_each_protocol(gateway: Server, server: Server) -> None:
    assert gateway.call("GET", "/health").json["chat"] == "forwarded"
    whole = gateway.openai().chat.completions.create(model=CHAT, messages=BIKES)
    assert whole.choices[0].message.content == ANSWER
    assert whole.usage == server.openai().chat.completions.create(model=CHAT, messages=BIKES).usage
    translated = converse(gateway)
    assert translated["output"]["message"]["content"][0]["text"] == ANSWER
    assert translated["usage"] == converse(server)["usage"]
    # Two through the gateway, and the two asked here directly.
    assert server.calls(CHAT) == 4


def test_streams_are_forwarded_in_each_protocol(gateway: Server, server: Server) -> None:
    chunks = list(
        gateway.openai().chat.completions.create(
            model=CHAT, messages=BIKES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[-1].usage is not None
    events = list(drained(gateway.bedrock.converse_stream(modelId=CHAT, messages=user(BIKES[0]["content"]))["stream"]))
    assert [next(iter(event)) for event in events][-3:] == ["contentBlockStop", "messageStop", "metadata"]
    assert server.calls(CHAT) == 2


def test_limits_and_stops_are_forwarded(gateway: Server) -> None:
    short = gateway.openai().chat.completions.create(
        model=CHAT, messages=BIKES, max_tokens=3, temperature=0.5, top_p=0.5
    )
    assert (short.choices[0].finish_reason, short.usage and short.usage.completion_tokens) == ("length", 3)
    assert converse(gateway, inferenceConfig={"maxTokens": 3})["stopReason"] == "max_tokens"
    stopped = gateway.openai().chat.completions.create(model=CHAT, messages=BIKES, stop=[" free"])
    assert stopped.choices[0].message.content == "Bicycles travel"


def test_only_chat_is_forwarded(gateway: Server, server: Server) -> None:
    assert gateway.openai().embeddings.create(model=EMBEDDINGS, input="hello", encoding_format="float").data
    assert server.call("GET", "/requests").json["total"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_the_upstreams_throttle_is_passed_on(gateway: Server, server: Server, stream: bool) -> None:
    server.fault(CHAT, kind="throttle", retry_after=9)
    with pytest.raises(openai.RateLimitError) as caught:
        gateway.openai().chat.completions.create(model=CHAT, messages=BIKES, stream=stream)
    assert caught.value.response.headers["retry-after"] == "9"
    with pytest.raises(gateway.bedrock.exceptions.ThrottlingException):
        converse(gateway)


def test_the_upstreams_failure_is_passed_on(gateway: Server, server: Server) -> None:
    server.fault(CHAT, kind="error", status=503)
    with pytest.raises(openai.InternalServerError) as caught:
        gateway.openai().chat.completions.create(model=CHAT, messages=BIKES)
    assert caught.value.status_code == 503
    with pytest.raises(gateway.bedrock.exceptions.ServiceUnavailableException):
        converse(gateway)


def test_an_upstream_that_breaks_off_ends_the_stream_with_an_error(gateway: Server, server: Server) -> None:
    server.fault(CHAT, kind="cut_stream", after_tokens=2)
    with pytest.raises(openai.APIError, match="unavailable"):
        list(drained(gateway.openai().chat.completions.create(model=CHAT, messages=BIKES, stream=True)))
    with pytest.raises(EventStreamError, match="unavailable"):
        list(drained(gateway.bedrock.converse_stream(modelId=CHAT, messages=user(BIKES[0]["content"]))["stream"]))
    with pytest.raises(openai.InternalServerError):
        gateway.openai().chat.completions.create(model=CHAT, messages=BIKES)


def test_an_upstream_that_talks_garbage_is_unavailable(gateway: Server, server: Server) -> None:
    server.fault(CHAT, kind="garbage")
    with pytest.raises(gateway.bedrock.exceptions.ServiceUnavailableException):
        converse(gateway)


def test_an_upstream_out_of_reach_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"
        with running(tmp_path / "server", SLUICE_LOCAL_LLM_URL=nobody) as server:
            with pytest.raises(openai.InternalServerError) as caught:
                server.openai().chat.completions.create(model=CHAT, messages=BIKES)
            assert caught.value.status_code == 503
            with pytest.raises(ClientError):
                converse(server)
