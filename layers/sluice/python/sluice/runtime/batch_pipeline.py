"""The composition root of the pipeline that batches go through: splitter, worker, assembler.

Apart from :mod:`sluice.runtime.durable`, so that no function loads at cold start what it never uses.
"""

from collections.abc import Callable, Sequence
from typing import Final

from sluice.adapters.dynamodb_batches import DynamoDBBatches
from sluice.adapters.dynamodb_circuits import DynamoDBTargetStates
from sluice.adapters.dynamodb_dead_letters import DynamoDBDeadLetterReasons
from sluice.adapters.dynamodb_files import DynamoDBFiles
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.adapters.dynamodb_ledger import DynamoDBLedger
from sluice.adapters.dynamodb_pace import DynamoDBPace
from sluice.adapters.s3_compose import S3Composer
from sluice.adapters.s3_objects import S3Objects
from sluice.adapters.s3_ranges import S3Ranges
from sluice.adapters.sqs_queue import SqsQueue
from sluice.domain.batches import Batch, BatchPointer, ChunkPointer, OutputFormat
from sluice.domain.deliveries import P, QueueName
from sluice.domain.ports import Ledger, Piece, RangeStore, RequestLog
from sluice.runtime import bootstrap, http
from sluice.runtime.clients import client
from sluice.runtime.endpoints import InferenceEndpoints
from sluice.runtime.line_results import LineResults
from sluice.runtime.settings import InferenceSettings, TableSettings
from sluice.services.assemble_batch import AssembleBatch
from sluice.services.consume import Consumer
from sluice.services.infer import Inference, RetryPolicy
from sluice.services.input_ranges import InputRanges
from sluice.services.key_holders import KeyHolders
from sluice.services.line_costs import LineCosts
from sluice.services.pace_targets import PaceTargets, PatientWatch
from sluice.services.plan_chunks import InputLimits
from sluice.services.run_chunk import ChunkSettings, MakeEndpoints, RunChunk
from sluice.services.run_chunks import RunChunks
from sluice.services.run_lines import LineEndpoints
from sluice.services.split_batch import SplitBatch
from sluice.services.watch_batch import WatchBatch
from sluice.wire.batch_lines import read_line

COPYING_TIMEOUT_S: Final = 60.0


def split_batch(  # noqa: PLR0913 - what a splitter is told by its environment
    settings: TableSettings,
    *,
    bucket_name: str,
    queue_url: str,
    chunks_queue_url: str,
    limits: InputLimits,
    most_output_tokens: int | None,
    lease_s: float,
    max_receive_count: int,
    retry_base_s: float,
) -> SplitBatch:
    """Checking the inputs of batches, and giving out their chunks."""
    queue = _queue(queue_url, BatchPointer)
    return SplitBatch(
        # The ledger counts, so it has to know itself what may be repeated.
        batches=DynamoDBBatches(
            bootstrap.table(settings), ledger=lambda: DynamoDBLedger(bootstrap.impatient_table(settings))
        ),
        ranges=input_ranges(settings, bucket_name=bucket_name),
        objects=S3Objects(client("s3"), bucket_name, content_type="application/vnd.msgpack"),
        endpoints=InferenceEndpoints(),
        holders=_holders(settings),
        costs=LineCosts(bootstrap.routes(settings), most_output_tokens=most_output_tokens),
        chunk_queue=_queue(chunks_queue_url, ChunkPointer),
        read_line=read_line,
        limits=limits,
        lease_s=lease_s,
        consumer=_consumer(
            settings, queue, QueueName.BATCHES, max_receive_count=max_receive_count, retry_base_s=retry_base_s
        ),
    )


def run_chunks(  # noqa: PLR0913 - what a worker is told by its environment
    settings: InferenceSettings,
    *,
    queue_url: str,
    assembly_queue_url: str,
    line_concurrency: int,
    provider_concurrency: int,
    line_tries: int,
    lease_s: float,
    max_receive_count: int,
    retry_base_s: float,
) -> RunChunks:
    """Running the lines of batches."""
    table = bootstrap.table(settings)
    pace = PaceTargets(DynamoDBPace(table), most=provider_concurrency)
    queue = _queue(queue_url, ChunkPointer)
    run_chunk = RunChunk(
        batches=DynamoDBBatches(table, log_ttl_days=settings.request_log_ttl_days),
        ranges=input_ranges(settings, bucket_name=settings.bucket_name),
        objects=S3Objects(client("s3"), settings.bucket_name, content_type="application/octet-stream"),
        holders=_holders(settings),
        routes=bootstrap.routes(settings),
        pace=pace,
        endpoints=_line_endpoints(settings, pace),
        read_line=read_line,
        forms=LineResults(),
        chunks=queue,
        assembly=_queue(assembly_queue_url, BatchPointer),
        settings=ChunkSettings(
            line_concurrency=line_concurrency,
            tries_here=settings.max_attempts,
            line_tries=line_tries,
            start_needs_s=settings.attempt_timeout_seconds,
            lease_s=lease_s,
        ),
    )
    consumer = _consumer(
        settings, queue, QueueName.CHUNKS, max_receive_count=max_receive_count, retry_base_s=retry_base_s
    )
    return RunChunks(consumer=consumer, run_chunk=run_chunk)


