"""The composition root of webhook secrets, and of who may be called back.

Apart from :mod:`sluice.runtime.webhook_delivery`, because whoever accepts work to be told of never sends a message.
"""

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_webhooks import DynamoDBWebhookSecrets
from sluice.runtime.clients import client
from sluice.runtime.settings import TableSettings
from sluice.services.webhook_secrets import CallbackUrls, ManageWebhookSecrets


def manage_secrets(settings: TableSettings) -> ManageWebhookSecrets:
    """Making, showing and deleting the secrets that webhooks are signed with."""
    return ManageWebhookSecrets(_secrets(settings))


def callback_urls(settings: TableSettings, *, allow_private: bool) -> CallbackUrls:
    """Deciding who may be called back."""
    return CallbackUrls(_secrets(settings), allow_private=allow_private)


def _secrets(settings: TableSettings) -> DynamoDBWebhookSecrets:
    return DynamoDBWebhookSecrets(Table(client("dynamodb"), settings.table_name))
