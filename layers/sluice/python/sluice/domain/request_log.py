"""The request log: one entry per unit of work, never its content."""

from decimal import Decimal
from enum import StrEnum

import msgspec

from sluice.domain.inference import Mode, Operation, Usage


class Outcome(StrEnum):
    """How a unit of work ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    THROTTLED = "throttled"


class RequestLogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One finished unit of work. ``started_at`` is epoch seconds, ``latency_ms`` the whole time including retries.

    ``request_id`` with ``started_at`` identifies the entry: writing it again for the same unit of work replaces it.
    ``model`` is what the caller asked for; ``target`` what answered (absent when nothing did).
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
    attempts: int = 0
    fallbacks: int = 0
