"""What the use cases need of the outside world. Adapters implement these; tests use the fakes in ``sluice.testing``."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from sluice.domain.audit import AdminAction
from sluice.domain.batches import Batch, BatchError, BatchStatus, Chunk, LineUse, Part, Recorded
from sluice.domain.caching import CachedAnswer
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import P_contra
from sluice.domain.errors import ProviderAuthError
from sluice.domain.events import Change, EventV1
from sluice.domain.files import PresignedPart, StoredFile, Upload, UploadPart, UploadStatus
from sluice.domain.inference import (
    Caller,
    ChatDelta,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    Mode,
)
from sluice.domain.jobs import AsyncJob, Claim
from sluice.domain.keys import ApiKey
from sluice.domain.ledger import Ask, Hold, Limits, Spent, Standing
from sluice.domain.pace import Pace, PaceState
from sluice.domain.redrive import DeadLetter, DeadLetterReason, QueueDepth
from sluice.domain.replay import ReplayClaim, StoredResponse
from sluice.domain.request_log import RequestLogEntry
from sluice.domain.resilience import Circuit, Health, TargetState
from sluice.domain.routing import RouteTable, Target
from sluice.domain.scoring import ScoreRequest, ScoreResult
from sluice.domain.tasks import Task, TaskAnswer
from sluice.domain.usage import DayUsage, LogPartition, UsageChange
from sluice.domain.webhooks import WebhookAnswer, WebhookMessage, WebhookSecrets
from sluice.domain.workflows import EngineStatus, Execution, StepRecord


class ModelProvider(Protocol):
    """A model provider. Every call raises only :class:`~sluice.domain.errors.ProviderError` and its kinds.

    Hardly any provider does everything: an adapter that inherits from this refuses what it does not define.
    """

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        """Continue the conversation, within ``timeout_s`` seconds."""
        raise _not_offered(target)

    def stream(self, target: Target, request: ChatRequest, *, timeout_s: float) -> Generator[ChatDelta, None, None]:
        """Continue the conversation piece by piece, waiting ``timeout_s`` seconds at most for any of them.

        Who iterates keeps the deadline of the whole. Nothing is sent before the first piece is asked for. A stream
        that ends without a :class:`~sluice.domain.inference.StreamEnd` does not exist: it raises instead, before the
        first piece or after any. Closing the generator closes the connection.
        """
        raise _not_offered(target)

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        """Embed every input, within ``timeout_s`` seconds."""
        raise _not_offered(target)

    def score(self, target: Target, request: ScoreRequest, *, timeout_s: float) -> ScoreResult:
        """Score every row, within ``timeout_s`` seconds for all of them."""
        raise _not_offered(target)


def _not_offered(target: Target) -> ProviderAuthError:
    return ProviderAuthError(
        f"The provider of '{target.name}' cannot do this: its route is wrong.",
        target=target.name,
        code="provider_operation_unsupported",
    )


class RouteSource(Protocol):
    """Where aliases and targets come from."""

    def load(self) -> RouteTable:
        """The current routes; may be up to a minute old."""
        ...


class RequestLog(Protocol):
    """Where finished units of work are recorded."""

    def append(self, entry: RequestLogEntry) -> None:
        """Record the entry; the same ``unit`` of the same key and start replaces an earlier one."""
        ...


class TargetStates(Protocol):
    """What all containers know together of the targets' health. Every change is one compare-and-swap."""

    def read(self, names: Sequence[str]) -> Mapping[str, TargetState]:
        """What is stored of these targets; one that nothing is stored of is left out. May be a moment old."""
        ...

    def swap_circuit(self, name: str, circuit: Circuit, *, version: str | None) -> tuple[bool, TargetState]:
        """Store ``circuit`` if what is stored is still ``version`` (``None``: nothing).

        Whether it was, and what is stored now; of the state only the circuit and its version are meant.
        """
        ...

    def swap_health(self, name: str, health: Health, *, version: str | None) -> tuple[bool, TargetState]:
        """As :meth:`swap_circuit`, for the health."""
        ...


