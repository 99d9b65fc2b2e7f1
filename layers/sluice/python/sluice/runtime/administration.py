"""The composition root of the admin routes, and what they have in common.

Apart from :mod:`sluice.runtime.bootstrap`, because none of it ever calls a model.
"""

from typing import Final

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_audit import DynamoDBAudit
from sluice.adapters.dynamodb_circuits import DynamoDBTargetStates
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.adapters.dynamodb_routes import DynamoDBRoutes
from sluice.adapters.sqs_redrive import SqsDeadLetters
from sluice.domain.errors import InvalidRequestError
from sluice.runtime.api import ApiRequest
from sluice.runtime.clients import client
from sluice.runtime.settings import TableSettings
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


def redrive(settings: TableSettings, *, async_queue_url: str, async_dlq_url: str) -> Redrive:
    """Moving dead letters back."""
    letters = SqsDeadLetters(client("sqs"), dead_letters_url=async_dlq_url, queue_url=async_queue_url)
    return Redrive({"async": letters}, DynamoDBAudit(_table(settings)))


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
