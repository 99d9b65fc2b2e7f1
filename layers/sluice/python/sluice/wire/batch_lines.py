"""The lines of a batch, in and out, in OpenAI's format: https://platform.openai.com/docs/api-reference/batch.

https://platform.openai.com/docs/api-reference/batch/request-input and …/request-output
"""

import hashlib
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from sluice.domain.batch_lines import LineRequest
from sluice.domain.errors import InvalidRequestError
from sluice.wire.parsing import parse

RESULT_PREFIX: Final = "batch_req"
LONGEST_CUSTOM_ID: Final = 512
_ID_BYTES: Final = 16
_encoder: Final = msgspec.json.Encoder()


class _InputLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line as it is written. Fields not named here are ignored."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=LONGEST_CUSTOM_ID)]
    method: str
    url: str
    body: msgspec.Raw


class LineResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What the line's endpoint answered: ``body`` is its JSON, also of an error."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class LineError(msgspec.Struct, frozen=True, kw_only=True):
    """Why the line's endpoint was not asked."""

    code: str
    message: str


class ResultLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an output or an error file: either a ``response`` or an ``error``."""

    id: str
    custom_id: str
    response: LineResponse | None = None
    error: LineError | None = None


_line_decoder: Final = msgspec.json.Decoder(_InputLine)


def read_line(line: bytes) -> LineRequest:
    """What a line of the input asks for.

    :raises InvalidRequestError: with a ``code`` always, and the field as ``param`` where it is one field's fault.
    """
    try:
        asked = _line_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _explained(line) from None
    return LineRequest(custom_id=asked.custom_id, method=asked.method, url=asked.url, body=bytes(asked.body))


def result_id(batch_id: str, number: int) -> str:
    """The id of the result of line ``number``: the same whenever, and however often, it is asked for."""
    digest = hashlib.blake2b(f"{batch_id}/{number}".encode(), digest_size=_ID_BYTES)
    return f"{RESULT_PREFIX}_{digest.hexdigest()}"


def answered_line(
    batch_id: str, number: int, custom_id: str, *, status_code: int, request_id: str, body: bytes
) -> bytes:
    """The result of a line that was run, with its line feed. ``body`` is JSON without any."""
    response = LineResponse(status_code=status_code, request_id=request_id, body=msgspec.Raw(body))
    return _written(ResultLine(id=result_id(batch_id, number), custom_id=custom_id, response=response))


def unanswered_line(batch_id: str, number: int, custom_id: str, *, code: str, message: str) -> bytes:
    """The result of a line that was never run, with its line feed."""
    error = LineError(code=code, message=message)
    return _written(ResultLine(id=result_id(batch_id, number), custom_id=custom_id, error=error))


def _written(line: ResultLine) -> bytes:
    return _encoder.encode(line) + b"\n"


def _explained(line: bytes) -> InvalidRequestError:
    """Why the line cannot be read."""
    try:
        parse(line, _InputLine)
    except InvalidRequestError as error:
        if error.code is not None:
            return error
    return InvalidRequestError("This line is not a JSON object in UTF-8.", code="invalid_json_line")