class Ledger(Protocol):
    """What keys may use and have used. Every admission is one atomic write, however many callers race."""

    def reserve(self, key_id: str, limits: Limits, ask: Ask, *, until: float) -> Hold:
        """Hold the most that a request can come to, until it is settled or ``until`` (epoch seconds) has passed.

        :raises LimitError: it does not fit, not even with its least output; everything is as it was.
        """
        ...

    def extend(self, hold: Hold, limits: Limits, cost_micro_usd: Decimal) -> Hold:
        """Hold this much money more, for another call that the same request needs.

        :raises BudgetExceededError: it does not fit; ``hold`` is as it was.
        """
        ...

    def settle(self, hold: Hold, spent: Spent) -> None:
        """Replace the hold by what was really used. To be called once, after the request log has the entry.

        Settles on the way what expired holds left behind, or some of it: whoever settles does not wait for long.
        """
        ...

    def standing(self, key_id: str, limits: Limits) -> Standing:
        """How the key stands now; what expired holds left behind is settled first.

        What of it would take too long counts as held, and whoever comes next goes on with it.
        """
        ...


class AnswerStore(Protocol):
    """Answers to be given again, by key and fingerprint. What has expired is not there."""

    def get(self, key_id: str, fingerprint: str, *, now: float) -> CachedAnswer | None:
        """The answer, or ``None``."""
        ...

    def put(self, key_id: str, fingerprint: str, answer: CachedAnswer) -> None:
        """Store the answer, replacing one that is there."""
        ...


class ReplayStore(Protocol):
    """Responses to requests that carried an Idempotency-Key, by API key and the hash of that key."""

    def begin(self, claim: ReplayClaim, *, now: float) -> StoredResponse | None:
        """Claim the key for this request; or the response it got before.

        :raises RequestInFlightError: another request has claimed it and is still within its time.
        :raises IdempotencyMismatchError: it belongs to a request with another fingerprint.
        """
        ...

    def complete(self, claim: ReplayClaim, response: StoredResponse) -> None:
        """Keep the response for whoever repeats the request. Changes nothing if the claim has been lost."""
        ...

    def release(self, claim: ReplayClaim) -> None:
        """Give the claim back: the request may be made again. Changes nothing if the claim has been lost."""
        ...


class KeyStore(Protocol):
    """Where API keys live, by hash. Changes carry an :class:`~sluice.domain.audit.AdminAction`, stored with them."""

    def get(self, key_hash: str) -> ApiKey | None:
        """The key with this hash as last written, or ``None``."""
        ...

    def by_id(self, key_id: str) -> tuple[ApiKey, ...]:
        """Every secret of the key with this id, the newest first; none when there is no such key.

        What was just stored may not be among them yet, or as it was before.
        """
        ...

    def page(self, *, limit: int, after: str | None) -> tuple[tuple[ApiKey, ...], str | None]:
        """Keys in order of their ids, each once (its newest secret); and the ``after`` of the next page, if any."""
        ...

    def create(self, key: ApiKey, action: AdminAction) -> None:
        """Store a new key."""
        ...

    def replace(self, keys: Sequence[ApiKey], action: AdminAction, *, added: ApiKey | None = None) -> None:
        """Store what has become of every secret of a key (and one more, ``added``) in one transaction.

        :raises NotFoundError: one of them is not there any more.
        :raises StateConflictError: one of them has been changed: its ``version`` is not below the new one.
        """
        ...


class AuditLog(Protocol):
    """Where is kept what administrators did, besides the changes that carry their own record."""

    def record(self, action: AdminAction) -> None:
        """Keep a record of the action."""
        ...


