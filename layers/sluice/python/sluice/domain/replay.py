"""Idempotent requests: a request that is repeated under the same Idempotency-Key is answered once.

https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07

A key belongs to the API key that sent it. Who comes first claims it, works, and leaves the response there. A claim that
was given back, or that outlived the function which made it, is as if it had never been made, whatever was asked with
it.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from sluice.domain.errors import IdempotencyMismatchError, InvalidRequestError, RequestInFlightError

IDEMPOTENCY_HEADER: Final = "idempotency-key"
REPLAYED_HEADER: Final = "idempotent-replayed"
LONGEST_KEY: Final = 255

_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
# A string of RFC 8941, section 3.3.3: quotation marks and backslashes inside are escaped, nothing else is.
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r'\\(["\\])')


class ReplayClaim(msgspec.Struct, frozen=True, kw_only=True):
    """One request's claim on an Idempotency-Key. Times are epoch seconds.

    ``name`` is the hash of the Idempotency-Key, ``fingerprint`` that of the request. ``until`` is when the claim falls
    to whoever asks next, because the function that made it cannot be alive any more; ``expires_at`` is when all of it
    is forgotten.
    """

    key_id: str
    name: str
    fingerprint: str
    claim_id: str
    until: int
    expires_at: int


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response as it was given."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def idempotency_key(header: str) -> str:
    """The key in the header's value, which is either the key itself or a quoted string: the same key either way.

    :raises InvalidRequestError: it is not 1 to 255 visible characters.
    """
    text = header.strip(" \t")
    if text.startswith('"'):
        quoted = _QUOTED.fullmatch(text)
        text = _ESCAPED.sub(r"\1", quoted[1]) if quoted else ""
    if len(text) > LONGEST_KEY or not _VISIBLE.fullmatch(text):
        raise InvalidRequestError(
            f"{IDEMPOTENCY_HEADER}: must be 1 to {LONGEST_KEY} visible ASCII characters, bare or in quotation marks.",
            code="invalid_idempotency_key",
            param=IDEMPOTENCY_HEADER,
        )
    return text


def name_of(key: str) -> str:
    """What is stored of an Idempotency-Key: its SHA-256 in hexadecimal, as a key may tell what it is about."""
    return hashlib.sha256(key.encode()).hexdigest()


def fingerprint_of(method: str, path: str, parameters: Mapping[str, str], body: bytes) -> str:
    """What makes a repeated request the same one, in hexadecimal: SHA-256 of its method, path, parameters and body."""
    head = msgspec.json.encode((method, path, sorted(parameters.items())))
    # JSON has no zero byte, so no head can run on into a body.
    return hashlib.sha256(head + b"\0" + body).hexdigest()


def in_flight(retry_after_s: float) -> RequestInFlightError:
    """The error for a key that another request has claimed, for so many seconds more at most."""
    return RequestInFlightError(
        "A request with this Idempotency-Key is still being worked on. Repeat it later to get its answer.",
        retry_after_s=max(retry_after_s, 1.0),
    )


def mismatch() -> IdempotencyMismatchError:
    """The error for a key that came with another request before."""
    return IdempotencyMismatchError(
        "This Idempotency-Key was used before, for another request. Use a new one.", param=IDEMPOTENCY_HEADER
    )
