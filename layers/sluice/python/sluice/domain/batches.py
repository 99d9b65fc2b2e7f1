"""Batches: a file of requests, each a line, answered whenever there is room, every line exactly once.

How a batch moves
-----------------
``validating`` (the splitter reads the whole input once, reports what is wrong with it, plans chunks and holds money for
all of them) → ``in_progress`` (workers run chunks) → ``finalizing`` (the assembler puts the results together) →
``completed``. ``failed`` ends what could not begin, or whose input or key went away. ``cancelling`` → ``cancelled`` and
``expired`` end early, with what had been done by then.

Where the truth is
------------------
S3 holds data: the input, the plan, one result object per part of a chunk, the output. SQS holds pointers. The table
holds the truth: one item for the batch and one for each chunk. A message may come twice, late or never; what it points
to says what is left to do.

The window
----------
Of a batch's chunks only so many are out at a time as it may have at work at once (``window``). Whoever ends a chunk
releases the next one in the same transaction, and then sends its pointer; a chunk that is found ended is looked at the
same way, so a worker that died in between stalls nothing.

Money
-----
The most that all lines can come to is set aside from the key's budgets before the first line is run
(:class:`Funds`), and every part of a chunk is settled in the very transaction that records it. What is left over goes
back when the batch ends.
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from sluice.domain.ids import id_pattern
from sluice.domain.inference import Usage
from sluice.domain.ledger import ZERO

BATCH_PREFIX: Final = "batch"
BATCHES_FOLDER: Final = "batches/"
# More would not fit into the batch's item; the last says how many more there are.
MOST_REPORTED_ERRORS: Final = 100
# What of the request log goes into one transaction, beside the batch, its chunks and the ledger. DynamoDB takes 100:
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
MOST_ENTRIES: Final = 90


class BatchStatus(StrEnum):
    """OpenAI's states: https://platform.openai.com/docs/api-reference/batch/object."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED})


class BatchEndpoint(StrEnum):
    """What the lines of a batch may ask for."""

    CHAT_COMPLETIONS = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"
    CLASSIFY = "/v1/classify"
    SCORE = "/v1/score"
    SUMMARIZE = "/v1/summarize"


class OutputFormat(StrEnum):
    """The form of the output file. ``parquet`` is for embeddings; the error file is JSON Lines always."""

    JSONL = "jsonl"
    PARQUET = "parquet"