class DeadLetters(Protocol):
    """A queue's messages that nobody could work off, and the way back for them."""

    def now_ms(self) -> int:
        """The time by the queue's own clock, in milliseconds since 1970; never before this call."""
        ...

    def receive(self) -> Sequence[DeadLetter]:
        """A few of them, hidden from others for a while; none when there are no more."""
        ...

    def move(self, letter: DeadLetter) -> None:
        """Put a received one back into its queue. One that is interrupted may be there twice, but is never lost."""
        ...

    def release(self, letter: DeadLetter) -> None:
        """Leave a received one where it is, for anybody to see."""
        ...


class UsageStore(Protocol):
    """What was used, added up from the request log a moment after it was written, every entry exactly once."""

    def record(self, partition: LogPartition, changes: Sequence[UsageChange]) -> None:
        """Add what these changes of one partition (in their order) add, less those that were added before."""
        ...

    def of_key(self, key_id: str, days: Sequence[date]) -> list[DayUsage]:
        """What the key used on these days, by day; days without any use are left out."""
        ...

    def of_day(self, day: date) -> list[DayUsage]:
        """What every key used on this day, by key."""
        ...


class ObjectStore(Protocol):
    """Bodies too large or too private for a table."""

    def put(self, key: str, body: bytes) -> None:
        """Store ``body`` under ``key``, replacing what was there."""
        ...

    def get(self, key: str) -> bytes:
        """The body under ``key``. :raises NotFoundError: there is none."""
        ...


class RangeStore(Protocol):
    """Objects that are too large to be read whole."""

    def size(self, key: str) -> int:
        """Bytes of the object under ``key``. :raises NotFoundError: there is none."""
        ...

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """The bytes from ``start`` to ``end`` (exclusive). :raises NotFoundError: there is no such object."""
        ...

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The content from ``start`` on, in blocks of some size. :raises NotFoundError: there is no such object.

        A connection that breaks is made again where it broke.
        """
        ...


class Piece(msgspec.Struct, frozen=True):
    """An object, or the bytes ``start`` to ``start + size`` of one; or, without a ``key``, ``literal`` bytes."""

    key: str | None
    size: int
    start: int = 0
    literal: bytes = b""


class Composer(Protocol):
    """Puts objects together without fetching more of them than S3's rules for parts demand."""

    def compose(
        self,
        key: str,
        pieces: Sequence[Piece],
        *,
        content_type: str,
        begun: str | None,
        on_begun: Callable[[str], None],
        deadline: Deadline,
        look: Callable[[], None] = lambda: None,
    ) -> bool:
        """Make the object ``key`` of ``pieces``, in their order; whether it is done, or was stopped by ``deadline``.

        ``begun`` is what ``on_begun`` was told by an earlier call, which this one goes on with: what had been copied by
        then stays copied. Pieces of no bytes are left out; without any other the object is empty. ``look`` is called
        before every piece that is copied or fetched, from several threads, and may end it all by an error.

        :raises NotFoundError: a piece is not there (any more).
        """
        ...


class FileContents(Protocol):
    """What is in files, and the ways around Sluice to put it there and to fetch it.

    URLs are good for everybody who knows them, for as long as the deployment says.
    """

    def put(self, key: str, body: bytes, *, content_type: str) -> None:
        """Store ``body`` under ``key``, replacing what was there."""
        ...

    def get(self, key: str) -> bytes:
        """The content under ``key``. :raises NotFoundError: there is none."""
        ...

    def size(self, key: str) -> int:
        """Bytes of the content under ``key``. :raises NotFoundError: there is none."""
        ...

    def delete(self, key: str) -> None:
        """Delete what is under ``key``; nothing there changes nothing."""
        ...

    def download_url(self, file: StoredFile) -> str:
        """Where the content can be fetched, under the file's name."""
        ...

    def begin_parts(self, key: str, *, content_type: str) -> str:
        """S3's name for a new multipart upload that becomes the object ``key``."""
        ...

    def part_urls(self, key: str, multipart_id: str, sizes: Sequence[int]) -> Sequence[str]:
        """Where the parts can be put that have these ``sizes`` in bytes, and no others; from part 1 on."""
        ...

    def parts(self, key: str, multipart_id: str) -> Sequence[PresignedPart]:
        """The parts that have come, in their order. :raises NotFoundError: the multipart upload is over."""
        ...

    def join_parts(self, key: str, multipart_id: str, parts: Sequence[PresignedPart]) -> None:
        """Make the object of its parts; that it is done already may go unnoticed.

        :raises NotFoundError: the multipart upload is over.
        """
        ...

    def abort_parts(self, key: str, multipart_id: str) -> None:
        """Throw away what came of a multipart upload; one that is over changes nothing."""
        ...


