"""The Bedrock protocol, as boto3 and botocore's own event-stream parser understand it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError

from tests.contract.local_models.support import CHAT, EMBEDDINGS, Server, drained, user

CONTEXT = "The ferry leaves at seven. Bicycles travel free of charge. Dogs need a lead."
QUESTION = f"{CONTEXT} Do bicycles cost anything?"


def stream(server: Server, **request: Any) -> list[dict[str, Any]]:
    return [dict(event) for event in drained(server.bedrock.converse_stream(modelId=CHAT, **request)["stream"])]


def refusal(server: Server, **request: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        server.bedrock.converse(**{"modelId": CHAT, "messages": user("Hello."), **request})
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]


def test_converse_answers_from_the_conversation_with_real_counts(server: Server) -> None:
    answer = server.bedrock.converse(
        modelId=CHAT,
        system=[{"text": CONTEXT}],
        messages=user("Do bicycles cost anything?"),
        inferenceConfig={"maxTokens": 100, "temperature": 0.7, "topP": 0.9},
    )
    assert answer["output"]["message"] == {
        "role": "assistant",
        "content": [{"text": "Bicycles travel free of charge."}],
    }
    assert answer["stopReason"] == "end_turn"
    usage = answer["usage"]
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]
    assert answer["metrics"]["latencyMs"] >= 1
    assert answer["ResponseMetadata"]["RequestId"]


def test_the_token_count_is_that_of_the_embedding_model(server: Server) -> None:
    answer = server.bedrock.converse(modelId=CHAT, messages=user(QUESTION))
    text = answer["output"]["message"]["content"][0]["text"]
    assert answer["usage"]["outputTokens"] == embedded(server, inputText=text)["inputTextTokenCount"]
    assert answer["usage"]["inputTokens"] == embedded(server, inputText=QUESTION)["inputTextTokenCount"]


def test_the_same_request_gets_the_same_answer_at_any_temperature(server: Server) -> None:
    answers = {
        str(
            server.bedrock.converse(modelId=CHAT, messages=user(QUESTION), inferenceConfig={"temperature": t})["output"]
        )
        for t in (0, 0.5, 1)
    }
    assert len(answers) == 1


def test_max_tokens_cuts_the_answer(server: Server) -> None:
    answer = server.bedrock.converse(modelId=CHAT, messages=user(QUESTION), inferenceConfig={"maxTokens": 3})
    whole = "Bicycles travel free of charge."
    assert answer["stopReason"] == "max_tokens"
    assert answer["usage"]["outputTokens"] == 3
    text = answer["output"]["message"]["content"][0]["text"]
    assert whole.startswith(text)
    assert 0 < len(text) < len(whole)


def test_a_stop_sequence_ends_the_answer(server: Server) -> None:
    answer = server.bedrock.converse(
        modelId=CHAT, messages=user(QUESTION), inferenceConfig={"stopSequences": ["nowhere", " free"]}
    )
    assert answer["output"]["message"]["content"][0]["text"] == "Bicycles travel"
    assert answer["stopReason"] == "stop_sequence"


def test_a_stream_has_bedrocks_events_in_bedrocks_order(server: Server) -> None:
    events = stream(server, messages=user(QUESTION))
    kinds = [next(iter(event)) for event in events]
    deltas = [event["contentBlockDelta"] for event in events if "contentBlockDelta" in event]
    assert kinds == [
        "messageStart",
        *["contentBlockDelta"] * len(deltas),
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    assert events[0]["messageStart"] == {"role": "assistant"}
    assert "".join(delta["delta"]["text"] for delta in deltas) == "Bicycles travel free of charge."
    assert len(deltas) > 3
    whole = server.bedrock.converse(modelId=CHAT, messages=user(QUESTION))
    assert events[-2]["messageStop"]["stopReason"] == whole["stopReason"]
    assert events[-1]["metadata"]["usage"] == whole["usage"]
    assert events[-1]["metadata"]["metrics"]["latencyMs"] >= 1


def test_every_frame_passes_botocores_checksums(server: Server) -> None:
    answer = server.call("POST", f"/model/{CHAT}/converse-stream", {"messages": user(QUESTION)})
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    buffer = EventStreamBuffer()
    # Byte by byte, as a slow network would deliver it.
    for i in range(len(answer.body)):
        buffer.add_data(answer.body[i : i + 1])
    # The stubs take the buffer for an iterator of numbers.
    frames: list[Any] = list(buffer)
    assert sum(frame.prelude.total_length for frame in frames) == len(answer.body)
    assert {frame.headers[":message-type"] for frame in frames} == {"event"}
    assert {frame.headers[":content-type"] for frame in frames} == {"application/json"}


def test_a_stream_honours_max_tokens(server: Server) -> None:
    events = stream(server, messages=user(QUESTION), inferenceConfig={"maxTokens": 2})
    assert events[-2]["messageStop"]["stopReason"] == "max_tokens"
    assert events[-1]["metadata"]["usage"]["outputTokens"] == 2


@pytest.mark.parametrize(
    "model",
    [
        CHAT,
        f"arn:aws:bedrock:us-east-1::foundation-model/{CHAT}",
        f"arn:aws:bedrock:eu-west-1::foundation-model/{CHAT}",
    ],
)
def test_a_model_is_named_by_id_or_arn(server: Server, model: str) -> None:
    assert server.bedrock.converse(modelId=model, messages=user(QUESTION))["stopReason"] == "end_turn"
    assert list(drained(server.bedrock.converse_stream(modelId=model, messages=user(QUESTION))["stream"]))


@pytest.mark.parametrize(
    ("model", "code", "status"),
    [
        ("anthropic.claude-x:0", "ValidationException", 400),
        ("arn:aws:bedrock:us-east-1::foundation-model/nothing-v1:0", "ResourceNotFoundException", 404),
        (EMBEDDINGS, "ValidationException", 400),
    ],
)
def test_an_unknown_model_is_refused_by_bedrocks_exception(server: Server, model: str, code: str, status: int) -> None:
    assert refusal(server, modelId=model)[:2] == (code, status)
    errors = server.bedrock.exceptions
    expected = errors.ResourceNotFoundException if status == 404 else errors.ValidationException
    with pytest.raises(expected):
        server.bedrock.converse_stream(modelId=model, messages=user("Hello."))


def test_an_error_has_bedrocks_shape_on_the_wire(server: Server) -> None:
    answer = server.call("POST", "/model/nothing/converse", {"messages": user("Hello.")})
    assert answer.status == 400
    assert answer.headers["x-amzn-errortype"] == "ValidationException"
    assert answer.json == {"message": "The provided model identifier is invalid."}
    assert answer.headers["x-amzn-requestid"]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"messages": []}, "must start with a user message"),
        ({"messages": [{"role": "assistant", "content": [{"text": "Hi."}]}]}, "must start with a user message"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0 is empty"),
        ({"messages": user(" ")}, "messages.0.content.0 is blank"),
        ({"messages": [{"role": "user", "content": [{"cachePoint": {"type": "default"}}]}]}, "cachePoint"),
        ({"inferenceConfig": {"temperature": 1.5}}, "temperature"),
        ({"toolConfig": {"tools": [{"toolSpec": {"name": "t", "inputSchema": {"json": {}}}}]}}, "type must be"),
        ({"guardrailConfig": {"guardrailIdentifier": "abc123", "guardrailVersion": "1"}}, "guardrail"),
        ({"additionalModelRequestFields": {"top_k": 5}}, "top_k"),
        ({"messages": user("word " * 40_000)}, "too long"),
    ],
)
def test_what_the_model_cannot_do_is_a_validation_exception(
    server: Server, request_: dict[str, Any], says: str
) -> None:
    code, status, message = refusal(server, **request_)
    assert (code, status) == ("ValidationException", 400)
    assert says in message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "SerializationException"),
        (b"{", "SerializationException"),
        (b"\xff\xfe", "SerializationException"),
        (b'{"additionalModelRequestFields": ' + b'{"a":' * 100_000, "SerializationException"),
        (b"[]", "ValidationException"),
        (b"null", "ValidationException"),
        (b'{"messages": 5}', "ValidationException"),
        (b'{"messages": [{"role": "robot", "content": []}]}', "ValidationException"),
        (b'{"messages": [{"role": "user", "content": [{"text": 5}]}]}', "ValidationException"),
        (b'{"messages": [{"role": "user", "content": [{}]}]}', "ValidationException"),
        (b'{"messages": [{"role": "user", "content": [{"text": "a"}]}], "inferenceConfig": {"maxTokens": 0}}',
         "ValidationException"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["converse", "converse-stream"])
def test_a_malformed_body_is_refused_in_shape(server: Server, verb: str, body: bytes, code: str) -> None:
    answer = server.call("POST", f"/model/{CHAT}/{verb}", body)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, code)
    assert list(answer.json) == ["message"]


def embedded(server: Server, **request: Any) -> dict[str, Any]:
    answer = server.bedrock.invoke_model(modelId=EMBEDDINGS, body=json.dumps(request))
    assert answer["contentType"] == "application/json"
    body: dict[str, Any] = json.loads(answer["body"].read())
    return body


def test_embeddings_have_titans_shape(server: Server) -> None:
    body = embedded(server, inputText="a dog runs in the park")
    assert set(body) == {"embedding", "embeddingsByType", "inputTextTokenCount"}
    assert len(body["embedding"]) == 256
    assert body["embeddingsByType"] == {"float": body["embedding"]}
    assert body["inputTextTokenCount"] == 6
    assert sum(x * x for x in body["embedding"]) == pytest.approx(1, abs=1e-5)


def test_embeddings_can_be_shorter_and_are_normalised_again(server: Server) -> None:
    whole = embedded(server, inputText="a dog")["embedding"]
    short = embedded(server, inputText="a dog", dimensions=64)["embedding"]
    assert len(short) == 64
    assert sum(x * x for x in short) == pytest.approx(1, abs=1e-5)
    scale = short[0] / whole[0]
    assert short == pytest.approx([x * scale for x in whole[:64]], abs=1e-5)


def test_embeddings_can_be_left_as_they_are_and_binary(server: Server) -> None:
    body = embedded(server, inputText="a dog", normalize=False, embeddingTypes=["binary", "float"])
    assert sum(x * x for x in body["embedding"]) != pytest.approx(1, abs=1e-2)
    assert body["embeddingsByType"]["binary"] == [int(x > 0) for x in body["embedding"]]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Malformed input request"),
        (b"[]", "expected type: JSONObject"),
        (b"{}", "required key [inputText] not found"),
        (b'{"inputText": 1}', "expected type: String"),
        (b'{"inputText": ""}', "expected minLength: 1, actual: 0"),
        (b'{"inputText": "a", "top": 1}', "extraneous key [top]"),
        (b'{"inputText": "a", "dimensions": 1024}', "dimensions"),
        (b'{"inputText": "a", "dimensions": true}', "dimensions"),
        (b'{"inputText": "a", "normalize": 1}', "normalize"),
        (b'{"inputText": "a", "embeddingTypes": ["int8"]}', "embeddingTypes"),
        (b'{"inputText": "' + b"word " * 9_000 + b'"}', "Too many input tokens. Max input tokens: 8192"),
    ],
)
def test_a_malformed_embedding_request_is_titans_validation_exception(server: Server, body: bytes, says: str) -> None:
    with pytest.raises(server.bedrock.exceptions.ValidationException) as caught:
        server.bedrock.invoke_model(modelId=EMBEDDINGS, body=body)
    assert says in caught.value.response["Error"]["Message"]


def test_the_chat_model_cannot_be_invoked_for_embeddings(server: Server) -> None:
    with pytest.raises(server.bedrock.exceptions.ValidationException):
        server.bedrock.invoke_model(modelId=CHAT, body=b'{"inputText": "a"}')
