"""Anything that speaks OpenAI's protocol: OpenRouter, OpenAI, vLLM, Ollama … over urllib3.

The ``openai`` package would cost 0.4 s of cold start and hide the connection's timeouts.
"""

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError

from sluice.adapters import openai_chat
from sluice.adapters.retry_after import retry_after_s
from sluice.domain import errors
from sluice.domain.inference import ChatDelta, ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult, StreamEnd
from sluice.domain.ports import ModelProvider
from sluice.domain.routing import Target
from sluice.telemetry import tracing

CONNECT_TIMEOUT_S: Final = 3.0
# 2,048 vectors of 3,072 numbers are about 130 MB of JSON; nothing that a gateway passes on comes near half of it.
LARGEST_ANSWER_BYTES: Final = 64 * 1024 * 1024
CHUNK_BYTES: Final = 64 * 1024
# After a stream's last event there are a few bytes that end the body. The socket keeps this timeout, and so the next
# request is sent with the one that a new connection has; its answer has its own.
ENDING_TIMEOUT_S: Final = CONNECT_TIMEOUT_S
MOST_ENDING_READS: Final = 4

# What a provider calls its error may be passed on when it cannot hold anything but a name.
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_TOO_LONG: Final = ("maximum context length", "context length", "context window", "too long")
_FILTERED: Final = frozenset({"content_filter", "content_policy_violation"})
# What an error event calls what a response says by its status; whatever else it says is a failure of the provider.
_STREAM_STATUS: Final[Mapping[str, int]] = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "requests": 429,
    "tokens": 429,
    "overloaded_error": 503,
    "service_unavailable": 503,
    "timeout": 504,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "invalid_request_error": 400,
}

_KINDS: Final[Mapping[int, type[errors.ProviderError]]] = {
    401: errors.ProviderAuthError,
    402: errors.ProviderAuthError,
    403: errors.ProviderAuthError,
    404: errors.ProviderAuthError,
    408: errors.ProviderTimeoutError,
    429: errors.ProviderThrottledError,
    503: errors.ProviderOverloadedError,
    504: errors.ProviderTimeoutError,
    529: errors.ProviderOverloadedError,
}


class SecretFields(Protocol):
    """Where the provider's key is read from."""

    def field(self, name: str) -> str:
        """The value of a field. :raises ConfigurationError: there is none. :raises StateError: it cannot be read."""
        ...

    def forget(self) -> None:
        """Read it again next time."""
        ...


class _Vector(msgspec.Struct, frozen=True):
    index: int
    embedding: tuple[float, ...]


class _EmbeddingAnswer(msgspec.Struct, frozen=True):
    data: list[_Vector]
    usage: openai_chat.TokenUsage


class _Error(msgspec.Struct, frozen=True):
    message: str | None = None
    code: str | int | None = None
    type: str | None = None
    param: str | None = None


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: _Error


