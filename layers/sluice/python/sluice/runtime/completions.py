"""Chat completions and completions, whatever carries them: one conversation or prompt in, one answer out.

A stream comes back as an :class:`~sluice.runtime.api.EventStream`. API Gateway's functions send its events as one body,
the streaming function sends each as it is made.
"""

import time

from sluice.domain.inference import ChatRequest, Mode
from sluice.runtime import http, inference_headers
from sluice.runtime.api import ApiRequest, ApiResponse, EventStream
from sluice.services.infer import ChatOutcome, ChatStream, Inference
from sluice.wire import sse
from sluice.wire.chat import ChatCompletionResponse, decode_chat_request
from sluice.wire.chat import new_completion_id as new_chat_completion_id
from sluice.wire.completions import CompletionResponse, new_completion_id, parse_completion_request, with_echo


def chat_completion(inference: Inference, request: ApiRequest) -> ApiResponse | EventStream:
    """POST /v1/chat/completions."""
    asked = decode_chat_request(request.body)
    chat = asked.to_domain()
    if asked.stream:
        stream = _stream(inference, request, chat)
        events = sse.chat_events(
            stream,
            completion_id=new_chat_completion_id(),
            model=stream.target.name,
            created=int(time.time()),
            include_usage=asked.include_usage,
            error_body=http.error_body,
        )
        return EventStream.of(stream, events)
    outcome = _whole(inference, request, chat)
    answer = ChatCompletionResponse.of(outcome.result, model=outcome.target.name, created=int(time.time()))
    return ApiResponse(200, answer, inference_headers.of(outcome))


def completion(inference: Inference, request: ApiRequest) -> ApiResponse | EventStream:
    """POST /v1/completions, OpenAI's older route."""
    asked = parse_completion_request(request.body)
    chat = asked.to_domain()
    if asked.stream:
        stream = _stream(inference, request, chat)
        events = sse.completion_events(
            with_echo(asked.echoed, stream),
            completion_id=new_completion_id(),
            model=stream.target.name,
            created=int(time.time()),
            include_usage=asked.include_usage,
            error_body=http.error_body,
        )
        return EventStream.of(stream, events)
    outcome = _whole(inference, request, chat)
    answer = CompletionResponse.of(
        outcome.result, model=outcome.target.name, created=int(time.time()), echoed=asked.echoed
    )
    return ApiResponse(200, answer, inference_headers.of(outcome))


def _whole(inference: Inference, request: ApiRequest, chat: ChatRequest) -> ChatOutcome:
    return inference.chat(
        chat,
        request.authenticated,
        mode=Mode.SYNC,
        deadline=request.deadline,
        preferences=inference_headers.preferences(request.headers),
    )


def _stream(inference: Inference, request: ApiRequest, chat: ChatRequest) -> ChatStream:
    return inference.stream(
        chat,
        request.authenticated,
        mode=Mode.SYNC,
        deadline=request.deadline,
        preferences=inference_headers.preferences(request.headers),
    )