class FileStore(Protocol):
    """Files and uploads, by key. Files that have expired are not there, uploads are for a while."""

    def create(self, file: StoredFile) -> None:
        """Store a new file, or find that the very same is stored."""
        ...

    def get(self, key_id: str, file_id: str) -> StoredFile | None:
        """The key's own file, or ``None``."""
        ...

    def page(
        self, key_id: str, *, limit: int, after: str | None, newest_first: bool, purpose: str | None
    ) -> tuple[tuple[StoredFile, ...], bool]:
        """The key's files in order of their creation, behind the file ``after``, and whether there are more.

        :raises NotFoundError: the key has no file ``after``.
        """
        ...

    def delete(self, key_id: str, file_id: str) -> None:
        """Forget the key's own file; one that is not there, or is another key's, changes nothing."""
        ...

    def create_upload(self, upload: Upload) -> None:
        """Store a new upload, or find that the very same is stored."""
        ...

    def get_upload(self, key_id: str, upload_id: str) -> Upload | None:
        """The key's own upload, or ``None``."""
        ...

    def add_part(self, upload: Upload, part: UploadPart) -> None:
        """Store that a part has come, or find that the very same is stored."""
        ...

    def parts(self, upload: Upload) -> Mapping[str, UploadPart]:
        """All parts that have come through the API, by id."""
        ...

    def compose(self, upload: Upload, *, composing: str, order: str) -> Upload:
        """Note that the upload's parts are being put together, in that order, and what goes on with that.

        :raises StateConflictError: it has ended, or they are being put together otherwise.
        """
        ...

    def end_upload(self, upload: Upload, status: UploadStatus, *, file: StoredFile | None = None) -> None:
        """End a pending upload, with the ``file`` that came of it, in one transaction. A repeat changes nothing.

        :raises StateConflictError: it has ended otherwise.
        """
        ...


class Endpoints(Protocol):
    """What the sync routes do, without a connection."""

    def parse(self, endpoint: str, body: bytes) -> Task:
        """The task that a body (JSON) asks of an endpoint. :raises CallerError: it cannot be asked so."""
        ...

    def answer(self, task: Task, caller: Caller, *, mode: Mode, deadline: Deadline) -> TaskAnswer:
        """Do it. Raises what :class:`~sluice.services.infer.Inference` raises."""
        ...


