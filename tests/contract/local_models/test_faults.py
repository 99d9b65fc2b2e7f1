"""Every fault in every protocol, as the official clients' own exceptions tell it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EventStreamError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import IncompleteRead, InvalidChunkLength, ProtocolError

from tests.contract.local_models.support import CHAT, EMBEDDINGS, KEY, SCORER, Server, drained, eventually, says, user

CONTEXT = "The ferry leaves at seven. Bicycles travel free of charge. Dogs need a lead."
BIKES = says("Do bicycles cost anything?", CONTEXT)
ANSWER = "Bicycles travel free of charge."
ROW = json.dumps({"instances": [[1.0] * 50]})
# What urllib3 raises, and botocore passes on, when a chunked body stops without its end.
BROKEN_OFF = (ProtocolError, IncompleteRead, InvalidChunkLength, ResponseStreamingError, ConnectionClosedError)


def converse(server: Server) -> Any:
    return server.bedrock.converse(modelId=CHAT, messages=user(f"{CONTEXT} Do bicycles cost anything?"))


def converse_stream(server: Server) -> Iterator[Any]:
    answer = server.bedrock.converse_stream(modelId=CHAT, messages=user(f"{CONTEXT} Do bicycles cost anything?"))
    return drained(answer["stream"])


def titan(server: Server) -> Any:
    return server.bedrock.invoke_model(modelId=EMBEDDINGS, body=b'{"inputText": "hello"}')["body"].read()


def score(server: Server) -> Any:
    answer = server.sagemaker.invoke_endpoint(EndpointName=SCORER, Body=ROW, ContentType="application/json")
    return answer["Body"].read()


def chat(server: Server) -> Any:
    return server.openai().chat.completions.create(model=CHAT, messages=BIKES)


def chat_stream(server: Server) -> Iterator[Any]:
    return drained(server.openai().chat.completions.create(model=CHAT, messages=BIKES, stream=True))


def embed(server: Server) -> Any:
    return server.openai().embeddings.create(model=EMBEDDINGS, input="hello", encoding_format="float")


AWS = [(converse, CHAT), (converse_stream, CHAT), (titan, EMBEDDINGS), (score, SCORER)]
OPENAI = [(chat, CHAT), (chat_stream, CHAT), (embed, EMBEDDINGS)]
UNSTREAMED = [(converse, CHAT), (titan, EMBEDDINGS), (score, SCORER), (chat, CHAT), (embed, EMBEDDINGS)]
Calls = Callable[[Server], Any]


# ------------------------------------------------------------------------------------------ throttle
@pytest.mark.parametrize(("call", "model"), AWS)
def test_a_throttle_is_aws_throttling_exception(server: Server, call: Calls, model: str) -> None:
    server.fault(model, kind="throttle", retry_after=7)
    with pytest.raises(ClientError) as caught:
        call(server)
    response = caught.value.response
    assert response["Error"]["Code"] == "ThrottlingException"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == (400 if call is score else 429)
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"


@pytest.mark.parametrize(("call", "model"), OPENAI)
def test_a_throttle_is_openais_rate_limit_error(server: Server, call: Calls, model: str) -> None:
    server.fault(model, kind="throttle", retry_after=1.5)
    with pytest.raises(openai.RateLimitError) as caught:
        call(server)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "2"
    assert caught.value.response.headers["retry-after-ms"] == "1500"


def test_a_throttle_without_a_wait_names_none(server: Server) -> None:
    server.fault(CHAT, kind="throttle")
    with pytest.raises(openai.RateLimitError) as caught:
        chat(server)
    assert "retry-after" not in caught.value.response.headers
    with pytest.raises(server.bedrock.exceptions.ThrottlingException):
        converse(server)


# --------------------------------------------------------------------------------------------- error
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalServerException"),
        (502, "InternalServerException"),
        (503, "ServiceUnavailableException"),
        (408, "ModelTimeoutException"),
        (424, "ModelErrorException"),
        (403, "AccessDeniedException"),
        (400, "ValidationException"),
    ],
)
@pytest.mark.parametrize("call", [converse, converse_stream])
def test_an_error_is_bedrocks_exception_of_that_status(server: Server, call: Calls, status: int, code: str) -> None:
    server.fault(CHAT, kind="error", status=status)
    with pytest.raises(ClientError) as caught:
        call(server)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalFailure"), (503, "ServiceUnavailable"), (530, "InternalDependencyException")]
)
def test_an_error_is_sagemakers_error_of_that_status(server: Server, status: int, code: str) -> None:
    server.fault(SCORER, kind="error", status=status)
    with pytest.raises(ClientError) as caught:
        score(server)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_a_broken_container_is_sagemakers_model_error(server: Server) -> None:
    server.fault(SCORER, kind="error", status=424)
    with pytest.raises(server.sagemaker.exceptions.ModelError) as caught:
        score(server)
    # The stubs do not know what this one error adds.
    response: Any = caught.value.response
    assert response["OriginalStatusCode"] == 500


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
        (529, openai.InternalServerError),
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
    ],
)
@pytest.mark.parametrize(("call", "model"), OPENAI)
def test_an_error_is_openais_error_of_that_status(
    server: Server, call: Calls, model: str, status: int, error: type[openai.APIStatusError]
) -> None:
    server.fault(model, kind="error", status=status)
    with pytest.raises(error) as caught:
        call(server)
    assert caught.value.status_code == status
    assert caught.value.type in {"server_error", "invalid_request_error"}


# ---------------------------------------------------------------------------------------------- hang
def test_a_hang_outlasts_an_impatient_client(server: Server) -> None:
    for model in (CHAT, SCORER):
        server.fault(model, kind="hang", seconds=30)
    with pytest.raises(ReadTimeoutError):
        server.impatient_bedrock().converse(modelId=CHAT, messages=user("Hello."))
    with pytest.raises(ReadTimeoutError):
        server.impatient_sagemaker().invoke_endpoint(EndpointName=SCORER, Body=ROW, ContentType="application/json")
    with pytest.raises(openai.APITimeoutError):
        server.openai(timeout_s=0.4).chat.completions.create(model=CHAT, messages=BIKES)


def test_a_hang_ends_without_an_answer(server: Server) -> None:
    server.fault(CHAT, kind="hang", seconds=0.3)
    started = time.monotonic()
    with pytest.raises(openai.APIConnectionError):
        chat(server)
    with pytest.raises(ConnectionClosedError):
        converse(server)
    assert 0.6 <= time.monotonic() - started < 5


def test_a_hang_ends_when_its_client_leaves(server: Server) -> None:
    """A server that went on waiting would hold a task for each such client."""
    server.fault(CHAT, kind="hang", seconds=60)
    address = urlsplit(server.url)
    body = json.dumps({"model": CHAT, "messages": BIKES}).encode()
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(
            b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
            + KEY.encode()
            + b"\r\ncontent-length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body
        )
        eventually(lambda: server.calls(CHAT) == 1, within_s=5, what="the call arrives")
        client.shutdown(socket.SHUT_WR)
        client.settimeout(5)
        assert client.recv(100) == b""


# ------------------------------------------------------------------------------------------- latency
@pytest.mark.parametrize(("call", "model"), UNSTREAMED)
def test_latency_delays_the_usual_answer(server: Server, call: Calls, model: str) -> None:
    usual = call(server)
    server.fault(model, kind="latency", seconds=0.4)
    started = time.monotonic()
    late = call(server)
    assert time.monotonic() - started >= 0.4
    assert type(late) is type(usual)


def test_latency_delays_a_stream_and_leaves_it_whole(server: Server) -> None:
    server.fault(CHAT, kind="latency", seconds=0.4)
    started = time.monotonic()
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chat_stream(server))
    assert time.monotonic() - started >= 0.4
    assert text == ANSWER


# ----------------------------------------------------------------------------------------------- cut
@pytest.mark.parametrize(("call", "model"), [*AWS, *OPENAI])
def test_a_cut_at_the_start_leaves_no_answer(server: Server, call: Calls, model: str) -> None:
    server.fault(model, kind="cut")
    with pytest.raises((ConnectionClosedError, openai.APIConnectionError)):
        call(server)


@pytest.mark.parametrize("at", ["headers", "body"])
@pytest.mark.parametrize(("call", "model"), UNSTREAMED)
def test_a_cut_after_the_headers_breaks_the_body_off(server: Server, call: Calls, model: str, at: str) -> None:
    server.fault(model, kind="cut", at=at)
    if call is converse:
        # botocore itself takes what it cannot read for an empty answer.
        assert "output" not in call(server)
        return
    with pytest.raises((*BROKEN_OFF, openai.APIConnectionError)):
        call(server)


@pytest.mark.parametrize(("at", "length"), [("headers", 0), ("body", None)])
def test_a_cut_tells_the_whole_length_and_sends_less(server: Server, at: str, length: int | None) -> None:
    server.fault(CHAT, kind="cut", at=at)
    head, _, body = raw(server, f"/model/{CHAT}/converse", {"messages": user("Hello.")}).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    promised = next(
        int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length")
    )
    assert len(body) == (promised // 2 if length is None else length)


@pytest.mark.parametrize("spec", [{"kind": "cut", "at": "headers"}, {"kind": "cut", "at": "body"}])
def test_a_cut_breaks_streams_off_too(server: Server, spec: dict[str, Any]) -> None:
    server.fault(CHAT, **spec)
    with pytest.raises(openai.APIConnectionError):
        list(chat_stream(server))
    with pytest.raises(BROKEN_OFF):
        list(converse_stream(server))


# ---------------------------------------------------------------------------------------- cut_stream
@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_a_cut_stream_ends_after_its_tokens(server: Server, tokens: int) -> None:
    server.fault(CHAT, kind="cut_stream", after_tokens=tokens)
    pieces: list[str] = []
    with pytest.raises(openai.APIConnectionError):
        pieces.extend(chunk.choices[0].delta.content for chunk in chat_stream(server) if chunk.choices[0].delta.content)
    events: list[Any] = []
    with pytest.raises(BROKEN_OFF):
        events.extend(event for event in converse_stream(server) if "contentBlockDelta" in event)
    sse = raw(server, "/openai/v1/chat/completions", {"model": CHAT, "messages": BIKES, "stream": True})
    assert sse.count(b'"content":"') - 1 == tokens
    frames = raw(server, f"/model/{CHAT}/converse-stream", {"messages": user("Hello there my friend.")})
    assert frames.count(b"contentBlockDelta") == tokens
    assert b"messageStop" not in frames
    assert b"[DONE]" not in sse


def test_a_cut_stream_also_cuts_an_answer_shorter_than_its_tokens(server: Server) -> None:
    server.fault(CHAT, kind="cut_stream", after_tokens=10_000)
    with pytest.raises(openai.APIConnectionError):
        list(chat_stream(server))
    with pytest.raises(BROKEN_OFF):
        list(converse_stream(server))


def test_a_cut_stream_leaves_other_calls_alone_and_waits_for_a_stream(server: Server) -> None:
    server.fault(CHAT, kind="cut_stream", times=1)
    assert chat(server).choices[0].message.content == ANSWER
    assert converse(server)["stopReason"] == "end_turn"
    with pytest.raises(openai.APIConnectionError):
        list(chat_stream(server))
    assert list(chat_stream(server))


# ---------------------------------------------------------------------------- an error in mid-stream
@pytest.mark.parametrize(
    ("spec", "aws", "code"),
    [
        ({"kind": "throttle"}, "throttlingException", "rate_limit_exceeded"),
        ({"kind": "error", "status": 500}, "internalServerException", None),
        ({"kind": "error", "status": 503}, "serviceUnavailableException", "service_unavailable"),
        ({"kind": "error", "status": 424}, "modelStreamErrorException", None),
    ],
)
def test_an_error_can_strike_in_mid_stream(server: Server, spec: dict[str, Any], aws: str, code: str | None) -> None:
    server.fault(CHAT, after_tokens=2, **spec)
    seen: list[Any] = []
    with pytest.raises(openai.APIError) as wrong:
        seen.extend(chat_stream(server))
    assert wrong.value.code == code
    events: list[Any] = []
    with pytest.raises(EventStreamError) as caught:
        events.extend(converse_stream(server))
    assert caught.value.response["Error"]["Code"] == aws
    with pytest.raises((openai.RateLimitError, openai.APIStatusError)):
        chat(server)


# ------------------------------------------------------------------------------------------- garbage
@pytest.mark.parametrize(("call", "model"), UNSTREAMED)
def test_garbage_is_a_200_that_cannot_be_read(server: Server, call: Calls, model: str) -> None:
    server.fault(model, kind="garbage")
    if call in {titan, score}:
        # The body of these is the caller's to read.
        with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter|double quotes|Extra data|Invalid"):
            json.loads(call(server))
    elif call is converse:
        # botocore itself takes what it cannot read for an empty answer.
        assert "output" not in call(server)
    else:
        with pytest.raises((openai.APIResponseValidationError, json.JSONDecodeError)):
            call(server)


def test_garbage_damages_one_frame_of_a_stream(server: Server) -> None:
    server.fault(CHAT, kind="garbage")
    with pytest.raises(ChecksumMismatch):
        list(converse_stream(server))
    with pytest.raises(json.JSONDecodeError):
        list(chat_stream(server))


# ------------------------------------------------------------------------------- which calls it hits
def test_a_fault_strikes_as_often_as_it_says(server: Server) -> None:
    server.fault(CHAT, kind="error", status=503, times=2)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            chat(server)
    assert chat(server).choices[0].message.content == ANSWER
    assert server.call("GET", "/faults").json == {"faults": []}


def test_a_fault_may_concern_one_protocol(server: Server) -> None:
    server.fault(CHAT, kind="error", protocol="bedrock")
    assert chat(server).choices[0].message.content == ANSWER
    with pytest.raises(server.bedrock.exceptions.InternalServerException):
        converse(server)


def test_each_protocol_may_have_a_fault_of_its_own(server: Server) -> None:
    server.fault(CHAT, kind="throttle", protocol="bedrock")
    server.fault(CHAT, kind="error", status=500)
    with pytest.raises(server.bedrock.exceptions.ThrottlingException):
        converse(server)
    with pytest.raises(openai.InternalServerError):
        chat(server)


def test_a_fault_concerns_one_model(server: Server) -> None:
    server.fault(CHAT, kind="error")
    assert embed(server).data
    assert score(server)


def test_a_new_fault_replaces_the_old_one(server: Server) -> None:
    server.fault(CHAT, kind="error")
    server.fault(CHAT, kind="throttle")
    with pytest.raises(openai.RateLimitError):
        chat(server)


def test_faults_are_listed_and_deleted(server: Server) -> None:
    server.fault(CHAT, kind="throttle", retry_after=2, times=3, protocol="openai")
    server.fault(SCORER, kind="latency", seconds=0)
    with pytest.raises(openai.RateLimitError):
        chat(server)
    listed = server.call("GET", "/faults").json["faults"]
    assert [(one["model"], one["kind"], one["struck"], one["times"]) for one in listed] == [
        (CHAT, "throttle", 1, 3),
        (SCORER, "latency", 0, None),
    ]
    assert server.call("DELETE", f"/faults/{CHAT}").json == {"deleted": 1}
    assert chat(server)
    assert server.call("DELETE", "/faults").json == {"deleted": 1}
    assert server.call("GET", "/faults").json == {"faults": []}


@pytest.mark.parametrize(
    ("model", "spec", "says"),
    [
        ("nothing", {"kind": "cut"}, "'nothing' is unknown"),
        (CHAT, b"", "truncated"),
        (CHAT, b"\xff", "malformed"),
        (CHAT, [], "Expected `object`"),
        (CHAT, {}, "missing required field `kind`"),
        (CHAT, {"kind": "explode"}, "explode"),
        (CHAT, {"kind": "cut", "often": 1}, "often"),
        (CHAT, {"kind": "hang", "retry_after": 1}, "retry_after: not understood by kind 'hang'"),
        (CHAT, {"kind": "latency"}, "seconds: required"),
        (CHAT, {"kind": "latency", "seconds": -1}, "seconds: must be between 0 and 600"),
        (CHAT, {"kind": "hang", "seconds": 1e9}, "seconds: must be between 0 and 600"),
        (CHAT, {"kind": "error", "status": 200}, "status: must be an error status"),
        (CHAT, {"kind": "throttle", "retry_after": "soon"}, "retry_after"),
        (CHAT, {"kind": "cut", "times": 0}, "times: must be 1 or more"),
        (CHAT, {"kind": "cut", "at": "end"}, "at"),
        (CHAT, {"kind": "cut_stream", "after_tokens": -1}, "after_tokens"),
        (CHAT, {"kind": "cut", "protocol": "grpc"}, "grpc"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_the_reason(
    server: Server, model: str, spec: Any, says: str
) -> None:
    answer = server.call("PUT", f"/faults/{model}", spec)
    assert answer.status == 400
    assert says in answer.json["error"]
    assert server.call("GET", "/faults").json == {"faults": []}


# ------------------------------------------------------------------------------------ counting calls
def test_calls_are_counted_by_model_protocol_and_operation(server: Server) -> None:
    server.fault(CHAT, kind="throttle", times=1)
    with pytest.raises(openai.RateLimitError):
        chat(server)
    chat(server)
    converse(server)
    list(converse_stream(server))
    score(server)
    report = server.call("GET", f"/requests?model={CHAT}").json
    assert report["total"] == 4
    assert {(row["protocol"], row["operation"]): row["count"] for row in report["requests"]} == {
        ("bedrock", "converse"): 1,
        ("bedrock", "converse_stream"): 1,
        ("openai", "chat.completions"): 2,
    }
    assert server.call("GET", "/requests").json["total"] == 5
    server.call("DELETE", "/requests")
    assert server.call("GET", "/requests").json == {"total": 0, "requests": []}


def raw(server: Server, path: str, body: object) -> bytes:
    """Everything the server sends before it closes the connection."""
    address = urlsplit(server.url)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(data)}\r\n\r\n"
    received = b""
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(head.encode() + data)
        while part := client.recv(65_536):
            received += part
    return received


# --------------------------------------------------------------------------------------------- prose


FORM = {
    "type": "json_schema",
    "json_schema": {"name": "price", "schema": {"properties": {"price": {"type": "string"}}}},
}


def test_prose_is_text_where_json_was_asked_for_and_the_next_answer_is_json_again(server: Server) -> None:
    server.fault(CHAT, kind="prose", times=1)
    asked: dict[str, Any] = {"model": CHAT, "messages": BIKES, "response_format": FORM}
    first, second = (server.openai().chat.completions.create(**asked).choices[0].message.content for _ in range(2))
    assert first == ANSWER
    assert isinstance(json.loads(second or ""), dict)
