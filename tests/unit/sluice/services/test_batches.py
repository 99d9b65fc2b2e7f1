from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sluice.domain.batches import BatchEndpoint, BatchPointer, BatchStatus, Chunk, OutputFormat
from sluice.domain.errors import (
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    SluiceError,
    StateError,
)
from sluice.domain.files import FilePurpose
from sluice.domain.ledger import NO_LIMITS, ZERO
from sluice.domain.webhooks import WebhookSecret, WebhookSecrets
from tests.unit.sluice.services.filing import CALLER, NOW, OTHER, Filing, new_batch

DAY = 86_400


@pytest.fixture
def world() -> Filing:
    return Filing()


def test_a_batch_is_stored_queued_and_watched(world: Filing) -> None:
    file = world.file(b"four")
    batch = world.batches.create(new_batch(file, metadata={"a": "b"}, window_s=600, output_ttl_s=3_600), CALLER)
    assert world.batch_store.items == {batch.id: batch}
    assert (batch.status, batch.created_at, batch.expires_at) == (BatchStatus.VALIDATING, NOW, NOW + 600)
    assert (batch.input_key, batch.input_bytes, batch.window) == (file.object_key, 4, 4)
    assert batch.allowed_models == ("auto",)
    assert (batch.metadata, batch.output_ttl_s) == ({"a": "b"}, 3_600)
    assert world.queue.pointers == [BatchPointer(batch_id=batch.id)]
    watch = BatchPointer(batch_id=batch.id, watch=True)
    assert world.assembly.pointers == [watch]
    assert world.assembly.due(watch) == NOW + 60


@pytest.mark.parametrize(("result_ttl_days", "kept_days"), [(1, 16), (7, 16), (30, 30)])
def test_a_batch_is_known_for_as_long_as_a_dead_letter_about_it_can_be_redriven(
    world: Filing, result_ttl_days: int, kept_days: int
) -> None:
    world.batches = type(world.batches)(**{**vars(world.batches), "result_ttl_days": result_ttl_days})
    batch = world.batches.create(new_batch(world.file()), CALLER)
    assert batch.forget_at == NOW + kept_days * DAY