class BatchStore(Protocol):
    """Batches and their chunks. Every change is one conditional write or one transaction, and a repeat changes nothing.

    Whoever works on a batch or a chunk has claimed it; what a later claim has taken over raises ``StateConflictError``.
    """

    def create(self, batch: Batch) -> None:
        """Store a new batch."""
        ...

    def get(self, batch_id: str) -> Batch | None:
        """The batch as last written, or ``None``."""
        ...

    def page(self, key_id: str, *, limit: int, after: str | None) -> tuple[tuple[Batch, ...], bool]:
        """The key's batches, newest first, behind the batch ``after``, and whether there are more."""
        ...

    def claim(self, batch_id: str, statuses: Sequence[BatchStatus], *, now: int, lease_until: int) -> Batch | None:
        """Take the batch while it has one of ``statuses`` and nobody else has it: one attempt more, leased.

        ``None`` when it has another status. :raises LeasedError: somebody has it. :raises NotFoundError: no such batch.
        """
        ...

    def note(self, batch: Batch, progress: Mapping[str, object], *, now: int, lease_until: int) -> Batch:
        """Keep a note of how far the claim's holder has come, and hold the claim longer."""
        ...

    def unclaim(self, batch: Batch, *, now: int) -> None:
        """Let go of a claim, so that another can go on at once."""
        ...

    def put_chunks(self, batch: Batch, chunks: Sequence[Chunk]) -> None:
        """Store planned chunks of the claimed batch, replacing those of an earlier plan. Only before :meth:`begin`.

        :raises StateConflictError: it is not claimed any more, or not ``validating``; no further chunk is stored.
        """
        ...

    def chunks(self, batch: Batch) -> Iterator[Chunk]:
        """All chunks of a batch, in order, read as they are asked for."""
        ...

    def chunks_out(self, batch: Batch) -> Sequence[Chunk]:
        """The chunks that are out and have not ended, in order: as many as the window has room for at most."""
        ...

    def begin(self, batch: Batch, *, most_cost_micro_usd: Decimal, limits: Limits, now: int) -> Batch:
        """Set money aside (the most that all lines come to) and start: ``in_progress``, the first window released.

        ``batch`` is the claimed one with ``chunks``, ``lines``, ``model`` and ``window`` filled in.

        :raises BudgetExceededError: the key's budgets do not hold it; nothing has changed.
        :raises StateConflictError: it was cancelled meanwhile, or is not claimed any more; nothing has changed.
        """
        ...

    def halt(self, batch_id: str, reason: str, *, now: int) -> Batch:
        """See to it that no further line is run; the batch as it is then. One that has ended, or is halted, stays so.

        ``cancelled`` makes it ``cancelling``, or ``cancelled`` at once while it is ``validating`` and nobody has it;
        other reasons leave the status as it is. One that is ``finalizing`` has no line left to run and stays so too.

        :raises NotFoundError: no such batch.
        """
        ...

    def claim_chunk(self, batch_id: str, number: int, *, now: int, lease_until: int) -> tuple[Batch, Chunk] | None:
        """Take a chunk: ``running``, one attempt more, leased; with its batch as of now.

        ``None`` when the chunk has ended, or is not out (yet). :raises LeasedError: somebody has it.
        :raises NotFoundError: no such chunk.
        """
        ...

    def renew_chunk(self, chunk: Chunk, *, now: int, lease_until: int) -> None:
        """Hold a claimed chunk longer. :raises StateConflictError: it is not this attempt's any more."""
        ...

    def record(
        self,
        batch: Batch,
        chunk: Chunk,
        *,
        part: Part | None,
        use: LineUse,
        entries: Sequence[RequestLogEntry],
        now: int,
    ) -> Recorded:
        """Keep what an attempt at a chunk came to, in one transaction. Once for each claim.

        ``chunk`` is as it is to be stored (its ``done`` with the lines of this part, its ``tries``, its ``status``
        ``pending`` or ``ended``; its parts, counts and money as claimed), fenced by its ``attempts``. ``part`` and what
        ``use`` says are added to it here. With it go the counts of the batch, the money (``use.cost_micro_usd`` is
        spent, the rest of ``use.released_micro_usd`` goes back) and the request log: ``entries``, each with a
        ``request_id`` of its own that follows from the chunk and its attempt, at most
        :data:`~sluice.domain.batches.MOST_ENTRIES`, whose costs add up to that of ``use``. Their ``hold`` becomes the
        batch's id. Of a chunk that has ended, the successor (``number + window``) is released, unless the rest is
        skipped.

        :raises ValueError: the entries are too many or say another cost than ``use``, ``done`` does not have as many
            lines as are counted then, more is released than the chunk has held, or ``part`` names no object.
        """
        ...

    def end_of(self, batch_id: str, number: int) -> Recorded:
        """What the end of a chunk has brought about, for whoever finds that it has ended; as :meth:`record` answered.

        Of a chunk that has not ended, nothing. :raises NotFoundError: no such batch.
        """
        ...

    def nudge(self, batch_id: str, number: int, *, now: int, untouched_s: int) -> bool:
        """Whether the pointer of a chunk may be sent again: it was never claimed, nor touched for so many seconds.

        It counts as touched then, so that of all who ask only one sends it.
        """
        ...

    def put_chunk_back(self, chunk: Chunk, *, now: int) -> None:
        """Let go of a chunk of which nothing came: ``pending`` again, with as many ``tries`` as before."""
        ...

    def park_chunk(self, batch_id: str, number: int, *, now: int) -> None:
        """Mark a chunk whose message ends in a dead-letter queue, unless it has ended or somebody is at work on it.

        The next claim takes the mark away.
        """
        ...

    def park(self, batch_id: str, *, now: int) -> None:
        """As :meth:`park_chunk`, for the batch."""
        ...

    def finalize(self, batch: Batch, *, now: int) -> Batch:
        """Make a drained batch ``finalizing`` (``cancelling`` stays so), so that the assembler can claim it.

        One that is not drained, or is past that, stays as it is.
        """
        ...

    def finish(
        self, batch: Batch, status: BatchStatus, *, files: Sequence[StoredFile], errors: Sequence[BatchError], now: int
    ) -> Batch:
        """End a claimed batch: its files are there for its owner, the money still held goes back, one transaction.

        Of ``files`` the first whose name ends in ``_error.jsonl`` is the error file, the other the output.

        :raises StateConflictError: it is not claimed any more, or has ended otherwise; nothing has changed.
        """
        ...


