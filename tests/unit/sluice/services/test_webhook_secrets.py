from __future__ import annotations

import threading

import pytest

from sluice.domain.errors import ConflictError, InvalidRequestError, NotFoundError, StateConflictError
from sluice.domain.inference import Caller
from sluice.domain.webhooks import MOST_SECRETS, WebhookSecrets
from sluice.services.webhook_secrets import CallbackUrls, ManageWebhookSecrets
from sluice.testing.clock import FakeClock
from sluice.testing.webhooks import FakeWebhookSecrets

CALLER = Caller(key_id="key_1", request_id="request-1")
OTHER = Caller(key_id="key_2", request_id="request-2")
NOW = 1_700_000_000
DAY = 86_400


class World:
    def __init__(self) -> None:
        self.store = FakeWebhookSecrets()
        self.clock = FakeClock(NOW)
        self.manage = ManageWebhookSecrets(self.store, clock=self.clock)


def test_the_first_secret_is_made_and_kept() -> None:
    world = World()
    made = world.manage.rotate(CALLER)
    assert made.current.secret.startswith("whsec_")
    assert (made.version, made.current.created_at, made.current.retires_at) == (1, NOW, None)
    assert world.manage.get(CALLER) == made


def test_the_old_secret_signs_along_for_a_day() -> None:
    world = World()
    old = world.manage.rotate(CALLER).current
    world.clock.advance(60)
    made = world.manage.rotate(CALLER)
    assert [secret.secret for secret in made.secrets] == [made.current.secret, old.secret]
    assert made.secrets[1].retires_at == NOW + 60 + DAY
    world.clock.advance(DAY - 1)
    assert len(world.manage.get(CALLER).secrets) == 2
    world.clock.advance(1)
    assert world.manage.get(CALLER).secrets == (made.current,)
    # What has retired is gone with the next change.
    assert old.secret not in str(world.manage.rotate(CALLER))


def test_a_secret_that_is_on_its_way_out_is_not_kept_longer_by_another_change() -> None:
    world = World()
    world.manage.rotate(CALLER)
    world.manage.rotate(CALLER)
    world.clock.advance(100)
    third = world.manage.rotate(CALLER)
    assert [secret.retires_at for secret in third.secrets] == [None, NOW + 100 + DAY, NOW + DAY]


def test_without_overlap_the_others_are_gone_at_once() -> None:
    world = World()
    world.manage.rotate(CALLER)
    made = world.manage.rotate(CALLER, overlap_s=0)
    assert (made.version, len(made.secrets)) == (2, 1)


def test_no_secret_that_was_promised_to_sign_is_dropped() -> None:
    world = World()
    last = [world.manage.rotate(CALLER) for _ in range(MOST_SECRETS)][-1]
    with pytest.raises(ConflictError) as refused:
        world.manage.rotate(CALLER)
    assert refused.value.code == "too_many_secrets"
    assert world.manage.get(CALLER) == last
    assert len(world.manage.rotate(CALLER, overlap_s=0).secrets) == 1


def test_a_key_sees_its_own_secrets_only() -> None:
    world = World()
    world.manage.rotate(CALLER)
    for ask in (world.manage.get, world.manage.delete):
        with pytest.raises(NotFoundError):
            ask(OTHER)


def test_a_deleted_secret_is_gone() -> None:
    world = World()
    world.manage.rotate(CALLER)
    world.manage.delete(CALLER)
    with pytest.raises(NotFoundError):
        world.manage.get(CALLER)
    assert world.manage.rotate(CALLER).version == 1


def test_a_deletion_whose_answer_was_lost_and_that_is_made_again_has_succeeded() -> None:
    world = World()
    world.manage.rotate(CALLER)
    delete = world.store.delete

    def twice(key_id: str) -> None:
        for _ in range(2):
            delete(key_id)

    world.store.delete = twice  # type: ignore[method-assign]
    world.manage.delete(CALLER)
    assert world.store.get(CALLER.key_id) is None


def test_those_who_rotate_at_the_same_moment_come_one_after_the_other() -> None:
    world = World()
    made: list[WebhookSecrets] = []
    threads = [threading.Thread(target=lambda: made.append(world.manage.rotate(CALLER))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(secrets.version for secrets in made) == [1, 2, 3]
    stored = world.manage.get(CALLER)
    assert {secret.secret for secret in stored.secrets} == {secrets.current.secret for secrets in made}


def test_a_change_that_never_comes_through_says_so() -> None:
    world = World()
    world.store.put = _conflicting  # type: ignore[method-assign]
    with pytest.raises(ConflictError, match="at the same time"):
        world.manage.rotate(CALLER)


def _conflicting(secrets: WebhookSecrets) -> None:
    raise StateConflictError("Somebody else was first.")


def test_a_callback_needs_a_url_and_a_secret() -> None:
    world = World()
    callbacks = CallbackUrls(world.store, allow_private=False)
    with pytest.raises(InvalidRequestError) as refused:
        callbacks.check("https://example.com/", CALLER, param="callback_url")
    assert (refused.value.code, refused.value.param) == ("webhook_secret_missing", "callback_url")
    assert "POST /v1/webhooks/secret" in refused.value.message
    world.manage.rotate(CALLER)
    callbacks.check("https://example.com/", CALLER, param="callback_url")
    with pytest.raises(InvalidRequestError) as refused:
        callbacks.check("http://example.com/", CALLER, param="x-sluice-callback-url")
    assert (refused.value.code, refused.value.param) == ("invalid_callback_url", "x-sluice-callback-url")


def test_a_local_deployment_may_be_called_back_at_home() -> None:
    world = World()
    world.manage.rotate(CALLER)
    CallbackUrls(world.store, allow_private=True).check("http://127.0.0.1:1/", CALLER, param="callback_url")
