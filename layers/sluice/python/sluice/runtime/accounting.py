"""The composition root of what counts and reports usage.

Apart from :mod:`sluice.runtime.bootstrap`, because none of it ever calls a model.
"""

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.adapters.dynamodb_ledger import DynamoDBLedger
from sluice.adapters.dynamodb_usage import DynamoDBUsage, changes_of
from sluice.runtime.clients import client
from sluice.runtime.settings import TableSettings
from sluice.services.read_usage import ReadUsage, ReportUsage
from sluice.services.roll_up_usage import RollUpUsage


def roll_up_usage(settings: TableSettings) -> RollUpUsage:
    """Adding up what was used."""
    return RollUpUsage(read=changes_of, usage=DynamoDBUsage(_table(settings)))


def read_usage(settings: TableSettings) -> ReadUsage:
    """Telling the holder of a key what was used."""
    # The ledger counts, so it has to know itself what may be repeated.
    ledger = DynamoDBLedger(Table(client("dynamodb", max_attempts=1), settings.table_name))
    return ReadUsage(usage=DynamoDBUsage(_table(settings)), ledger=ledger)


def report_usage(settings: TableSettings) -> ReportUsage:
    """Telling administrators what was used."""
    table = _table(settings)
    return ReportUsage(usage=DynamoDBUsage(table), keys=DynamoDBKeys(table))


def _table(settings: TableSettings) -> Table:
    return Table(client("dynamodb"), settings.table_name)
