"""Amazon Bedrock: Converse and ConverseStream for chat, InvokeModel for embeddings of the Titan kind.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import msgspec
from botocore.eventstream import ParserError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError

from sluice.adapters import bedrock_converse as converse
from sluice.adapters.retry_after import retry_after_s
from sluice.domain import errors
from sluice.domain.deadline import Deadline
from sluice.domain.inference import ChatDelta, ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult, Usage
from sluice.domain.ports import ModelProvider
from sluice.domain.routing import Target
from sluice.telemetry import tracing

if TYPE_CHECKING:
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient

    ClientFor = Callable[[float], BedrockRuntimeClient]

# Titan embeds one text per call; so many are under way at once.
CONCURRENT_EMBEDDINGS: Final = 8
SHORTEST_READ_TIMEOUT_S: Final = 0.25
# The few milliseconds since the attempt began must not cost half of its time.
_SLACK_S: Final = 0.01

_KINDS: Final[Mapping[str, type[errors.ProviderError]]] = {
    "ThrottlingException": errors.ProviderThrottledError,
    "TooManyRequestsException": errors.ProviderThrottledError,
    "ServiceQuotaExceededException": errors.ProviderThrottledError,
    "ModelNotReadyException": errors.ProviderOverloadedError,
    "ServiceUnavailableException": errors.ProviderOverloadedError,
    "ModelTimeoutException": errors.ProviderTimeoutError,
    "InternalServerException": errors.ProviderUnavailableError,
    "ModelErrorException": errors.ProviderUnavailableError,
    "ModelStreamErrorException": errors.ProviderUnavailableError,
    "AccessDeniedException": errors.ProviderAuthError,
    "ExpiredTokenException": errors.ProviderAuthError,
    "InvalidSignatureException": errors.ProviderAuthError,
    "UnrecognizedClientException": errors.ProviderAuthError,
    "ResourceNotFoundException": errors.ProviderAuthError,
    "ValidationException": errors.ProviderRejectedError,
}
_MESSAGES: Final[Mapping[type[errors.ProviderError], str]] = {
    errors.ProviderThrottledError: "The model provider's rate limit is reached. Try again later.",
    errors.ProviderOverloadedError: "The model provider is overloaded. Try again later.",
    errors.ProviderTimeoutError: "The model provider did not answer in time.",
    errors.ProviderUnavailableError: "The model provider is not available at the moment.",
    errors.ProviderProtocolError: "The model provider's answer could not be understood.",
    errors.ProviderAuthError: "The model provider does not let Sluice use this model.",
    errors.ProviderRejectedError: "The model provider refuses this request: it does not fit what the model accepts.",
    errors.ContextTooLongError: "The request is too long for the model's context.",
}
# Bedrock has no code of its own for it; these are the phrases of its model families.
_TOO_LONG: Final = ("too long", "too many input tokens", "maximum context length", "context window", "input length")
# Nor for a model that does not exist, or not in this region or on demand, nor for such a guardrail: all of these are
# ValidationExceptions like any other.
_NO_SUCH_MODEL: Final = ("model identifier is invalid", "on-demand throughput", "guardrail identifier")
# What comes of an answer that is not of the agreed form, in botocore's hands or in ours.
_UNINTELLIGIBLE: Final = (
    ResponseParserError,
    ParserError,
    msgspec.MsgspecError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    RecursionError,
)


class Bedrock(ModelProvider):
    """A :class:`~sluice.domain.ports.ModelProvider`.

    ``client_for`` gives a client with at most the read timeout it is asked for (seconds) and no retries of its own.
    botocore fixes the timeout when a client is made, so there is a short ladder of clients: the longest timeout, half
    of it, a quarter … An attempt takes the highest rung that fits, and so never waits longer than it may.
    """

    def __init__(self, client_for: "ClientFor", *, longest_timeout_s: float) -> None:
        self._client_for = client_for
        self._longest_timeout_s = longest_timeout_s

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        """Continue the conversation, within ``timeout_s`` seconds."""
        arguments: Any = converse.arguments(target, request)
        try:
            return converse.result(self._client(timeout_s).converse(**arguments), request)
        except (ClientError, BotoCoreError) as exc:
            raise translate(exc, target) from exc
        except _UNINTELLIGIBLE as exc:
            raise _provider_error(errors.ProviderProtocolError, target) from exc

    def stream(self, target: Target, request: ChatRequest, *, timeout_s: float) -> Generator[ChatDelta, None, None]:
        """Continue the conversation piece by piece; ``timeout_s`` bounds each wait for the next event."""
        arguments: Any = converse.arguments(target, request)
        try:
            answer = self._client(timeout_s).converse_stream(**arguments)
            with closing(answer["stream"]) as events:
                yield from converse.deltas(events, request)
        except (ClientError, BotoCoreError) as exc:
            raise translate(exc, target) from exc
        except HTTPError as exc:
            # Once the headers are there, botocore reads from urllib3 and lets its errors through.
            timed_out = isinstance(exc, Urllib3TimeoutError)
            kind = errors.ProviderTimeoutError if timed_out else errors.ProviderUnavailableError
            raise _provider_error(kind, target) from exc
        except converse.CutStreamError as exc:
            raise _provider_error(errors.ProviderUnavailableError, target) from exc
        except _UNINTELLIGIBLE as exc:
            raise _provider_error(errors.ProviderProtocolError, target) from exc

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        """Embed every input, within ``timeout_s`` seconds for all of them."""
        deadline = Deadline.after(timeout_s)
        counted: list[int] = []

        def embed_one(text: str) -> tuple[float, ...]:
            answer = self._embed_one(target, text, request.dimensions, deadline)
            counted.append(answer.input_tokens)
            return answer.embedding

        try:
            vectors = _side_by_side(embed_one, request.inputs)
        except errors.ProviderError as error:
            # One failure is the failure of all, but the others' answers are paid for: as one call, like the whole.
            error.calls = (Usage(input_tokens=sum(counted)),) if counted else ()
            raise
        return EmbeddingResult(vectors=tuple(vectors), usage=Usage(input_tokens=sum(counted)))

    def _embed_one(self, target: Target, text: str, dimensions: int | None, deadline: Deadline) -> "_TitanAnswer":
        left = deadline.remaining_s()
        if left < SHORTEST_READ_TIMEOUT_S:
            raise _provider_error(errors.ProviderTimeoutError, target)
        body: dict[str, Any] = {"inputText": text}
        if dimensions is not None:
            body["dimensions"] = dimensions
        try:
            answer = self._client(left).invoke_model(
                modelId=target.model,
                body=msgspec.json.encode(body),
                contentType="application/json",
                accept="application/json",
            )
            return msgspec.json.decode(answer["body"].read(), type=_TitanAnswer)
        except (ClientError, BotoCoreError) as exc:
            raise translate(exc, target) from exc
        except _UNINTELLIGIBLE as exc:
            raise _provider_error(errors.ProviderProtocolError, target) from exc

    def _client(self, timeout_s: float) -> "BedrockRuntimeClient":
        return self._client_for(rung(timeout_s, longest_s=self._longest_timeout_s))


def rung(timeout_s: float, *, longest_s: float) -> float:
    """The longest of ``longest_s``, its half, its quarter … that is hardly longer than ``timeout_s``, or not at all."""
    step = longest_s
    while step > max(timeout_s + _SLACK_S, SHORTEST_READ_TIMEOUT_S):
        step /= 2
    return step


class _TitanAnswer(msgspec.Struct, frozen=True):
    embedding: tuple[float, ...]
    input_tokens: int = msgspec.field(name="inputTextTokenCount")


def _side_by_side(function: Callable[[str], tuple[float, ...]], inputs: tuple[str, ...]) -> list[tuple[float, ...]]:
    if len(inputs) == 1:
        return [function(inputs[0])]
    pool = ThreadPoolExecutor(max_workers=min(CONCURRENT_EMBEDDINGS, len(inputs)))
    try:
        return list(pool.map(tracing.carried(function), inputs))
    finally:
        # After the first failure nobody needs what is still queued.
        pool.shutdown(cancel_futures=True)


def translate(error: ClientError | BotoCoreError, target: Target) -> errors.ProviderError:
    """The domain's error for what botocore raised. The provider's own words are not passed on: they may quote."""
    if not isinstance(error, ClientError):
        return _provider_error(_kind_without_answer(error), target)
    code = str(error.response.get("Error", {}).get("Code", ""))
    # In mid-stream the same exceptions have names that start in lower case.
    code = code[:1].upper() + code[1:]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    kind = _KINDS.get(code) or (errors.ProviderUnavailableError if status >= 500 else errors.ProviderRejectedError)
    unknown_model = code == "ResourceNotFoundException"
    if kind is errors.ProviderRejectedError and _says(error, _TOO_LONG):
        kind = errors.ContextTooLongError
    elif kind is errors.ProviderRejectedError and _says(error, _NO_SUCH_MODEL):
        kind, unknown_model = errors.ProviderAuthError, True
    return _provider_error(
        kind,
        target,
        code="provider_model_not_found" if unknown_model else None,
        retry_after_s=retry_after_s(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})),
    )


def _kind_without_answer(error: BotoCoreError) -> type[errors.ProviderError]:
    if isinstance(error, ReadTimeoutError | ConnectTimeoutError):
        return errors.ProviderTimeoutError
    if isinstance(error, ParamValidationError):
        return errors.ProviderRejectedError
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return errors.ProviderAuthError
    return errors.ProviderUnavailableError


def _says(error: ClientError, phrases: Iterable[str]) -> bool:
    message = str(error.response.get("Error", {}).get("Message", "")).lower()
    return any(phrase in message for phrase in phrases)


def _provider_error(
    kind: type[errors.ProviderError],
    target: Target,
    *,
    code: str | None = None,
    retry_after_s: float | None = None,
) -> errors.ProviderError:
    return kind(_MESSAGES[kind], target=target.name, code=code, retry_after_s=retry_after_s)
