"""What each step makes of a batch and of its chunks: arithmetic only, so that every store does the same.

Nothing here reads or writes. Whoever stores what is decided here makes sure, in the same write, that what it was
decided by is still true.
"""

from collections.abc import Iterable, Sequence
from decimal import localcontext
from typing import Final

import msgspec

from sluice.domain.admission import EXACT, sum_of
from sluice.domain.batches import (
    ENDED,
    MOST_ENTRIES,
    Batch,
    BatchError,
    BatchStatus,
    Chunk,
    ChunkStatus,
    Funds,
    LineUse,
    Part,
)
from sluice.domain.errors import StateConflictError
from sluice.domain.files import StoredFile
from sluice.domain.inference import Usage
from sluice.domain.ledger import ZERO, Hold, Spent
from sluice.domain.request_log import RequestLogEntry

ERROR_FILE_SUFFIX: Final = "_error.jsonl"


def overtaken() -> StateConflictError:
    """The error for whoever goes on with what a later claim has taken over, or what is over."""
    return StateConflictError("Somebody else has it, or it is over.")


def is_claimed(batch: Batch, holder: Batch) -> bool:
    """Whether the claim of ``holder`` is still the newest, and was not given back."""
    return batch.attempts == holder.attempts and batch.lease_until is not None


def can_begin(batch: Batch, holder: Batch) -> bool:
    """Whether the claim's holder may start the batch."""
    return is_claimed(batch, holder) and batch.status is BatchStatus.VALIDATING and batch.halted is None


def begun(batch: Batch, planned: Batch, hold: Hold, *, now: int) -> Batch:
    """The claimed batch, started as ``planned``, with the money of ``hold`` set aside."""
    return msgspec.structs.replace(
        batch,
        chunks=planned.chunks,
        lines=planned.lines,
        model=planned.model,
        window=planned.window,
        status=BatchStatus.IN_PROGRESS,
        updated_at=now,
        in_progress_at=now,
        released=min(planned.window, planned.chunks or 0),
        funds=Funds(shard=hold.shard, month=hold.month, held_micro_usd=hold.cost_micro_usd),
        held_micro_usd=hold.cost_micro_usd,
        lease_until=None,
        progress=None,
    )


def halted(batch: Batch, reason: str, *, now: int) -> Batch:
    """The batch with no further line to run; the very same where nothing changes."""
    if batch.status in ENDED or batch.status is BatchStatus.FINALIZING or batch.halted is not None:
        return batch
    stopped = msgspec.structs.replace(batch, halted=reason, halted_at=now, updated_at=now)
    if reason != BatchStatus.CANCELLED:
        return stopped
    idle = batch.lease_until is None or batch.lease_until <= now
    if batch.status is BatchStatus.VALIDATING and idle:
        return msgspec.structs.replace(
            stopped, status=BatchStatus.CANCELLED, cancelling_at=now, cancelled_at=now, lease_until=None, progress=None
        )
    return msgspec.structs.replace(stopped, status=BatchStatus.CANCELLING, cancelling_at=now)


def finalized(batch: Batch, *, now: int) -> Batch:
    """The drained batch, ready to be assembled; the very same where nothing changes."""
    if batch.status is not BatchStatus.IN_PROGRESS or not batch.is_drained:
        return batch
    return msgspec.structs.replace(batch, status=BatchStatus.FINALIZING, finalizing_at=now, updated_at=now)


def finished(
    batch: Batch, status: BatchStatus, *, files: Sequence[StoredFile], errors: Sequence[BatchError], now: int
) -> Batch:
    """The ended batch. :raises ValueError: ``status`` does not end one."""
    if status not in ENDED:
        raise ValueError(f"'{status}' does not end a batch.")
    error_file = next((file for file in files if file.filename.endswith(ERROR_FILE_SUFFIX)), None)
    output_file = next((file for file in files if file is not error_file), None)
    ended = msgspec.structs.replace(
        batch,
        status=status,
        updated_at=now,
        held_micro_usd=ZERO,
        lease_until=None,
        progress=None,
        errors=tuple(errors),
        output_file_id=output_file.id if output_file else None,
        error_file_id=error_file.id if error_file else None,
    )
    # Every state that ends a batch has its time: completed_at, failed_at, expired_at, cancelled_at.
    return msgspec.structs.replace(ended, **{f"{status.value}_at": now})


def is_same_end(stored: Batch, wanted: Batch) -> bool:
    """Whether ``stored`` has ended as was wanted."""
    files = wanted.output_file_id, wanted.error_file_id
    return stored.status is wanted.status and (stored.output_file_id, stored.error_file_id) == files


