"""Amazon SageMaker Runtime: InvokeEndpoint of the lead scorer.

A body the model cannot read is the model's own refusal, so it comes as ``ModelError`` (424) carrying
the container's status, exactly as from a real endpoint; ``ValidationError`` is for what never
reaches the model. Signatures are not checked.
See https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html.
"""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import numpy as np
from starlette.concurrency import run_in_threadpool

from local.models.chat import ChatError
from local.models.exchange import Answer, Call
from local.models.faults import ProtocolName
from local.models.lead_scorer import LeadScore, LeadScorer
from local.models.leads import FEATURES
from local.models.replies import Frame, Reply, WireError, json_reply
from local.models.settings import SCORER_ENDPOINT

if TYPE_CHECKING:
    from starlette.requests import Request

CSV = "text/csv"
JSON = "application/json"
_VARIANT = "AllTraffic"
_LOG_STREAM = f"arn:aws:logs:us-east-1:000000000000:log-group:/aws/sagemaker/Endpoints/{SCORER_ENDPOINT}"

_BY_STATUS = {
    400: ("ValidationError", "The request is not valid."),
    403: ("AccessDeniedException", "You are not authorized to invoke this endpoint."),
    429: ("ThrottlingException", "Rate exceeded"),
    500: ("InternalFailure", "An internal failure occurred."),
    503: ("ServiceUnavailable", "The service is unavailable. Try your call again."),
    530: ("InternalDependencyException", "Your request caused an exception with an internal dependency."),
}


class Instances(msgspec.Struct, frozen=True):
    """``{"instances": [[50 numbers], …]}``; ``null`` is an unknown value."""

    instances: list[list[float | None]]


class SagemakerDialect:
    """Errors the SageMaker way: the name in ``x-amzn-ErrorType``, ``{"Message"}`` in the body."""

    name: ProtocolName = "sagemaker"

    def throttled(self, status: int | None, retry_after: float | None) -> Reply:
        """``ThrottlingException``, which AWS services with this protocol send as a 400."""
        return _error(status or 400, "ThrottlingException", "Rate exceeded", retry_after)

    def failed(self, status: int, retry_after: float | None) -> Reply:
        """The error that has ``status``; any other one is a ``ModelError`` with it as the container's status."""
        if status not in _BY_STATUS:
            original = 500 if status == 424 else status
            return _model_error(original, "the model container failed", retry_after)
        return _error(status, *_BY_STATUS[status], retry_after)

    def refused(self, error: ChatError) -> Reply:
        """Not reached: no chat behind this protocol."""
        return _error(500, "InternalFailure", str(error))

    def error_frame(self, reply: Reply) -> Frame:
        """Not reached: nothing is streamed over this protocol."""
        return Frame(reply.body)

    def damaged(self, frame: Frame) -> Frame:
        """Not reached: nothing is streamed over this protocol."""
        return Frame(frame.data[:-1])


def identify(request: Request, body: bytes) -> Call:
    """Read the endpoint from the path; raises ``WireError`` for an unknown one."""
    name = request.path_params["name"]
    if name != SCORER_ENDPOINT:
        message = f"Endpoint {name} of account 000000000000 not found."
        raise WireError(_error(400, "ValidationError", message))
    return Call(name, streaming=False, body=body, headers=dict(request.headers))


def invoke(scorer: LeadScorer) -> Answer:
    """``POST /endpoints/{name}/invocations`` in JSON or CSV, answered in the same unless ``Accept`` says otherwise."""

    async def answer(call: Call) -> Reply:
        sent = _media_type(call.headers.get("content-type", CSV))
        wanted = _media_type(call.headers.get("accept", "*/*"))
        rows = _rows(call.body, sent)
        if wanted not in {CSV, JSON, "*/*"}:
            _refuse(406, f"Accept type {wanted} is not supported")
        scores = await run_in_threadpool(scorer.score, rows)
        return _reply(scores, scorer.version, sent if wanted == "*/*" else wanted)

    return answer


def _rows(body: bytes, media_type: str) -> list[list[float | None]]:
    if media_type == JSON:
        rows = _json_rows(body)
    elif media_type == CSV:
        rows = _csv_rows(body)
    else:
        _refuse(415, f"Content type {media_type} is not supported")
    if not rows:
        _refuse(400, "no instances to score")
    for i, row in enumerate(rows):
        if len(row) != len(FEATURES):
            _refuse(400, f"instance {i} has {len(row)} features, the model needs {len(FEATURES)}")
        # Beyond what a float32 holds, XGBoost would see an infinity and refuse the whole batch.
        if any(value is not None and not abs(value) <= np.finfo(np.float32).max for value in row):
            _refuse(400, f"instance {i} has a value that is not a finite number")
    return rows


def _json_rows(body: bytes) -> list[list[float | None]]:
    try:
        return msgspec.json.decode(body, type=Instances).instances
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        _refuse(400, f"unable to read the instances: {wrong}")


def _csv_rows(body: bytes) -> list[list[float | None]]:
    try:
        lines = [line for line in body.decode().splitlines() if line.strip()]
        return [[float(cell) if cell.strip() else None for cell in line.split(",")] for line in lines]
    except ValueError as wrong:
        _refuse(400, f"unable to read the CSV: {wrong}")


def _reply(scores: list[LeadScore], version: str, media_type: str) -> Reply:
    headers = {**_request_id(), "x-Amzn-Invoked-Production-Variant": _VARIANT}
    if media_type == CSV:
        body = "".join(f"{one.score},{one.probability!r}\n" for one in scores).encode()
        return Reply(200, body, headers, f"{CSV}; charset=utf-8")
    predictions = [{"score": one.score, "probability": one.probability} for one in scores]
    return json_reply(200, {"predictions": predictions, "model_version": version}, headers)


def _refuse(status: int, message: str) -> NoReturn:
    raise WireError(_model_error(status, message))


def _model_error(status: int, message: str, retry_after: float | None = None) -> Reply:
    blame = "client" if status < 500 else "server"
    return _error(
        424,
        "ModelError",
        f'Received {blame} error ({status}) from primary with message "{message}". '
        f"See {_LOG_STREAM} for more information.",
        retry_after,
        OriginalStatusCode=status,
        OriginalMessage=message,
        LogStreamArn=_LOG_STREAM,
    )


def _error(status: int, name: str, message: str, retry_after: float | None = None, **more: Any) -> Reply:
    headers = {**_request_id(), "x-amzn-ErrorType": name}
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    return json_reply(status, {"Message": message, **more}, headers)


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _request_id() -> dict[str, str]:
    return {"x-amzn-RequestId": str(uuid.uuid4())}