class BatchError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong with a batch as a whole, or with one line (counted from 1) of its input."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Funds(msgspec.Struct, frozen=True, kw_only=True):
    """Money that is set aside for a batch, in the ledger item of one shard. ``month`` is ``yyyymm``.

    ``held_micro_usd`` is what was set aside at first; what of it is still held is in the batch's ``held_micro_usd``.
    """

    shard: int
    month: str
    held_micro_usd: Decimal = ZERO


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for. ``completion_window`` is in the caller's words, ``window_s`` in seconds."""

    endpoint: BatchEndpoint
    input_file_id: str
    completion_window: str
    window_s: int
    output_format: OutputFormat = OutputFormat.JSONL
    metadata: Mapping[str, str] | None = None
    callback_url: str | None = None
    output_ttl_s: int | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch. Times are epoch seconds.

    ``window`` is how many chunks may be out at once. ``chunks`` is how many there are (``None`` until they are
    planned), ``released`` how many of them were given out, ``ended`` how many of those are over. ``lines``,
    ``completed`` and ``failed`` count lines. ``halted`` is set when no further line is to be run: ``cancelled``,
    ``expired`` or the code of what broke; chunks that are out end early then. ``halted_at`` is when that was.
    ``lease_until`` and ``attempts`` fence the splitter and the assembler, of which one is at work at a time.
    ``output_ttl_s`` is for how long its files are kept once it has ended, where the caller has said so.
    ``parked`` is set when its message ended in a dead-letter queue: nothing but a redrive moves it on.
    ``progress`` is a small note that the splitter or the assembler leaves for whoever goes on after it.
    """

    id: str
    key_id: str
    endpoint: BatchEndpoint
    input_file_id: str
    input_key: str
    completion_window: str
    status: BatchStatus
    created_at: int
    updated_at: int
    expires_at: int
    forget_at: int
    output_format: OutputFormat = OutputFormat.JSONL
    metadata: Mapping[str, str] | None = None
    callback_url: str | None = None
    output_ttl_s: int | None = None
    allowed_models: tuple[str, ...] | None = None
    model: str | None = None
    window: int = 1
    input_bytes: int = 0
    chunks: int | None = None
    released: int = 0
    ended: int = 0
    lines: int = 0
    completed: int = 0
    failed: int = 0
    usage: Usage | None = None
    cost_micro_usd: Decimal = ZERO
    funds: Funds | None = None
    held_micro_usd: Decimal = ZERO
    halted: str | None = None
    halted_at: int | None = None
    attempts: int = 0
    lease_until: int | None = None
    parked: bool = False
    progress: Mapping[str, object] | None = None
    errors: tuple[BatchError, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None

    @property
    def folder(self) -> str:
        """Where everything of the batch is kept but its input and its output."""
        return f"{BATCHES_FOLDER}{self.key_id}/{self.id}/"

    @property
    def is_drained(self) -> bool:
        """Whether no chunk is out any more, and none is to be given out: time to assemble what there is."""
        if self.chunks is None:
            return False
        if self.ended < self.released:
            return False
        return self.released >= self.chunks or self.skips_the_rest

    @property
    def skips_the_rest(self) -> bool:
        """Whether chunks that are not out yet stay where they are.

        Not of one that has expired: its lines get an error each, which takes a worker to write.
        """
        return self.halted is not None and self.halted != BatchStatus.EXPIRED


class ChunkStatus(StrEnum):
    """pending → running → ended; back to pending when lines are left for another delivery."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt at a chunk has written: objects (``None``: nothing of the kind), and their sizes in bytes."""

    output_key: str | None = None
    output_bytes: int = 0
    error_key: str | None = None
    error_bytes: int = 0


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Some consecutive lines of a batch's input: the bytes ``start`` to ``end`` (exclusive), complete lines.

    ``first_line`` counts from 1 and counts every line of the file, ``lines`` only those with a request in them.
    ``done`` has a bit for each of those lines, in order, set when the line has its result; it is empty before the
    first part. ``held_micro_usd`` is what of the batch's funds it still holds, until it has ended.
    ``attempts`` counts the claims, and only the newest may record anything. ``heard_of`` counts those whose end was
    told: all up to the last that recorded something, and those that gave the chunk back since. ``tries`` counts those
    after which a line was left that failed by itself, not for want of room. ``parked`` as of :class:`Batch`.
    ``released`` is set when the end of another chunk has given it out; the first ``window`` chunks are out from the
    beginning. ``updated_at`` is when it was last written (epoch seconds).
    """

    batch_id: str
    number: int
    start: int
    end: int
    first_line: int
    lines: int
    held_micro_usd: Decimal = ZERO
    status: ChunkStatus = ChunkStatus.PENDING
    attempts: int = 0
    heard_of: int = 0
    tries: int = 0
    lease_until: int | None = None
    parked: bool = False
    released: bool = False
    updated_at: int = 0
    done: bytes = b""
    completed: int = 0
    failed: int = 0
    parts: tuple[Part, ...] = ()

    @property
    def lost(self) -> int:
        """Of a claimed chunk: the attempts before this one that ended without a word, as those of killed workers do."""
        return self.attempts - 1 - self.heard_of


class ChunkPointer(msgspec.Struct, frozen=True, kw_only=True):
    """What travels to the workers.

    ``waits`` counts how often it was put off for want of room, for whoever looks into the queue. ``redriven`` is set
    by an operator who has taken it out of the dead-letter queue.
    """

    batch_id: Annotated[str, msgspec.Meta(pattern=id_pattern(BATCH_PREFIX))]
    chunk: Annotated[int, msgspec.Meta(ge=0)]
    version: Literal[1] = 1
    receives: Annotated[int, msgspec.Meta(ge=0)] = 0
    waits: Annotated[int, msgspec.Meta(ge=0)] = 0
    redriven: bool = False

    @property
    def subject(self) -> str:
        """The batch's id and the chunk's number."""
        return f"{self.batch_id}/{self.chunk}"


class BatchPointer(msgspec.Struct, frozen=True, kw_only=True):
    """What travels to the splitter and to the assembler.

    ``watch`` marks the message that comes back every few minutes until the batch has ended, to see that it expires in
    time and that nothing stalls; ``looked_at`` (epoch seconds) is when it did so last.
    """

    batch_id: Annotated[str, msgspec.Meta(pattern=id_pattern(BATCH_PREFIX))]
    version: Literal[1] = 1
    watch: bool = False
    looked_at: int | None = None
    receives: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def subject(self) -> str:
        """The batch's id."""
        return self.batch_id


class LineUse(msgspec.Struct, frozen=True, kw_only=True):
    """What running some lines came to. ``completed`` and ``failed`` are the lines that have their result now.

    ``released_micro_usd`` is what of the chunk's money is held no longer: what that did not cost goes back. Until its
    end a chunk holds on to what its lines have not used, as those that are left may need another call.
    """

    completed: int = 0
    failed: int = 0
    usage: Usage | None = None
    cost_micro_usd: Decimal = ZERO
    released_micro_usd: Decimal = ZERO


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt at a chunk has brought about.

    ``batch`` is as of now; ``released`` is the number of the chunk that the end of this one has given out, if it has
    and nobody has claimed that one yet: its pointer has to be sent.
    """

    batch: Batch
    released: int | None = None