class OpenAICompatible(ModelProvider):
    """A :class:`~sluice.domain.ports.ModelProvider`; one pool keeps connections to every provider alive.

    ``trust`` is what the pool's connections are verified with, in urllib3's words; else it is what urllib3 finds.
    """

    def __init__(
        self,
        secret: SecretFields,
        clock: Callable[[], float] = time.monotonic,
        *,
        trust: Mapping[str, Any] | None = None,
    ) -> None:
        self._secret = secret
        self._clock = clock
        self._pool = urllib3.PoolManager(num_pools=8, maxsize=16, retries=False, **(trust or {}))

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        """Continue the conversation, within ``timeout_s`` seconds."""
        body = openai_chat.body(target, request, stream=False)
        answer = self._call(target, "/chat/completions", body, openai_chat.ChatAnswer, timeout_s)
        try:
            result: ChatResult = answer.to_domain(request)
        except ValueError as exc:
            raise _protocol_error(target) from exc
        return result

    def stream(self, target: Target, request: ChatRequest, *, timeout_s: float) -> Generator[ChatDelta, None, None]:
        """Continue the conversation piece by piece; ``timeout_s`` bounds each wait for more."""
        content, headers = self._request(target, openai_chat.body(target, request, stream=True))
        with _translated(target):
            response = self._open(target, "/chat/completions", content, headers, timeout_s)
            whole = False
            try:
                if response.status != 200:
                    raise self._refusal(target, response, self._clock() + timeout_s)
                for delta in openai_chat.deltas(_bounded(_pieces(response), target)):
                    whole = isinstance(delta, StreamEnd)
                    yield delta
            except openai_chat.StreamFailure as exc:
                raise translate_event(exc.body, target) from exc
            except openai_chat.CutStreamError as exc:
                raise _unavailable(target) from exc
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
                raise _protocol_error(target) from exc
            finally:
                if whole:
                    _give_back(response)
                response.close()

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        """Embed every input, within ``timeout_s`` seconds."""
        body = {
            "model": target.model,
            "input": list(request.inputs),
            "encoding_format": "float",
            "dimensions": request.dimensions,
            "user": request.user,
        }
        answer = self._call(target, "/embeddings", body, _EmbeddingAnswer, timeout_s)
        vectors = sorted(answer.data, key=lambda vector: vector.index)
        if [vector.index for vector in vectors] != list(range(len(request.inputs))):
            raise _protocol_error(target)
        return EmbeddingResult(vectors=tuple(vector.embedding for vector in vectors), usage=answer.usage.to_domain())

    def _call(self, target: Target, path: str, body: Mapping[str, Any], kind: type[Any], timeout_s: float) -> Any:
        content, headers = self._request(target, body)
        until = self._clock() + timeout_s
        with _translated(target):
            response = self._open(target, path, content, headers, timeout_s)
            if response.status != 200:
                raise self._refusal(target, response, until)
            answer = self._read(response, target, until)
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise _protocol_error(target) from exc

    def _request(self, target: Target, body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
        content = msgspec.json.encode({name: value for name, value in body.items() if value is not None})
        accept = "text/event-stream" if body.get("stream") else "application/json"
        return content, {"content-type": "application/json", "accept": accept, **self._credentials(target)}

    def _refusal(self, target: Target, response: urllib3.BaseHTTPResponse, until: float) -> errors.ProviderError:
        if response.status in (401, 403):
            self._secret.forget()
        return translate(response.status, response.headers, self._read(response, target, until), target)

    def _credentials(self, target: Target) -> dict[str, str]:
        if target.secret_field is None:
            return {}
        try:
            return {"authorization": f"Bearer {self._secret.field(target.secret_field)}"}
        except errors.ConfigurationError as exc:
            raise errors.ProviderAuthError("Sluice has no key for this model provider.", target=target.name) from exc
        except errors.StateError as exc:
            raise errors.ProviderUnavailableError(
                "Sluice's key for this model provider cannot be read at the moment.", target=target.name
            ) from exc

    def _open(
        self, target: Target, path: str, content: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> urllib3.BaseHTTPResponse:
        """The response once its headers are there."""
        with tracing.subsegment(target.name, provider=target.provider) as span:
            response = self._pool.request(
                "POST",
                (target.base_url or "").rstrip("/") + path,
                body=content,
                headers=headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, timeout_s), total=timeout_s),
                preload_content=False,
                # A redirect would send the key to somewhere else.
                redirect=False,
            )
            span.status(response.status)
        return response

    def _read(self, response: urllib3.BaseHTTPResponse, target: Target, until: float) -> bytes:
        """The whole body. urllib3's timeout is per read, so a body that drips could go on for ever."""
        chunks: list[bytes] = []
        for chunk in _bounded(_pieces(response), target):
            chunks.append(chunk)
            if self._clock() > until:
                response.close()
                raise _timeout(target)
        response.release_conn()
        return b"".join(chunks)


