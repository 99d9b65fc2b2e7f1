"""The composition root of the authorizer.

Apart from :mod:`sluice.runtime.bootstrap`: the authorizer stands before every request, cold ones too, and needs a table
and nothing else.
"""

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.runtime.clients import client
from sluice.runtime.settings import TableSettings
from sluice.services.authorize import Authorize


def authorize(settings: TableSettings, *, cache_seconds: float) -> Authorize:
    """The key check."""
    return Authorize(DynamoDBKeys(Table(client("dynamodb"), settings.table_name)), cache_seconds=cache_seconds)
