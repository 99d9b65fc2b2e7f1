"""The composition root: which adapter stands behind which port. Everything else sees ports only."""

import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sluice.adapters.bedrock import Bedrock
from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_answers import DynamoDBAnswers
from sluice.adapters.dynamodb_circuits import DynamoDBTargetStates
from sluice.adapters.dynamodb_ledger import DynamoDBLedger
from sluice.adapters.dynamodb_replays import DynamoDBReplays
from sluice.adapters.dynamodb_request_log import DynamoDBRequestLog
from sluice.adapters.dynamodb_routes import DynamoDBRoutes
from sluice.adapters.in_process import InProcess
from sluice.adapters.openai_compatible import OpenAICompatible
from sluice.adapters.packed import CONTENT_TYPE, Bodies
from sluice.adapters.s3_objects import S3Objects
from sluice.adapters.sagemaker import SageMaker
from sluice.adapters.secretsmanager import Secret
from sluice.domain.ports import ModelProvider, ObjectStore, RouteSource
from sluice.domain.resilience import CircuitPolicy
from sluice.domain.routing import ProviderName
from sluice.runtime import http
from sluice.runtime.clients import client, trust
from sluice.runtime.settings import InferenceSettings, ReplaySettings, TableSettings
from sluice.services.answer_cache import AnswerCache
from sluice.services.check_health import CheckHealth
from sluice.services.idempotency import Idempotency
from sluice.services.infer import Inference, RetryPolicy
from sluice.services.list_models import ListModels
from sluice.services.watch_targets import WatchTargets

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Of clients that ask once and do not wait for long: for what a request can do without, and for what must be counted
# once. One client for all of them, as each more costs some milliseconds of every cold start.
IMPATIENT: Final[Mapping[str, Any]] = {"read_timeout_s": 2.0, "max_attempts": 1}


def table(settings: TableSettings) -> Table:
    """The one table."""
    return Table(client("dynamodb"), settings.table_name)


def impatient_table(settings: TableSettings) -> Table:
    """The one table, asked once and not for long."""
    return Table(client("dynamodb", **IMPATIENT), settings.table_name)


@cache
def routes(settings: TableSettings) -> RouteSource:
    """The routes, cached once per container however many services read them."""
    return DynamoDBRoutes(table(settings))


@cache
def _watch(settings: InferenceSettings) -> WatchTargets:
    """What this container knows of the targets' health; one, however many services ask."""
    return WatchTargets(
        DynamoDBTargetStates(impatient_table(settings)),
        circuit_policy(settings),
        cache_s=settings.circuit_cache_seconds,
    )


def circuit_policy(settings: InferenceSettings) -> CircuitPolicy:
    """When circuits open, and for how long."""
    return CircuitPolicy(failures=settings.circuit_failures, open_s=settings.circuit_open_seconds)


def idempotency(settings: ReplaySettings) -> Idempotency:
    """What repeated requests are answered with."""
    bodies = Bodies(lambda: _responses(client("s3"), settings.bucket_name))
    return Idempotency(DynamoDBReplays(table(settings), bodies), ttl_s=settings.idempotency_ttl_seconds)


def answer_cache(settings: InferenceSettings) -> AnswerCache:
    """The answers that may be given again."""
    bodies = Bodies(lambda: _responses(client("s3", **IMPATIENT), settings.bucket_name))
    return AnswerCache(DynamoDBAnswers(impatient_table(settings), bodies))


def _responses(s3: "S3Client", bucket_name: str) -> ObjectStore:
    """Made when a body is first too large for the table: the client is slow to make, and most never need it."""
    return S3Objects(s3, bucket_name, content_type=CONTENT_TYPE, denied_is_missing=True)


def providers(settings: InferenceSettings) -> Mapping[ProviderName, ModelProvider]:
    """Every provider. Connections and the models inside this container belong to them: make them once."""
    secret = Secret(client("secretsmanager"), settings.provider_secret_arn)
    attempt_timeout_s = settings.attempt_timeout_seconds
    return {
        # Retries are ours: botocore's own would hide throttles from the failover and outlive the deadline.
        "bedrock": Bedrock(
            lambda timeout_s: client("bedrock-runtime", read_timeout_s=timeout_s, max_attempts=1),
            longest_timeout_s=attempt_timeout_s,
        ),
        "openai_compatible": OpenAICompatible(secret, trust=trust()),
        "sagemaker": SageMaker(
            lambda timeout_s: client("sagemaker-runtime", read_timeout_s=timeout_s, max_attempts=1),
            longest_timeout_s=attempt_timeout_s,
        ),
        "in_process": InProcess(),
    }


def inference(settings: InferenceSettings) -> Inference:
    """Everything it takes to get an answer from a model."""
    return Inference(
        routes=routes(settings),
        providers=providers(settings),
        request_log=DynamoDBRequestLog(table(settings), ttl_days=settings.request_log_ttl_days),
        # It counts, so it has to know itself what may be repeated.
        ledger=DynamoDBLedger(impatient_table(settings)),
        answers=answer_cache(settings),
        watch=_watch(settings),
        policy=RetryPolicy(
            max_attempts=settings.max_attempts,
            attempt_timeout_s=settings.attempt_timeout_seconds,
            first_output_timeout_s=settings.first_output_timeout_seconds or math.inf,
            hedge_after_s=settings.hedge_after_ms / 1000 if settings.hedge_after_ms else None,
        ),
        max_output_tokens=settings.max_output_tokens,
        http_status=http.status_of,
    )


def list_models(settings: TableSettings) -> ListModels:
    """The catalogue."""
    return ListModels(routes(settings))


def check_health(settings: TableSettings) -> CheckHealth:
    """The health check."""
    return CheckHealth(routes(settings), settings.sluice_environment)