def _pieces(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The body as it arrives: read1 returns whatever one read gives, every other way waits for a chunk to be full."""
    while chunk := response.read1(CHUNK_BYTES):
        yield chunk


def _give_back(response: urllib3.BaseHTTPResponse) -> None:
    """Read a body to its end, so that the next request can have the connection; not one that goes on and on.

    Nobody waits for this: the last piece has been handed over.
    """
    socket = getattr(response.connection, "sock", None)
    if socket is None:
        # The body has ended already, or the provider closes the connection after it.
        return
    socket.settimeout(ENDING_TIMEOUT_S)
    with suppress(HTTPError):
        if any(not response.read1(CHUNK_BYTES) for _ in range(MOST_ENDING_READS)):
            response.release_conn()


def _bounded(chunks: Iterator[bytes], target: Target) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > LARGEST_ANSWER_BYTES:
            raise _protocol_error(target)
        yield chunk


@contextmanager
def _translated(target: Target) -> Iterator[None]:
    """The domain's error for what urllib3 raises."""
    try:
        yield
    except HTTPError as exc:
        # urllib3 files a refused connection under timeouts.
        if isinstance(exc, Urllib3TimeoutError) and not isinstance(exc, NewConnectionError):
            raise _timeout(target) from exc
        raise _unavailable(target) from exc


def translate(status: int, headers: Mapping[str, str], answer: bytes, target: Target) -> errors.ProviderError:
    """The domain's error for an answer that is not 200.

    Of the provider's own words only names are passed on (its code and the field it blames): the rest may quote the
    prompt, our key or an internal address.
    """
    error = _parse_error(answer)
    code = str(error.code or error.type or "")
    if status in (400, 413, 422) or (status < 500 and status not in _KINDS):
        return _rejection(status, code, error, target)
    if status == 429 and code == "insufficient_quota":
        # Not a rate: the account has run dry, and no waiting helps.
        return errors.ProviderAuthError("Sluice's account at the model provider is used up.", target=target.name)
    kind = _KINDS.get(status, errors.ProviderUnavailableError)
    return kind(
        f"The model provider answered with HTTP {status}.",
        target=target.name,
        code="provider_model_not_found" if status == 404 else None,
        retry_after_s=retry_after_s(headers),
    )


def translate_event(event: bytes, target: Target) -> errors.ProviderError:
    """The domain's error for an error event, which has no status but what its names say."""
    error = _parse_error(event)
    if isinstance(error.code, int) and 400 <= error.code < 600:
        return translate(error.code, {}, event, target)
    status = next((_STREAM_STATUS[str(name)] for name in (error.code, error.type) if name in _STREAM_STATUS), 502)
    return translate(status, {}, event, target)


def _rejection(status: int, code: str, error: _Error, target: Target) -> errors.ProviderError:
    if status < 400:
        return _protocol_error(target)
    message = (error.message or "").lower()
    if code == "context_length_exceeded" or any(phrase in message for phrase in _TOO_LONG):
        return errors.ContextTooLongError("The request is too long for the model's context.", target=target.name)
    if code in _FILTERED:
        return errors.ContentFilteredError("The model provider's safety system refused this.", target=target.name)
    named = f", {code}" if _HARMLESS.fullmatch(code) else ""
    param = error.param if error.param and _HARMLESS.fullmatch(error.param) else None
    return errors.ProviderRejectedError(
        f"The model provider refuses this request (HTTP {status}{named}).", target=target.name, param=param
    )


def _parse_error(answer: bytes) -> _Error:
    try:
        return msgspec.json.decode(answer, type=_ErrorAnswer).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Error()


def _protocol_error(target: Target) -> errors.ProviderProtocolError:
    return errors.ProviderProtocolError("The model provider's answer could not be understood.", target=target.name)


def _unavailable(target: Target) -> errors.ProviderUnavailableError:
    return errors.ProviderUnavailableError("The model provider is not available at the moment.", target=target.name)


def _timeout(target: Target) -> errors.ProviderTimeoutError:
    return errors.ProviderTimeoutError("The model provider did not answer in time.", target=target.name)
