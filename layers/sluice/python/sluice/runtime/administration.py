"""The composition root of the admin routes, and what they have in common.

Apart from :mod:`sluice.runtime.bootstrap`, because none of it ever calls a model.
"""

from typing import Final

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_audit import DynamoDBAudit
from sluice.adapters.dynamodb_circuits import DynamoDBTargetStates
from sluice.adapters.dynamodb_dead_letters import DynamoDBDeadLetterReasons
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.adapters.dynamodb_routes import DynamoDBRoutes
from sluice.adapters.sqs_depths import QueueUrls, SqsDepths
from sluice.adapters.sqs_redrive import SqsDeadLetters
from sluice.domain.errors import InvalidRequestError
from sluice.runtime.api import ApiRequest
from sluice.runtime.clients import client
from sluice.runtime.settings import QueueSettings, TableSettings
from sluice.services.dead_letters import InspectQueues
from sluice.services.list_circuits import ListCircuits
from sluice.services.manage_keys import ManageKeys
from sluice.services.redrive import Redrive

IDEMPOTENCY_HEADER: Final = "idempotency-key"


def manage_keys(settings: TableSettings) -> ManageKeys:
    """Creating, changing, rotating and revoking keys."""
    return ManageKeys(DynamoDBKeys(_table(settings)))


def list_circuits(settings: TableSettings) -> ListCircuits:
    """How the targets are doing."""
    table = _table(settings)
    return ListCircuits(DynamoDBRoutes(table), DynamoDBTargetStates(table))


def redrive(settings: QueueSettings) -> Redrive:
    """Moving dead letters back."""
    sqs, table = client("sqs"), _table(settings)
    letters = {
        name: SqsDeadLetters(sqs, dead_letters_url=urls.dead_letters_url, queue_url=urls.queue_url)
        for name, urls in _queues(settings).items()
    }
    return Redrive(letters, DynamoDBAudit(table), DynamoDBDeadLetterReasons(table))


def inspect_queues(settings: QueueSettings) -> InspectQueues:
    """How full the queues are, and why messages are dead."""
    return InspectQueues(SqsDepths(client("sqs"), _queues(settings)), DynamoDBDeadLetterReasons(_table(settings)))


def refuse_idempotency_key(request: ApiRequest) -> None:
    """Tell an administrator that a repeated request would be carried out again, rather than let them rely on more.

    :raises InvalidRequestError: the request carries an ``Idempotency-Key``.
    """
    if IDEMPOTENCY_HEADER in request.headers:
        raise InvalidRequestError(
            "Admin routes do not take an 'Idempotency-Key': their answers are never stored, as some hold a secret."
            " Leave the header out.",
            code="idempotency_unsupported",
            param="Idempotency-Key",
        )


def _table(settings: TableSettings) -> Table:
    return Table(client("dynamodb"), settings.table_name)


def _queues(settings: QueueSettings) -> dict[str, QueueUrls]:
    """The queues by the names that administrators know them by, in the order in which work passes through them."""
    return {
        "async": QueueUrls(settings.async_queue_url, settings.async_dlq_url),
        "batches": QueueUrls(settings.batches_queue_url, settings.batches_dlq_url),
        "chunks": QueueUrls(settings.chunks_queue_url, settings.chunks_dlq_url),
        "assembly": QueueUrls(settings.assembly_queue_url, settings.assembly_dlq_url),
        "webhooks": QueueUrls(settings.webhooks_queue_url, settings.webhooks_dlq_url),
    }