@pytest.mark.parametrize(
    ("changes", "error", "code", "param"),
    [
        ({"input_file_id": "file_" + "0" * 32}, NotFoundError, "file_not_found", "input_file_id"),
        ({"input_file_id": "../../x"}, NotFoundError, "file_not_found", "input_file_id"),
        ({"output_format": OutputFormat.PARQUET}, InvalidRequestError, "invalid_value", "output_format"),
        ({"output_ttl_s": 31 * DAY}, InvalidRequestError, "invalid_value", "output_expires_after.seconds"),
        ({"callback_url": "http://example.com/"}, InvalidRequestError, "invalid_callback_url", "callback_url"),
        ({"callback_url": "https://example.com/"}, InvalidRequestError, "webhook_secret_missing", "callback_url"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_stored(
    world: Filing, changes: dict[str, Any], error: type[SluiceError], code: str, param: str
) -> None:
    file = world.file()
    with pytest.raises(error) as raised:
        world.batches.create(new_batch(file, **changes), CALLER)
    assert (raised.value.code, raised.value.param) == (code, param)
    assert not world.batch_store.items
    assert not world.queue.bodies + world.assembly.bodies


def test_another_keys_file_is_not_found(world: Filing) -> None:
    with pytest.raises(NotFoundError):
        world.batches.create(new_batch(world.file(caller=OTHER)), CALLER)


@pytest.mark.parametrize("purpose", [FilePurpose.USER_DATA, FilePurpose.BATCH_OUTPUT])
def test_a_file_for_something_else_is_refused(world: Filing, purpose: FilePurpose) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        world.batches.create(new_batch(world.file(purpose=purpose)), CALLER)
    assert (raised.value.code, raised.value.param) == ("invalid_file_purpose", "input_file_id")


def test_what_embeddings_and_callbacks_may_have(world: Filing) -> None:
    secret = WebhookSecret(secret="whsec_x", created_at=NOW)
    world.secrets.put(WebhookSecrets(key_id=CALLER.key_id, version=1, secrets=(secret,)))
    changes = {"endpoint": BatchEndpoint.EMBEDDINGS, "output_format": OutputFormat.PARQUET}
    batch = world.batches.create(new_batch(world.file(), callback_url="https://example.com/", **changes), CALLER)
    assert (batch.output_format, batch.callback_url) == (OutputFormat.PARQUET, "https://example.com/")


@pytest.mark.parametrize("queue", ["queue", "assembly"])
@pytest.mark.parametrize("error", [StateError("down"), ConfigurationError("denied")])
def test_a_batch_that_could_not_be_queued_has_failed(world: Filing, queue: str, error: SluiceError) -> None:
    getattr(world, queue).failing = error
    with pytest.raises(type(error)):
        world.batches.create(new_batch(world.file()), CALLER)
    [batch] = world.batch_store.items.values()
    assert (batch.status, batch.failed_at) == (BatchStatus.FAILED, NOW)
    assert [each.code for each in batch.errors] == ["not_queued"]


def test_nothing_is_queued_that_is_not_watched(world: Filing) -> None:
    world.assembly.failing = StateError("down")
    with pytest.raises(StateError):
        world.batches.create(new_batch(world.file()), CALLER)
    assert not world.queue.bodies


def test_a_batch_whose_message_came_through_all_the_same_goes_on(
    world: Filing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sent(pointer: BatchPointer, *, delay_s: int = 0) -> None:
        world.batch_store.claim(pointer.batch_id, [BatchStatus.VALIDATING], now=NOW, lease_until=NOW + 60)
        raise StateError("no answer")

    monkeypatch.setattr(world.queue, "send", sent)
    batch = world.batches.create(new_batch(world.file()), CALLER)
    assert world.batch_store.items[batch.id].status is BatchStatus.VALIDATING


def test_a_failure_that_cannot_be_recorded_is_told_all_the_same(world: Filing) -> None:
    world.queue.failing = StateError("down")
    world.batch_store.failing["claim"] = StateError("down as well")
    with pytest.raises(StateError, match=r"^down$"):
        world.batches.create(new_batch(world.file()), CALLER)


def test_pages_are_of_the_callers_batches(world: Filing) -> None:
    made = []
    for _ in range(3):
        made.append(world.batches.create(new_batch(world.file()), CALLER).id)
        world.clock.advance(1)
    world.batches.create(new_batch(world.file(caller=OTHER)), OTHER)
    page, more = world.batches.page(CALLER, limit=2, after=None)
    assert ([batch.id for batch in page], more) == (made[:0:-1], True)
    page, more = world.batches.page(CALLER, limit=2, after=made[1])
    assert ([batch.id for batch in page], more) == (made[:1], False)


def test_what_can_be_no_batch_is_not_asked_for(world: Filing) -> None:
    # DynamoDB takes no key of more than 2 KB, which would look like a mistake of ours.
    world.batch_store.failing["page"] = StateError("asked")
    with pytest.raises(NotFoundError) as raised:
        world.batches.page(CALLER, limit=2, after="a" * 3_000)
    assert raised.value.param == "after"


@pytest.mark.parametrize(
    "look",
    [
        lambda world, batch_id: world.batches.get(batch_id, OTHER),
        lambda world, batch_id: world.batches.cancel(batch_id, OTHER),
        lambda world, batch_id: world.batches.get("batch_1", CALLER),
    ],
)
def test_what_is_another_keys_or_no_id_is_not_found(world: Filing, look: Callable[[Filing, str], Any]) -> None:
    batch = world.batches.create(new_batch(world.file()), CALLER)
    with pytest.raises(NotFoundError) as raised:
        look(world, batch.id)
    assert raised.value.code == "batch_not_found"
    assert world.batches.get(batch.id, CALLER) == batch


# ---- Cancel ----


def running(world: Filing, *, chunks: int = 2) -> str:
    """A batch that is in progress."""
    batch = world.batches.create(new_batch(world.file()), CALLER)
    store = world.batch_store
    claimed = store.claim(batch.id, [BatchStatus.VALIDATING], now=NOW, lease_until=NOW + 60)
    assert claimed is not None
    planned = [Chunk(batch_id=batch.id, number=each, start=0, end=1, first_line=1, lines=1) for each in range(chunks)]
    store.put_chunks(claimed, planned)
    planned_batch = msgspec.structs.replace(claimed, chunks=chunks, lines=chunks, model="auto")
    store.begin(planned_batch, most_cost_micro_usd=ZERO, limits=NO_LIMITS, now=NOW)
    return batch.id


def test_what_nobody_has_begun_is_cancelled_at_once_and_stays_so(world: Filing) -> None:
    batch = world.batches.create(new_batch(world.file()), CALLER)
    world.clock.advance(1)
    for _ in range(2):
        cancelled = world.batches.cancel(batch.id, CALLER)
        assert (cancelled.status, cancelled.cancelled_at) == (BatchStatus.CANCELLED, NOW + 1)


def test_what_is_in_progress_is_cancelling_until_its_chunks_have_ended(world: Filing) -> None:
    batch_id = running(world)
    for _ in range(2):
        cancelled = world.batches.cancel(batch_id, CALLER)
        assert (cancelled.status, cancelled.cancelling_at) == (BatchStatus.CANCELLING, NOW)
    assert [pointer for pointer in world.assembly.pointers if not pointer.watch] == []


def test_what_has_no_chunk_out_is_sent_to_be_ended(world: Filing) -> None:
    batch_id = running(world)
    stored = world.batch_store.items[batch_id]
    world.batch_store.items[batch_id] = msgspec.structs.replace(stored, ended=stored.released)
    world.batches.cancel(batch_id, CALLER)
    assert [pointer for pointer in world.assembly.pointers if not pointer.watch] == [BatchPointer(batch_id=batch_id)]


@pytest.mark.parametrize("status", [BatchStatus.FINALIZING, BatchStatus.COMPLETED, BatchStatus.FAILED])
def test_what_has_no_line_left_to_run_is_not_cancelled(world: Filing, status: BatchStatus) -> None:
    batch_id = running(world)
    stored = world.batch_store.items[batch_id]
    world.batch_store.items[batch_id] = msgspec.structs.replace(stored, status=status)
    with pytest.raises(ConflictError) as raised:
        world.batches.cancel(batch_id, CALLER)
    assert raised.value.code == "batch_not_cancellable"
    assert world.batch_store.items[batch_id].status is status


def test_what_came_to_its_end_in_the_meantime_is_not_cancelled(world: Filing, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = running(world)
    halt = world.batch_store.halt

    def too_late(halted: str, reason: str, *, now: int) -> Any:
        stored = world.batch_store.items[halted]
        world.batch_store.items[halted] = msgspec.structs.replace(stored, status=BatchStatus.FINALIZING)
        return halt(halted, reason, now=now)

    monkeypatch.setattr(world.batch_store, "halt", too_late)
    with pytest.raises(ConflictError):
        world.batches.cancel(batch_id, CALLER)
