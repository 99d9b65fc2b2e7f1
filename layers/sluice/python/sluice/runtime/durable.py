"""The composition root of the durable modes: batch, workflow and the events of both and of sync.

Apart from :mod:`sluice.runtime.bootstrap`, so that sync functions do not load at cold start what they never use.
"""

from sluice.adapters.dynamodb_dead_letters import DynamoDBDeadLetterReasons
from sluice.adapters.dynamodb_executions import DynamoDBExecutions
from sluice.adapters.dynamodb_jobs import DynamoDBJobs
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.adapters.dynamodb_stream import DynamoDBStream
from sluice.adapters.eventbridge import EventBridge
from sluice.adapters.s3_objects import S3Objects
from sluice.adapters.sqs_queue import SqsQueue
from sluice.adapters.stepfunctions import StepFunctions
from sluice.domain.deliveries import QueueName
from sluice.domain.jobs import JobPointer
from sluice.domain.ports import ExecutionStore, JobStore, ObjectStore, WorkflowEngine, WorkQueue
from sluice.runtime import bootstrap
from sluice.runtime.clients import client
from sluice.runtime.endpoints import InferenceEndpoints
from sluice.runtime.settings import InferenceSettings, Settings, TableSettings
from sluice.services.consume import Consumer
from sluice.services.finish_workflow import FinishWorkflow
from sluice.services.key_holders import KeyHolders
from sluice.services.publish_events import PublishEvents
from sluice.services.read_job import ReadJob
from sluice.services.read_workflow import ReadWorkflow
from sluice.services.run_job import RunJob
from sluice.services.run_workflow_step import RunWorkflowStep
from sluice.services.start_workflow import StartWorkflow
from sluice.services.submit_job import SubmitJob


def submit_job(settings: TableSettings, *, bucket_name: str, queue_url: str, result_ttl_days: int) -> SubmitJob:
    """Accepting asynchronous requests."""
    return SubmitJob(
        endpoints=InferenceEndpoints(),
        routes=bootstrap.routes(settings),
        objects=_objects(bucket_name),
        jobs=_jobs(settings),
        queue=_queue(queue_url),
        result_ttl_days=result_ttl_days,
    )


def run_job(
    settings: InferenceSettings, *, bucket_name: str, queue_url: str, max_receive_count: int, retry_base_s: float
) -> RunJob:
    """Working on asynchronous requests."""
    return RunJob(
        endpoints=InferenceEndpoints(bootstrap.inference(settings)),
        holders=_holders(settings),
        objects=_objects(bucket_name),
        jobs=_jobs(settings),
        consumer=Consumer(
            queue=_queue(queue_url),
            reasons=DynamoDBDeadLetterReasons(bootstrap.table(settings)),
            queue_name=QueueName.ASYNC,
            max_receive_count=max_receive_count,
            retry_base_s=retry_base_s,
            start_needs_s=settings.attempt_timeout_seconds,
        ),
    )


def read_job(settings: TableSettings, *, bucket_name: str) -> ReadJob:
    """Telling what became of asynchronous requests, and cancelling them."""
    return ReadJob(jobs=_jobs(settings), objects=_objects(bucket_name))


def start_workflow(
    settings: TableSettings, *, bucket_name: str, state_machine_arn: str, result_ttl_days: int
) -> StartWorkflow:
    """Starting workflow executions."""
    return StartWorkflow(
        routes=bootstrap.routes(settings),
        objects=_objects(bucket_name),
        executions=_executions(settings),
        engine=_engine(state_machine_arn),
        result_ttl_days=result_ttl_days,
    )


def run_workflow_step(settings: InferenceSettings, *, bucket_name: str) -> RunWorkflowStep:
    """Running the steps of workflow executions."""
    return RunWorkflowStep(
        inference=bootstrap.inference(settings),
        holders=_holders(settings),
        objects=_objects(bucket_name),
        executions=_executions(settings),
    )


def finish_workflow(settings: TableSettings) -> FinishWorkflow:
    """Recording how workflow executions ended."""
    return FinishWorkflow(executions=_executions(settings))


def read_workflow(settings: TableSettings, *, bucket_name: str, state_machine_arn: str) -> ReadWorkflow:
    """Telling how workflow executions stand."""
    return ReadWorkflow(
        executions=_executions(settings), objects=_objects(bucket_name), engine=_engine(state_machine_arn)
    )


def publish_events(settings: Settings, *, event_bus_name: str) -> PublishEvents:
    """Announcing what the table's stream tells."""
    bus = EventBridge(client("events"), event_bus_name)
    return PublishEvents(reader=DynamoDBStream(), bus=bus, environment=settings.sluice_environment)


def _holders(settings: TableSettings) -> KeyHolders:
    return KeyHolders(DynamoDBKeys(bootstrap.table(settings)))


def _objects(bucket_name: str) -> ObjectStore:
    return S3Objects(client("s3"), bucket_name)


def _jobs(settings: TableSettings) -> JobStore:
    return DynamoDBJobs(bootstrap.table(settings))


def _queue(queue_url: str) -> WorkQueue[JobPointer]:
    return SqsQueue(client("sqs"), queue_url)


def _executions(settings: TableSettings) -> ExecutionStore:
    return DynamoDBExecutions(bootstrap.table(settings))


def _engine(state_machine_arn: str) -> WorkflowEngine:
    return StepFunctions(client("stepfunctions"), state_machine_arn)
