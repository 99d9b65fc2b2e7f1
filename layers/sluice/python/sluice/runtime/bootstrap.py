"""The composition root: which adapter stands behind which port. Everything else sees ports only."""

from functools import cache

from sluice.adapters.bedrock import Bedrock
from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.adapters.dynamodb_request_log import DynamoDBRequestLog
from sluice.adapters.dynamodb_routes import DynamoDBRoutes
from sluice.adapters.openai_compatible import OpenAICompatible
from sluice.adapters.secretsmanager import Secret
from sluice.domain.ports import RouteSource
from sluice.runtime import http
from sluice.runtime.clients import client
from sluice.runtime.settings import InferenceSettings, TableSettings
from sluice.services.authorize import Authorize
from sluice.services.check_health import CheckHealth
from sluice.services.infer import Inference, RetryPolicy
from sluice.services.list_models import ListModels
from sluice.services.manage_keys import ManageKeys


def table(settings: TableSettings) -> Table:
    """The one table."""
    return Table(client("dynamodb"), settings.table_name)


@cache
def routes(settings: TableSettings) -> RouteSource:
    """The routes, cached once per container however many services read them."""
    return DynamoDBRoutes(table(settings))


def inference(settings: InferenceSettings) -> Inference:
    """Everything it takes to get an answer from a model."""
    secret = Secret(client("secretsmanager"), settings.provider_secret_arn)
    attempt_timeout_s = settings.attempt_timeout_seconds
    return Inference(
        routes=routes(settings),
        providers={
            # Retries are ours: botocore's own would hide throttles from the failover and outlive the deadline.
            "bedrock": Bedrock(
                lambda timeout_s: client("bedrock-runtime", read_timeout_s=timeout_s, max_attempts=1),
                longest_timeout_s=attempt_timeout_s,
            ),
            "openai_compatible": OpenAICompatible(secret),
        },
        request_log=DynamoDBRequestLog(table(settings), ttl_days=settings.request_log_ttl_days),
        policy=RetryPolicy(max_attempts=settings.max_attempts, attempt_timeout_s=attempt_timeout_s),
        http_status=http.status_of,
    )


def list_models(settings: TableSettings) -> ListModels:
    """The catalogue."""
    return ListModels(routes(settings))


def check_health(settings: TableSettings) -> CheckHealth:
    """The health check."""
    return CheckHealth(routes(settings), settings.sluice_environment)


def authorize(settings: TableSettings, *, cache_seconds: float) -> Authorize:
    """The key check."""
    return Authorize(DynamoDBKeys(table(settings)), cache_seconds=cache_seconds)


def manage_keys(settings: TableSettings) -> ManageKeys:
    """Creating and revoking keys."""
    return ManageKeys(DynamoDBKeys(table(settings)))
