"""Batches as their owners see them: created, shown, listed and cancelled. What runs them is elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sluice.domain.batches import (
    BATCH_PREFIX,
    Batch,
    BatchEndpoint,
    BatchError,
    BatchPointer,
    BatchStatus,
    NewBatch,
    OutputFormat,
)
from sluice.domain.errors import (
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    StateConflictError,
    StateError,
)
from sluice.domain.files import FILE_PREFIX, FilePurpose, StoredFile
from sluice.domain.ids import is_id, new_id
from sluice.domain.inference import Caller
from sluice.domain.ports import BatchStore, FileStore, WorkQueue
from sluice.services.files import SECONDS_PER_DAY, ttl_of
from sluice.services.webhook_secrets import CallbackUrls
from sluice.telemetry import logs

# Of a claim that is only made to end the batch.
CLAIM_S: Final = 30
# For how long after it should have ended a batch is known at least: its messages may lie in a dead-letter queue for two
# weeks, and a redrive has to find what they point to, and the money that it still holds.
REDRIVABLE_S: Final = 15 * SECONDS_PER_DAY
_log = logs.get_logger()
_ONGOING: Final = frozenset({BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING})


@dataclass(frozen=True)
class Batches:
    """Stores the batch, then sends its pointers: what is in the queues can always be worked on.

    A create that is cut off between the two leaves a batch that the watch finds, once its pointer is sent, and else
    one that nobody was told about. ``chunks_at_once`` is the batch's window; ``watch_s`` is when it is looked after
    for the first time; ``result_ttl_days`` and ``file_ttl_days`` are how long the batch (for ``REDRIVABLE_S`` at least)
    and its files are kept.
    """

    store: BatchStore
    files: FileStore
    callback_urls: CallbackUrls
    queue: WorkQueue[BatchPointer]
    assembly: WorkQueue[BatchPointer]
    chunks_at_once: int
    watch_s: int
    result_ttl_days: int
    file_ttl_days: int
    clock: Callable[[], float] = time.time

    def create(self, new: NewBatch, caller: Caller) -> Batch:
        """The accepted batch, once its messages are in the queues.

        :raises NotFoundError: the caller has no such file.
        :raises InvalidRequestError: the file is for something else, or what is asked for cannot be.
        :raises StateError: it could not be stored or sent; nothing of it will run.
        """
        file = self._input(new.input_file_id, caller)
        self._check(new, caller)
        batch = self._new(new, file, caller)
        self.store.create(batch)
        try:
            # The watch first: nothing begins that nobody looks after.
            self.assembly.send(BatchPointer(batch_id=batch.id, watch=True), delay_s=self.watch_s)
            self.queue.send(BatchPointer(batch_id=batch.id))
        except (StateError, ConfigurationError) as exc:
            self._give_up(batch, exc)
        return batch

    def get(self, batch_id: str, caller: Caller) -> Batch:
        """The caller's own batch. :raises NotFoundError: there is none."""
        batch = self.store.get(batch_id) if is_id(BATCH_PREFIX, batch_id) else None
        if batch is None or batch.key_id != caller.key_id:
            raise NotFoundError("There is no such batch.", code="batch_not_found")
        return batch

    def page(self, caller: Caller, *, limit: int, after: str | None) -> tuple[tuple[Batch, ...], bool]:
        """The caller's batches, newest first, behind the batch ``after``, and whether there are more.

        :raises NotFoundError: there is no such batch ``after``.
        """
        if after is not None and not is_id(BATCH_PREFIX, after):
            raise NotFoundError("There is no such batch.", param="after")
        return self.store.page(caller.key_id, limit=limit, after=after)

    def cancel(self, batch_id: str, caller: Caller) -> Batch:
        """Run no further line of it; what is done is kept. A repeat is told how it stands.

        :raises NotFoundError: there is no such batch.
        :raises ConflictError: it has ended otherwise, or has no line left to run.
        """
        batch = self.get(batch_id, caller)
        if batch.status in _ONGOING:
            batch = self.store.halt(batch.id, BatchStatus.CANCELLED, now=int(self.clock()))
        if batch.status not in _ONGOING | {BatchStatus.CANCELLED}:
            raise ConflictError(
                f"The batch has no line left to run: it is {batch.status.value}.", code="batch_not_cancellable"
            )
        if batch.status is BatchStatus.CANCELLING and batch.is_drained:
            # Nobody is at work who would notice.
            self.assembly.send(BatchPointer(batch_id=batch.id))
        return batch

    def _input(self, file_id: str, caller: Caller) -> StoredFile:
        file = self.files.get(caller.key_id, file_id) if is_id(FILE_PREFIX, file_id) else None
        if file is None:
            raise NotFoundError("There is no such file.", code="file_not_found", param="input_file_id")
        if file.purpose is not FilePurpose.BATCH:
            raise InvalidRequestError(
                f"The input of a batch must be a file of purpose 'batch'; this one is for '{file.purpose.value}'.",
                code="invalid_file_purpose",
                param="input_file_id",
            )
        return file

    def _check(self, new: NewBatch, caller: Caller) -> None:
        if new.output_format is OutputFormat.PARQUET and new.endpoint is not BatchEndpoint.EMBEDDINGS:
            raise InvalidRequestError(
                "The output can be 'parquet' for embeddings only.", code="invalid_value", param="output_format"
            )
        ttl_of(new.output_ttl_s, most_days=self.file_ttl_days, param="output_expires_after.seconds")
        if new.callback_url is not None:
            self.callback_urls.check(new.callback_url, caller, param="callback_url")

    def _new(self, new: NewBatch, file: StoredFile, caller: Caller) -> Batch:
        now = int(self.clock())
        expires_at = now + new.window_s
        return Batch(
            id=new_id(BATCH_PREFIX),
            key_id=caller.key_id,
            endpoint=new.endpoint,
            input_file_id=file.id,
            input_key=file.object_key,
            completion_window=new.completion_window,
            status=BatchStatus.VALIDATING,
            created_at=now,
            updated_at=now,
            expires_at=expires_at,
            forget_at=max(now + self.result_ttl_days * SECONDS_PER_DAY, expires_at + REDRIVABLE_S),
            output_format=new.output_format,
            metadata=new.metadata,
            callback_url=new.callback_url,
            output_ttl_s=new.output_ttl_s,
            allowed_models=caller.allowed_models,
            window=self.chunks_at_once,
            input_bytes=file.bytes,
        )

    def _give_up(self, batch: Batch, error: StateError | ConfigurationError) -> None:
        """End the batch as failed and raise ``error``, unless the splitter has the message after all."""
        now = int(self.clock())
        reason = BatchError(code="not_queued", message="The batch could not be queued.")
        try:
            claimed = self.store.claim(batch.id, [BatchStatus.VALIDATING], now=now, lease_until=now + CLAIM_S)
            if claimed is None:
                _log.warning("batch.sent_after_all", batch_id=batch.id)
                return
            self.store.finish(claimed, BatchStatus.FAILED, files=(), errors=[reason], now=now)
        except StateConflictError:
            _log.warning("batch.sent_after_all", batch_id=batch.id)
            return
        except (StateError, ConfigurationError) as exc:
            _log.error("batch.not_marked_failed", batch_id=batch.id, **logs.describe(exc))
        raise error