class QueueDepths(Protocol):
    """How full the platform's queues are."""

    def names(self) -> Sequence[str]:
        """The names of all queues, in the order in which work passes through them."""
        ...

    def of_queue(self, name: str) -> QueueDepth:
        """How full one is. :raises NotFoundError: there is no queue of this name."""
        ...


class PaceStore(Protocol):
    """How fast the work of batches goes at each target, shared by all workers."""

    def read(self, names: Sequence[str]) -> Mapping[str, PaceState]:
        """What is stored of these targets; those of which nothing is are left out."""
        ...

    def swap(self, name: str, pace: Pace, *, version: str | None) -> tuple[bool, PaceState]:
        """Store a record if what is there is still of this ``version``; whether it was, and what is stored now."""
        ...


class DeadLetterReasons(Protocol):
    """Why messages ended in a dead-letter queue."""

    def record(self, reason: DeadLetterReason, *, replace: bool = True) -> None:
        """Keep a reason for as long as the message is kept; one of the same message stays unless ``replace`` is set."""
        ...

    def of_queue(self, queue: str, *, limit: int) -> Sequence[DeadLetterReason]:
        """The reasons for a queue's dead letters, the newest first."""
        ...

    def forget(self, queue: str, message_id: str) -> None:
        """The message is no dead letter any more. One without a reason changes nothing."""
        ...


class WebhookSecretStore(Protocol):
    """What messages to callers' servers are signed with, by key."""

    def get(self, key_id: str) -> WebhookSecrets | None:
        """The secrets of a key as last written, or ``None``."""
        ...

    def put(self, secrets: WebhookSecrets) -> None:
        """Store a key's first secrets (``version`` 1), or those after the version before. A repeat changes nothing.

        :raises StateConflictError: somebody else has changed them meanwhile.
        """
        ...

    def delete(self, key_id: str) -> None:
        """Forget a key's secrets, if there are any."""
        ...


class WebhookSender(Protocol):
    """The way to callers' own servers."""

    def post(self, url: str, message: WebhookMessage, *, timeout_s: float) -> WebhookAnswer:
        """Send a message, once, and tell what the server said; all of it within ``timeout_s`` seconds.

        :raises WebhookError: the message may not be sent there, or no answer came.
        """
        ...


