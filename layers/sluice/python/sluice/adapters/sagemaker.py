"""Amazon SageMaker: InvokeEndpoint of a scorer, in JSON.

Sent is ``{"instances": [[…], …]}``; expected is ``{"predictions": [{"probability": …}, …], "model_version"?}``.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
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
from msgspec import Meta

from sluice.adapters.retry_after import retry_after_s
from sluice.domain import errors
from sluice.domain.deadline import Deadline
from sluice.domain.ports import ModelProvider
from sluice.domain.routing import Target
from sluice.domain.scoring import LeadScore, ScoreRequest, ScoreResult
from sluice.telemetry import tracing

if TYPE_CHECKING:
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

    ClientFor = Callable[[float], SageMakerRuntimeClient]

# An endpoint takes 6 MB; fifty numbers as they are usually written are about a kilobyte.
ROWS_PER_CALL: Final = 2_500
CONCURRENT_CALLS: Final = 4
SHORTEST_READ_TIMEOUT_S: Final = 0.25
# The few milliseconds since the attempt began must not cost half of its time.
_SLACK_S: Final = 0.05

_KINDS: Final[Mapping[str, type[errors.ProviderError]]] = {
    "ThrottlingException": errors.ProviderThrottledError,
    "TooManyRequestsException": errors.ProviderThrottledError,
    "ModelNotReadyException": errors.ProviderOverloadedError,
    "ServiceUnavailable": errors.ProviderOverloadedError,
    "ServiceUnavailableException": errors.ProviderOverloadedError,
    "InternalFailure": errors.ProviderUnavailableError,
    "InternalDependencyException": errors.ProviderUnavailableError,
    "AccessDeniedException": errors.ProviderAuthError,
    "ExpiredTokenException": errors.ProviderAuthError,
    "InvalidSignatureException": errors.ProviderAuthError,
    "MissingAuthenticationToken": errors.ProviderAuthError,
    "UnrecognizedClientException": errors.ProviderAuthError,
    "ValidationError": errors.ProviderRejectedError,
    "ValidationException": errors.ProviderRejectedError,
}
# A ModelError (424) is the container's own answer: what its status says, not SageMaker's.
_CONTAINER_KINDS: Final[Mapping[int, type[errors.ProviderError]]] = {
    408: errors.ProviderTimeoutError,
    429: errors.ProviderThrottledError,
    503: errors.ProviderOverloadedError,
    504: errors.ProviderTimeoutError,
}
_MESSAGES: Final[Mapping[type[errors.ProviderError], str]] = {
    errors.ProviderThrottledError: "The model provider's rate limit is reached. Try again later.",
    errors.ProviderOverloadedError: "The model provider is overloaded. Try again later.",
    errors.ProviderTimeoutError: "The model provider did not answer in time.",
    errors.ProviderUnavailableError: "The model provider is not available at the moment.",
    errors.ProviderProtocolError: "The model provider's answer could not be understood.",
    errors.ProviderAuthError: "The model provider does not let Sluice use this model.",
    errors.ProviderRejectedError: "The model refuses these rows.",
}
# An endpoint that does not exist is a ValidationError like any other.
_NO_SUCH_ENDPOINT: Final = "not found"
_UNINTELLIGIBLE: Final = (ResponseParserError, msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError)


class _Prediction(msgspec.Struct, frozen=True):
    probability: Annotated[float, Meta(ge=0, le=1)]


class _Answer(msgspec.Struct, frozen=True):
    predictions: list[_Prediction]
    model_version: str | None = None


class SageMaker(ModelProvider):
    """A :class:`~sluice.domain.ports.ModelProvider` for scores.

    ``client_for`` gives a client with at most the read timeout it is asked for (seconds) and no retries of its own. As
    botocore fixes the timeout when a client is made, there is a short ladder of clients: the longest timeout, half of
    it, a quarter …, and an attempt takes the highest rung that fits.
    """

    def __init__(self, client_for: "ClientFor", *, longest_timeout_s: float) -> None:
        self._client_for = client_for
        self._longest_timeout_s = longest_timeout_s

    def score(self, target: Target, request: ScoreRequest, *, timeout_s: float) -> ScoreResult:
        """Score every row, within ``timeout_s`` seconds for all of them."""
        deadline = Deadline.after(timeout_s)
        parts = [request.rows[start : start + ROWS_PER_CALL] for start in range(0, len(request.rows), ROWS_PER_CALL)]
        answers = _side_by_side(lambda rows: self._invoke(target, rows, deadline), parts)
        versions = {version for _, version in answers}
        if len(versions) != 1:
            # The endpoint is being updated, and half the rows were scored by the model before.
            raise errors.ProviderUnavailableError(
                "The model changed while it was asked. Try again.", target=target.name, code="provider_model_changed"
            )
        return ScoreResult(
            scores=tuple(score for scores, _ in answers for score in scores),
            model_version=versions.pop(),
        )

    def _invoke(
        self, target: Target, rows: Sequence[Sequence[float]], deadline: Deadline
    ) -> tuple[list[LeadScore], str]:
        left = deadline.remaining_s()
        if left < SHORTEST_READ_TIMEOUT_S:
            raise _provider_error(errors.ProviderTimeoutError, target)
        try:
            response = self._client(left).invoke_endpoint(
                EndpointName=target.model,
                Body=msgspec.json.encode({"instances": rows}),
                ContentType="application/json",
                Accept="application/json",
            )
            answer = msgspec.json.decode(response["Body"].read(), type=_Answer)
        except (ClientError, BotoCoreError) as exc:
            raise translate(exc, target) from exc
        except _UNINTELLIGIBLE as exc:
            raise _provider_error(errors.ProviderProtocolError, target) from exc
        if len(answer.predictions) != len(rows):
            raise _provider_error(errors.ProviderProtocolError, target)
        version = answer.model_version or response.get("InvokedProductionVariant") or target.model
        return [LeadScore.of(prediction.probability) for prediction in answer.predictions], version

    def _client(self, timeout_s: float) -> "SageMakerRuntimeClient":
        step = self._longest_timeout_s
        while step > max(timeout_s + _SLACK_S, SHORTEST_READ_TIMEOUT_S):
            step /= 2
        return self._client_for(step)


def _side_by_side(
    function: Callable[[Sequence[Sequence[float]]], tuple[list[LeadScore], str]],
    parts: Sequence[Sequence[Sequence[float]]],
) -> list[tuple[list[LeadScore], str]]:
    if len(parts) == 1:
        return [function(parts[0])]
    pool = ThreadPoolExecutor(max_workers=min(CONCURRENT_CALLS, len(parts)))
    try:
        return list(pool.map(tracing.carried(function), parts))
    finally:
        # After the first failure nobody needs what is still queued.
        pool.shutdown(cancel_futures=True)


def translate(error: ClientError | BotoCoreError, target: Target) -> errors.ProviderError:
    """The domain's error for what botocore raised. The provider's own words are not passed on: they may quote."""
    if not isinstance(error, ClientError):
        return _provider_error(_kind_without_answer(error), target)
    response: Any = error.response
    details, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    code = str(details.get("Code", ""))
    kind = _kind(code, int(metadata.get("HTTPStatusCode", 500)), _container_status(response))
    no_endpoint = code.startswith("Validation") and _NO_SUCH_ENDPOINT in str(details.get("Message", "")).lower()
    return _provider_error(
        errors.ProviderAuthError if no_endpoint else kind,
        target,
        code="provider_model_not_found" if no_endpoint else None,
        retry_after_s=retry_after_s(metadata.get("HTTPHeaders", {})),
    )


def _kind(code: str, status: int, container_status: int | None) -> type[errors.ProviderError]:
    if code == "ModelError":
        status = 500 if container_status is None else container_status
        known = _CONTAINER_KINDS.get(status)
    else:
        known = _KINDS.get(code)
    return known or (errors.ProviderUnavailableError if status >= 500 else errors.ProviderRejectedError)


def _container_status(response: Mapping[str, Any]) -> int | None:
    status = response.get("OriginalStatusCode")
    return status if isinstance(status, int) else None


def _kind_without_answer(error: BotoCoreError) -> type[errors.ProviderError]:
    if isinstance(error, ReadTimeoutError | ConnectTimeoutError):
        return errors.ProviderTimeoutError
    if isinstance(error, ParamValidationError):
        return errors.ProviderRejectedError
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return errors.ProviderAuthError
    return errors.ProviderUnavailableError


def _provider_error(
    kind: type[errors.ProviderError],
    target: Target,
    *,
    code: str | None = None,
    retry_after_s: float | None = None,
) -> errors.ProviderError:
    return kind(_MESSAGES[kind], target=target.name, code=code, retry_after_s=retry_after_s)
