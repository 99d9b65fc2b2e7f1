"""The composition root of the routes of batches. What runs batches is put together elsewhere."""

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_batches import DynamoDBBatches
from sluice.adapters.dynamodb_files import DynamoDBFiles
from sluice.adapters.sqs_queue import SqsQueue
from sluice.domain.batches import BatchPointer
from sluice.runtime import webhooks
from sluice.runtime.clients import client
from sluice.runtime.settings import BatchSettings
from sluice.services.batches import Batches


def batches(settings: BatchSettings) -> Batches:
    """Creating, showing, listing and cancelling batches."""
    table, sqs = Table(client("dynamodb"), settings.table_name), client("sqs")
    return Batches(
        store=DynamoDBBatches(table),
        files=DynamoDBFiles(table),
        callback_urls=webhooks.callback_urls(settings, allow_private=settings.webhooks_allow_private),
        queue=SqsQueue[BatchPointer](sqs, settings.batches_queue_url),
        assembly=SqsQueue[BatchPointer](sqs, settings.assembly_queue_url),
        chunks_at_once=settings.window,
        watch_s=settings.watch_seconds,
        result_ttl_days=settings.result_ttl_days,
        file_ttl_days=settings.file_ttl_days,
    )