class JobStore(Protocol):
    """Asynchronous requests. Every change is one conditional write."""

    def create(self, job: AsyncJob) -> None:
        """Store a new job, or find that the very same is stored."""
        ...

    def get(self, job_id: str) -> AsyncJob | None:
        """The job as last written, or ``None``."""
        ...

    def claim(self, job_id: str, *, now: int, lease_until: int, final_attempt: bool) -> Claim:
        """Try to take the job: ``in_progress``, one attempt more, leased.

        :raises NotFoundError: no such job (any more).
        """
        ...

    def settle(self, job: AsyncJob) -> None:
        """Store what became of attempt ``job.attempts``: completed, failed, or queued again. A repeat changes nothing.

        :raises StateConflictError: a later attempt has it, or it has another outcome already.
        """
        ...

    def cancel(self, job_id: str, *, now: int) -> AsyncJob:
        """End a job that has not ended yet as ``cancelled``; the job as it is then. One that has ended stays as it is.

        :raises NotFoundError: no such job (any more).
        """
        ...

    def note_cost(self, job: AsyncJob) -> None:
        """Store what attempt ``job.attempts`` has cost, of a job that was cancelled meanwhile; of others, nothing."""
        ...

    def page(self, key_id: str, *, limit: int, after: str | None, now: int) -> tuple[tuple[AsyncJob, ...], bool]:
        """The key's jobs, newest first, behind the job ``after``, and whether there are more.

        :raises NotFoundError: the key has no job ``after`` (any more).
        """
        ...


class WorkQueue(Protocol[P_contra]):
    """A queue of pointers to work."""

    def send(self, pointer: P_contra, *, delay_s: int = 0) -> None:
        """Enqueue one pointer, to be received after ``delay_s`` seconds (at most 900).

        :raises StateError: it may have been enqueued all the same.
        """
        ...

    def send_many(self, pointers: Sequence[P_contra], *, delay_s: int = 0) -> None:
        """Enqueue all pointers, in no promised order.

        :raises StateError: some of them may not have been enqueued.
        """
        ...

    def delay(self, receipt_handle: str, *, seconds: int) -> None:
        """Make a received message visible again after ``seconds`` instead of the queue's own timeout."""
        ...


class ExecutionStore(Protocol):
    """Workflow executions and their steps."""

    def create(self, execution: Execution, steps: Sequence[StepRecord]) -> None:
        """Store a new execution, or find that the very same is stored; ``steps`` is what is known of its steps."""
        ...

    def get(self, execution_id: str) -> tuple[Execution, tuple[StepRecord, ...]] | None:
        """The execution and its steps in order, as last written, or ``None``."""
        ...

    def record_step(self, execution: Execution, step: StepRecord) -> None:
        """Store what is known of a step, replacing what was.

        :raises StateConflictError: it has succeeded already, which nothing replaces.
        """
        ...

    def finish(self, execution: Execution) -> None:
        """Store a terminal status once; a repeat changes nothing, whatever it says."""
        ...


class WorkflowEngine(Protocol):
    """What runs executions."""

    def start(self, execution: Execution) -> None:
        """Start it; starting the same execution again changes nothing."""
        ...

    def status(self, execution_id: str) -> EngineStatus | None:
        """The engine's own view. ``None``: it does not know the execution."""
        ...


class EventBus(Protocol):
    """Where events go."""

    def publish(self, events: Sequence[EventV1]) -> Sequence[int]:
        """Publish all; the indexes of those that were not accepted and may be sent again."""
        ...


class ChangeReader(Protocol):
    """What turns a record of the table's stream into a change of the domain."""

    def read(self, record: Mapping[str, Any]) -> Change | None:
        """The change, or ``None`` when the record is of no interest. :raises ValueError: it cannot be understood."""
        ...
