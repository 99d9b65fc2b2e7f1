"""Messages of the webhooks queue: each is an event that a caller's own server is told of."""

import os
from functools import cache
from typing import Any, Final

import msgspec

from functions.webhook_sender.settings import WebhookSenderSettings
from sluice.domain.deadline import Deadline
from sluice.domain.webhooks import WebhookPointer
from sluice.runtime import webhook_delivery
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.deliver_webhook import DeliverWebhook
from sluice.telemetry import logs
from sluice.wire.records import deliveries, keep

_decode: Final = msgspec.json.Decoder(WebhookPointer).decode


@before_snapshot
@cache
def service() -> DeliverWebhook:
    """Built once per container."""
    settings = load(WebhookSenderSettings, os.environ)
    return webhook_delivery.deliver_webhook(
        settings,
        queue_url=settings.queue_url,
        max_receive_count=settings.max_receive_count,
        retry_base_s=settings.retry_base_seconds,
        timeout_s=settings.webhook_timeout_seconds,
        allow_private=settings.webhooks_allow_private,
    )


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Deliver the events of a batch; what no server has taken stays in the queue."""
    batch = deliveries(event, _decode)
    kept = service().run(batch, deadline)
    logs.canonical(records=len(batch), kept=len(kept))
    return keep(kept)