def _line_endpoints(settings: InferenceSettings, pace: PaceTargets) -> MakeEndpoints:
    watch = PatientWatch(
        DynamoDBTargetStates(bootstrap.impatient_table(settings)),
        bootstrap.circuit_policy(settings),
        cache_s=settings.circuit_cache_seconds,
        pace=pace,
    )
    providers = bootstrap.providers(settings)

    def make(batch: Batch, log: RequestLog, ledger: Ledger) -> LineEndpoints:
        inference = Inference(
            routes=bootstrap.routes(settings),
            providers=providers,
            request_log=log,
            ledger=ledger,
            watch=watch,
            # Whoever runs the lines repeats them, and knows of the others.
            policy=RetryPolicy(max_attempts=1, attempt_timeout_s=settings.attempt_timeout_seconds),
            max_output_tokens=settings.max_output_tokens,
            http_status=http.status_of,
        )
        return InferenceEndpoints(inference, as_vectors=batch.output_format is OutputFormat.PARQUET)

    return make


def assemble_batch(  # noqa: PLR0913 - what an assembler is told by its environment
    settings: TableSettings,
    *,
    bucket_name: str,
    queue_url: str,
    batches_queue_url: str,
    chunks_queue_url: str,
    file_ttl_days: int,
    watch_s: int,
    lease_s: float,
    max_receive_count: int,
    retry_base_s: float,
) -> AssembleBatch:
    """Putting the files of batches together, and watching over batches."""
    batches = DynamoDBBatches(bootstrap.table(settings))
    queue = _queue(queue_url, BatchPointer)
    # S3 takes its time to copy, and to complete what has thousands of parts.
    patient = client("s3", read_timeout_s=COPYING_TIMEOUT_S)
    return AssembleBatch(
        batches=batches,
        ranges=S3Ranges(client("s3"), bucket_name),
        composer=S3Composer(patient, bucket_name),
        join_parquet=_join_parquet,
        watch=WatchBatch(
            batches=batches,
            splitting=_queue(batches_queue_url, BatchPointer),
            chunks=_queue(chunks_queue_url, ChunkPointer),
            assembly=queue,
            watch_s=watch_s,
        ),
        consumer=_consumer(
            settings, queue, QueueName.ASSEMBLY, max_receive_count=max_receive_count, retry_base_s=retry_base_s
        ),
        file_ttl_days=file_ttl_days,
        lease_s=lease_s,
    )


def input_ranges(settings: TableSettings, *, bucket_name: str) -> RangeStore:
    """The input files of batches."""
    return InputRanges(S3Ranges(client("s3"), bucket_name), DynamoDBFiles(bootstrap.table(settings)))


def _join_parquet(parts: Sequence[tuple[str, int]], read_range: Callable[[str, int, int], bytes]) -> Sequence[Piece]:
    # Hardly any batch wants it.
    from sluice.adapters import parquet

    return parquet.merge(parts, read_range)


def _holders(settings: TableSettings) -> KeyHolders:
    return KeyHolders(DynamoDBKeys(bootstrap.table(settings)))


def _queue(queue_url: str, _: type[P]) -> SqsQueue[P]:
    """The queue for pointers of this kind."""
    return SqsQueue(client("sqs"), queue_url)


def _consumer(
    settings: TableSettings, queue: SqsQueue[P], name: QueueName, *, max_receive_count: int, retry_base_s: float
) -> Consumer[P]:
    return Consumer(
        queue=queue,
        reasons=DynamoDBDeadLetterReasons(bootstrap.table(settings)),
        queue_name=name,
        max_receive_count=max_receive_count,
        retry_base_s=retry_base_s,
    )
