"""The composition root of what sends webhooks."""

import ssl

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_batches import DynamoDBBatches
from sluice.adapters.dynamodb_dead_letters import DynamoDBDeadLetterReasons
from sluice.adapters.dynamodb_jobs import DynamoDBJobs
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.adapters.dynamodb_webhooks import DynamoDBWebhookSecrets
from sluice.adapters.https_webhooks import HttpsWebhooks
from sluice.adapters.sqs_queue import SqsQueue
from sluice.domain.deliveries import QueueName
from sluice.domain.webhooks import WebhookPointer
from sluice.runtime.clients import client, trust
from sluice.runtime.settings import TableSettings
from sluice.services.consume import Consumer
from sluice.services.deliver_webhook import DeliverWebhook
from sluice.services.key_holders import KeyHolders
from sluice.wire.webhooks import signed


def deliver_webhook(
    settings: TableSettings,
    *,
    queue_url: str,
    max_receive_count: int,
    retry_base_s: float,
    timeout_s: float,
    allow_private: bool,
) -> DeliverWebhook:
    """Telling callers' own servers what has ended."""
    table = Table(client("dynamodb"), settings.table_name)
    return DeliverWebhook(
        consumer=Consumer[WebhookPointer](
            queue=SqsQueue(client("sqs"), queue_url),
            reasons=DynamoDBDeadLetterReasons(table),
            queue_name=QueueName.WEBHOOKS,
            max_receive_count=max_receive_count,
            retry_base_s=retry_base_s,
            start_needs_s=timeout_s,
        ),
        batches=DynamoDBBatches(table),
        jobs=DynamoDBJobs(table),
        holders=KeyHolders(DynamoDBKeys(table)),
        secrets=DynamoDBWebhookSecrets(table),
        # A context of its own: the one for AWS leaves it to urllib3 to match names.
        sender=HttpsWebhooks(
            allow_private=allow_private, context=ssl.create_default_context(cafile=trust()["ca_certs"])
        ),
        sign=signed,
        timeout_s=timeout_s,
    )