def is_out(batch: Batch, chunk: Chunk) -> bool:
    """Whether the chunk has been given out."""
    return chunk.number < batch.window or chunk.released


def is_waiting(chunk: Chunk) -> bool:
    """Whether the chunk was given out by the end of another one, and nobody has found its pointer yet.

    Who has found that once will find it again, so that nobody else has to send it.
    """
    return chunk.released and chunk.attempts == 0


def successor(batch: Batch, number: int) -> int | None:
    """The chunk that the end of chunk ``number`` gives out, unless the rest is skipped; ``None`` if there is none."""
    following = number + batch.window
    return following if batch.chunks is not None and following < batch.chunks else None


def recorded_chunk(chunk: Chunk, part: Part | None, use: LineUse, *, now: int) -> Chunk:
    """The chunk with what an attempt came to.

    :raises ValueError: that contradicts itself (see :meth:`~sluice.domain.ports.BatchStore.record`).
    """
    completed, failed = chunk.completed + use.completed, chunk.failed + use.failed
    if int.from_bytes(chunk.done, "big").bit_count() != completed + failed:
        raise ValueError("The lines that are done are not those that are counted.")
    if use.released_micro_usd > chunk.held_micro_usd:
        raise ValueError("More is released than is held.")
    if part is not None and part.output_key is None and part.error_key is None:
        raise ValueError("A part without an object is none.")
    if chunk.status is ChunkStatus.RUNNING:
        raise ValueError("What is recorded of a chunk ends the attempt.")
    return msgspec.structs.replace(
        chunk,
        completed=completed,
        failed=failed,
        held_micro_usd=EXACT.subtract(chunk.held_micro_usd, use.released_micro_usd),
        parts=chunk.parts if part is None else (*chunk.parts, part),
        heard_of=chunk.attempts,
        lease_until=None,
        parked=False,
        updated_at=now,
    )


def has_recorded(stored: Chunk, wanted: Chunk, part: Part | None) -> bool:
    """Whether ``stored`` has what was to be recorded: the answer to our own write may have been lost.

    The names of a part's objects have the attempt in them, so a part is never another's.
    """
    if part is not None:
        return part in stored.parts
    return (stored.attempts, stored.status) == (wanted.attempts, wanted.status)


def recorded(batch: Batch, chunk: Chunk, use: LineUse, *, now: int) -> tuple[Batch, int | None]:
    """The batch with what an attempt at ``chunk`` came to, and the chunk that is given out by its end, if any is."""
    ended = chunk.status is ChunkStatus.ENDED
    following = successor(batch, chunk.number) if ended and not batch.skips_the_rest else None
    with localcontext(EXACT):
        return msgspec.structs.replace(
            batch,
            updated_at=now,
            ended=batch.ended + ended,
            released=batch.released + (following is not None),
            completed=batch.completed + use.completed,
            failed=batch.failed + use.failed,
            usage=with_usage(batch.usage, use.usage),
            cost_micro_usd=batch.cost_micro_usd + use.cost_micro_usd,
            held_micro_usd=batch.held_micro_usd - use.released_micro_usd,
        ), following


def with_usage(usage: Usage | None, more: Usage | None) -> Usage | None:
    """Both together; estimated when one of them is."""
    if usage is None or more is None:
        return usage or more
    counts = {
        name: getattr(usage, name) + getattr(more, name) for name in Usage.__struct_fields__ if name != "estimated"
    }
    return Usage(**counts, estimated=usage.estimated or more.estimated)


def entered(batch: Batch, entries: Iterable[RequestLogEntry]) -> tuple[RequestLogEntry, ...]:
    """The entries as the request log has them: settled against the money of this batch."""
    return tuple(msgspec.structs.replace(entry, hold=batch.id) for entry in entries)


def spent_by(entries: Sequence[RequestLogEntry], use: LineUse) -> Spent:
    """What the ledger is told: just what the log says, so that the one is always the sum of the other.

    :raises ValueError: the entries are too many for one transaction, or say another cost than ``use``.
    """
    if len(entries) > MOST_ENTRIES:
        raise ValueError(f"There are more than {MOST_ENTRIES} entries.")
    spent = sum_of(
        Spent(
            requests=entry.requests,
            input_tokens=entry.usage.input_tokens if entry.usage else 0,
            output_tokens=entry.usage.output_tokens if entry.usage else 0,
            cost_micro_usd=entry.cost_micro_usd or ZERO,
        )
        for entry in entries
    )
    if spent.cost_micro_usd != use.cost_micro_usd:
        raise ValueError("The entries say another cost than the lines.")
    return spent
