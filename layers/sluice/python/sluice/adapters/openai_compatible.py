"""Anything that speaks OpenAI's protocol: OpenRouter, OpenAI, vLLM, Ollama … over urllib3.

The ``openai`` package would cost 0.4 s of cold start and hide the connection's timeouts.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError

from sluice.adapters.retry_after import retry_after_s
from sluice.domain import errors
from sluice.domain.inference import ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult, FinishReason, Usage
from sluice.domain.routing import Target
from sluice.telemetry import tracing

CONNECT_TIMEOUT_S: Final = 3.0
# 2,048 vectors of 3,072 numbers are about 130 MB of JSON; nothing that a gateway passes on comes near half of it.
LARGEST_ANSWER_BYTES: Final = 64 * 1024 * 1024
CHUNK_BYTES: Final = 64 * 1024

# What a provider calls its error may be passed on when it cannot hold anything but a name.
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_TOO_LONG: Final = ("maximum context length", "context length", "context window", "too long")
_FILTERED: Final = frozenset({"content_filter", "content_policy_violation"})
_FINISH_REASONS: Final = {"length": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}

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


class _ChatMessage(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _ChatMessage
    finish_reason: str | None = None


class _TokenDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _TokenDetails | None = None


class _ChatAnswer(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: _Usage


class _Vector(msgspec.Struct, frozen=True):
    index: int
    embedding: tuple[float, ...]


class _EmbeddingAnswer(msgspec.Struct, frozen=True):
    data: list[_Vector]
    usage: _Usage


class _Error(msgspec.Struct, frozen=True):
    message: str | None = None
    code: str | int | None = None
    type: str | None = None
    param: str | None = None


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: _Error


class OpenAICompatible:
    """A :class:`~sluice.domain.ports.ModelProvider`; one pool keeps connections to every provider alive."""

    def __init__(self, secret: SecretFields, clock: Callable[[], float] = time.monotonic) -> None:
        self._secret = secret
        self._clock = clock
        self._pool = urllib3.PoolManager(num_pools=8, maxsize=16, retries=False)

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        """Continue the conversation, within ``timeout_s`` seconds."""
        body = {
            "model": target.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "max_tokens": request.max_tokens or target.max_output_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": list(request.stop) or None,
            "seed": request.seed,
        }
        answer = self._call(target, "/chat/completions", body, _ChatAnswer, timeout_s)
        if not answer.choices:
            raise _protocol_error(target)
        choice = answer.choices[0]
        return ChatResult(
            text=choice.message.content or choice.message.refusal or "",
            finish_reason=_FINISH_REASONS.get(choice.finish_reason or "", FinishReason.STOP),
            usage=_usage(answer.usage),
        )

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        """Embed every input, within ``timeout_s`` seconds."""
        body = {
            "model": target.model,
            "input": list(request.inputs),
            "encoding_format": "float",
            "dimensions": request.dimensions,
        }
        answer = self._call(target, "/embeddings", body, _EmbeddingAnswer, timeout_s)
        vectors = sorted(answer.data, key=lambda vector: vector.index)
        if [vector.index for vector in vectors] != list(range(len(request.inputs))):
            raise _protocol_error(target)
        return EmbeddingResult(vectors=tuple(vector.embedding for vector in vectors), usage=_usage(answer.usage))

    def _call(self, target: Target, path: str, body: Mapping[str, Any], kind: type[Any], timeout_s: float) -> Any:
        content = msgspec.json.encode({name: value for name, value in body.items() if value is not None})
        headers = {"content-type": "application/json", "accept": "application/json", **self._credentials(target)}
        with tracing.subsegment(target.name, provider=target.provider) as span:
            status, answer_headers, answer = self._post(target, path, content, headers, timeout_s)
            span.status(status)
        if status != 200:
            if status in (401, 403):
                self._secret.forget()
            raise translate(status, answer_headers, answer, target)
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise _protocol_error(target) from exc

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

    def _post(
        self, target: Target, path: str, content: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        until = self._clock() + timeout_s
        try:
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
            return response.status, response.headers, self._read(response, target, until)
        except HTTPError as exc:
            # urllib3 files a refused connection under timeouts.
            if isinstance(exc, Urllib3TimeoutError) and not isinstance(exc, NewConnectionError):
                raise _timeout(target) from exc
            raise errors.ProviderUnavailableError(
                "The model provider is not available at the moment.", target=target.name
            ) from exc

    def _read(self, response: urllib3.BaseHTTPResponse, target: Target, until: float) -> bytes:
        """The whole body. urllib3's timeout is per read, so a body that drips could go on for ever."""
        chunks: list[bytes] = []
        size = 0
        # read1 returns whatever one read gives; every other way waits for a chunk to be full.
        while chunk := response.read1(CHUNK_BYTES):
            chunks.append(chunk)
            size += len(chunk)
            if size > LARGEST_ANSWER_BYTES:
                response.close()
                raise _protocol_error(target)
            if self._clock() > until:
                response.close()
                raise _timeout(target)
        response.release_conn()
        return b"".join(chunks)


def _usage(usage: _Usage) -> Usage:
    details = usage.prompt_tokens_details
    return Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=(details.cached_tokens or 0) if details else 0,
    )


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


def _timeout(target: Target) -> errors.ProviderTimeoutError:
    return errors.ProviderTimeoutError("The model provider did not answer in time.", target=target.name)
