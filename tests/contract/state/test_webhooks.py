"""What a store of webhook secrets does, in memory and in DynamoDB."""

from __future__ import annotations

import threading

import msgspec
import pytest

from sluice.adapters.dynamodb_webhooks import DynamoDBWebhookSecrets
from sluice.domain.errors import StateConflictError
from sluice.domain.ids import new_id
from sluice.domain.ports import WebhookSecretStore
from sluice.domain.webhooks import WebhookSecret, WebhookSecrets, new_webhook_secret
from sluice.testing.webhooks import FakeWebhookSecrets
from tests.contract.state.conftest import Aws

NOW = 1_700_000_000


@pytest.fixture(scope="module")
def real(aws: Aws) -> WebhookSecretStore:
    return DynamoDBWebhookSecrets(aws.table()[0])


@pytest.fixture(params=["fake", "real"])
def store(request: pytest.FixtureRequest) -> WebhookSecretStore:
    made: WebhookSecretStore = FakeWebhookSecrets() if request.param == "fake" else request.getfixturevalue("real")
    return made


def first() -> WebhookSecrets:
    secret = WebhookSecret(secret=new_webhook_secret(), created_at=NOW)
    return WebhookSecrets(key_id=new_id("key"), version=1, secrets=(secret,))


def after(before: WebhookSecrets) -> WebhookSecrets:
    current = WebhookSecret(secret=new_webhook_secret(), created_at=NOW + 1)
    retiring = msgspec.structs.replace(before.current, retires_at=NOW + 100)
    return msgspec.structs.replace(before, version=before.version + 1, secrets=(current, retiring))


def test_what_is_stored_is_read_as_it_was(store: WebhookSecretStore) -> None:
    secrets = first()
    assert store.get(secrets.key_id) is None
    store.put(secrets)
    assert store.get(secrets.key_id) == secrets
    later = after(secrets)
    store.put(later)
    assert store.get(secrets.key_id) == later


def test_a_repeat_changes_nothing(store: WebhookSecretStore) -> None:
    secrets = first()
    later = after(secrets)
    for each in (secrets, secrets, later, later):
        store.put(each)
    assert store.get(secrets.key_id) == later


def test_a_change_of_something_else_than_what_is_there_is_refused(store: WebhookSecretStore) -> None:
    secrets = first()
    later = after(secrets)
    with pytest.raises(StateConflictError):
        store.put(later)
    store.put(secrets)
    store.put(later)
    for stale in (first(), after(secrets)):
        with pytest.raises(StateConflictError):
            store.put(msgspec.structs.replace(stale, key_id=secrets.key_id))
    assert store.get(secrets.key_id) == later


def test_of_those_who_change_it_at_once_one_comes_through(store: WebhookSecretStore) -> None:
    secrets = first()
    store.put(secrets)
    contenders = [after(secrets) for _ in range(6)]
    won: list[WebhookSecrets] = []

    def contend(mine: WebhookSecrets) -> None:
        try:
            store.put(mine)
        except StateConflictError:
            return
        won.append(mine)

    threads = [threading.Thread(target=contend, args=(mine,)) for mine in contenders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.get(secrets.key_id)] == won


def test_what_is_deleted_is_gone(store: WebhookSecretStore) -> None:
    secrets = first()
    store.put(secrets)
    for _ in range(2):
        store.delete(secrets.key_id)
        assert store.get(secrets.key_id) is None
