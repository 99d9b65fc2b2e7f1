"""Tell callers' own servers what has ended: signed, at least once, and again until the server has it.

The event travels through a queue of its own, so that a server that is slow or away holds up nothing else, and what
nobody took ends in a dead-letter queue, from where it can be sent again. Where to is not in the message: it is looked
up, so that what is forgotten is not told of any more.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sluice.domain.batches import BATCH_PREFIX, Batch
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import Delivery, Unreadable
from sluice.domain.errors import AuthenticationError, WebhookError
from sluice.domain.ids import is_id
from sluice.domain.jobs import JOB_PREFIX, AsyncJob
from sluice.domain.ports import BatchStore, JobStore, WebhookSecretStore, WebhookSender
from sluice.domain.webhooks import GONE, WebhookEvent, WebhookMessage, WebhookPointer, WebhookSecret
from sluice.services.consume import Consumer, Done, Outcome
from sluice.services.key_holders import KeyHolders
from sluice.telemetry import logs

# It is the servers that take the time, so they are waited for side by side.
CONCURRENT_RECORDS: Final = 10


class Sign(Protocol):
    """Makes the message of an event."""

    def __call__(self, event: WebhookEvent, secrets: Sequence[WebhookSecret], *, now: float) -> WebhookMessage:
        """The message, with a signature by each of ``secrets``, as sent at ``now`` (epoch seconds)."""
        ...


@dataclass(frozen=True)
class DeliverWebhook:
    """Delivers the events that a batch of messages holds. ``timeout_s`` is what one attempt may take."""

    consumer: Consumer[WebhookPointer]
    batches: BatchStore
    jobs: JobStore
    holders: KeyHolders
    secrets: WebhookSecretStore
    sender: WebhookSender
    sign: Sign
    timeout_s: float
    clock: Callable[[], float] = time.time

    def run(self, deliveries: Sequence[Delivery[WebhookPointer] | Unreadable], deadline: Deadline) -> list[str]:
        """The ids of the messages that the queue must keep: to deliver them again, or to move them to its DLQ."""

        def work(delivery: Delivery[WebhookPointer], _: bool) -> Outcome[WebhookPointer]:  # noqa: FBT001 - as Work has it
            event = delivery.pointer.detail
            reason = self._deliver(event, min(self.timeout_s, deadline.remaining_s()))
            logs.canonical(event_id=event.id, event_type=event.type, undelivered=reason)
            return Done()

        return self.consumer.run(deliveries, work, deadline, concurrency=CONCURRENT_RECORDS)

    def _deliver(self, event: WebhookEvent, timeout_s: float) -> str | None:
        """``None`` when the server has it, else why nobody is to be told.

        :raises WebhookError: the server did not take it, this time.
        """
        url = self._callback_url(event)
        if url is None:
            return "no_callback"
        if not self._is_valid(event):
            return "key_not_valid"
        now = self.clock()
        stored = self.secrets.get(event.key_id)
        if stored is None:
            # It was there when the request was accepted. Who deletes it wants no more messages.
            return "no_secret"
        answer = self.sender.post(url, self.sign(event, stored.live_at(now), now=now), timeout_s=timeout_s)
        logs.canonical(webhook_status=answer.status)
        if answer.status == GONE:
            return "gone"
        if not answer.is_taken:
            raise WebhookError(
                f"The server answered with HTTP {answer.status}.",
                code="webhook_refused",
                retry_after_s=answer.retry_after_s,
            )
        return None

    def _callback_url(self, event: WebhookEvent) -> str | None:
        found = self._subject(event.resource_id)
        if found is None or found.key_id != event.key_id:
            return None
        return found.callback_url

    def _subject(self, resource_id: str) -> Batch | AsyncJob | None:
        if is_id(BATCH_PREFIX, resource_id):
            return self.batches.get(resource_id)
        if is_id(JOB_PREFIX, resource_id):
            return self.jobs.get(resource_id)
        return None

    def _is_valid(self, event: WebhookEvent) -> bool:
        try:
            self.holders.caller(event.key_id, event.id)
        except AuthenticationError:
            return False
        return True
