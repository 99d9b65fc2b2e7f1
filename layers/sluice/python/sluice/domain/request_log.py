"""The request log: one entry per unit of work, never its content."""

import secrets
from decimal import Decimal
from enum import StrEnum

import msgspec

from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.pricing import Charge


class Outcome(StrEnum):
    """How a unit of work ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    THROTTLED = "throttled"


def new_unit() -> str:
    """A name for a unit of work: 64 random bits in hexadecimal."""
    return secrets.token_hex(8)


class RequestLogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One finished unit of work. ``started_at`` is epoch seconds, ``latency_ms`` the whole time including retries.

    ``unit`` names the unit of work: with ``key_id`` and ``started_at`` it identifies the entry, and writing it again
    replaces it. ``request_id`` cannot, as callers choose it and may give many requests the same.
    ``model`` is what the caller asked for; ``target`` what answered (absent when nothing did).

    ``usage``, ``cost_micro_usd`` and ``price_version`` are of all calls that were billed. Where that was more than one
    (an answer that was repaired, a request that was hedged) ``charges`` has each, so that every cost can be reckoned
    again from its tokens. A request that failed can still have been billed.

    ``hold`` is the reference of the ledger's hold (:class:`~sluice.domain.ledger.Hold`) that it was settled against, or
    the id of the batch that had money set aside for it; ``cached`` says that the answer came from the cache, at no
    cost. ``requests`` is how many requests the entry stands for: the lines of a batch are entered together, by model
    and target, as they are recorded.
    """

    request_id: str
    key_id: str
    mode: Mode
    operation: Operation
    model: str
    outcome: Outcome
    http_status: int
    started_at: float
    latency_ms: int
    target: str | None = None
    error_code: str | None = None
    usage: Usage | None = None
    cost_micro_usd: Decimal | None = None
    price_version: str | None = None
    charges: tuple[Charge, ...] = ()
    attempts: int = 0
    fallbacks: int = 0
    hold: str | None = None
    cached: bool = False
    requests: int = 1
    unit: str = msgspec.field(default_factory=new_unit)
