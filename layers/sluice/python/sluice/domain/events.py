"""Events on the bus: one for each unit of work that ended, and for each change that an administrator made.

The schema is versioned. Within version 1 fields are only ever added, never removed or changed in meaning.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from sluice.domain.audit import AdminAction
from sluice.domain.batches import Batch
from sluice.domain.inference import Mode
from sluice.domain.jobs import AsyncJob
from sluice.domain.request_log import RequestLogEntry
from sluice.domain.workflows import Execution

SOURCE: Final = "sluice"
SCHEMA_VERSION: Final = "1.0"
# The ``key_id`` of what is about no key.
NO_KEY: Final = "-"


class EventUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the provider counted them."""

    input_tokens: int
    output_tokens: int


class EventError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why the work failed. ``step`` is the index of the workflow step that did.

    ``message`` is absent on ``sluice.inference.*``: the request log keeps codes only.
    """

    code: str
    message: str | None = None
    step: int | None = None


class EventCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of a batch: those with a request in them, those that were answered, and those that failed."""

    total: int
    completed: int
    failed: int


class EventV1(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ``detail`` of an event; ``type`` repeats EventBridge's ``detail-type``.

    ``id`` is the same for every delivery of the same event: consumers can drop repeats. ``time`` is RFC 3339 in UTC.
    ``resource_id`` is the request, async job, batch or workflow execution. ``cost_micro_usd`` is a decimal string;
    absent means unknown, never zero. ``requests`` is how many requests it stands for, absent means one: those of a
    batch are recorded together. ``counts`` are of a batch; ``callback`` is set when its owner, or that of an async job,
    wants to be told of the end.

    In mode ``admin``, ``resource_id`` is the key or queue that was changed, ``key_id`` the key (``-`` for a queue),
    ``actor`` the ARN of whoever did it, and ``changes`` what it is now, by field, as text.
    """

    schema_version: str
    id: str
    type: str
    time: str
    environment: str
    key_id: str
    mode: Mode
    resource_id: str
    status: str
    model: str | None = None
    target: str | None = None
    usage: EventUsage | None = None
    cost_micro_usd: str | None = None
    latency_ms: int | None = None
    error: EventError | None = None
    actor: str | None = None
    changes: Mapping[str, str] | None = None
    requests: int = 1
    counts: EventCounts | None = None
    callback: bool = False


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the table reached, or is in, the state that ``subject`` shows.

    ``before`` is the status it had, ``None`` when it is new. ``key`` and ``sequence`` name the change itself: they are
    the same whenever the same change is read again, and different for every other change. ``at`` is when it was stored,
    in epoch seconds.
    """

    key: str
    sequence: str
    at: float
    subject: RequestLogEntry | AsyncJob | Batch | Execution | AdminAction
    before: str | None = None
