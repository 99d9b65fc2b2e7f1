"""Every setting of the durable modes' functions: present, missing, empty, out of range."""

from __future__ import annotations

import pytest

from functions.async_status.settings import AsyncStatusSettings
from functions.async_submit.settings import AsyncSubmitSettings
from functions.async_worker.settings import AsyncWorkerSettings
from functions.batch_worker.settings import BatchWorkerSettings
from functions.batches.settings import BatchesSettings
from functions.files.settings import FilesSettings
from functions.publish_events.settings import PublishEventsSettings
from functions.uploads.settings import UploadsSettings
from functions.webhook_sender.settings import WebhookSenderSettings
from functions.webhooks.settings import WebhooksSettings
from functions.workflow_ended.settings import WorkflowEndedSettings
from functions.workflow_finish.settings import WorkflowFinishSettings
from functions.workflow_run_step.settings import WorkflowRunStepSettings
from functions.workflow_start.settings import WorkflowStartSettings
from functions.workflow_status.settings import WorkflowStatusSettings
from sluice.domain.errors import ConfigurationError
from sluice.runtime import bootstrap, clients, durable
from sluice.runtime.settings import Settings, load

COMMON = {"SLUICE_ENVIRONMENT": "test", "SLUICE_SERVICE": "x", "LOG_LEVEL": "INFO"}
TABLE = {"TABLE_NAME": "table"}
MODELS = TABLE | {
    "PROVIDER_SECRET_ARN": "arn",
    "REQUEST_LOG_TTL_DAYS": "30",
    "ATTEMPT_TIMEOUT_SECONDS": "20",
    "MAX_ATTEMPTS": "2",
}
BUCKET = {"BUCKET_NAME": "bucket"}
REPLAYS = BUCKET | {"IDEMPOTENCY_TTL_SECONDS": "3600"}
QUEUE = {"QUEUE_URL": "https://queue"}
TTL = {"RESULT_TTL_DAYS": "30"}
WEBHOOKS = {"WEBHOOKS_ALLOW_PRIVATE": "true"}
MACHINE = {"STATE_MACHINE_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:x"}
FILES = TABLE | REPLAYS | {"FILE_TTL_DAYS": "30", "MAX_FILE_BYTES": "5000000000", "PRESIGN_SECONDS": "3600"}
BATCH_QUEUES = {"BATCHES_QUEUE_URL": "https://batches", "ASSEMBLY_QUEUE_URL": "https://assembly"}
RETRIES = {"MAX_RECEIVE_COUNT": "5", "RETRY_BASE_SECONDS": "0.5"}

ALL: list[tuple[type[Settings], dict[str, str]]] = [
    (AsyncSubmitSettings, TABLE | REPLAYS | QUEUE | TTL | WEBHOOKS),
    (FilesSettings, FILES | {"PRESIGN_ENDPOINT_URL": "http://localhost:4566"}),
    (UploadsSettings, FILES | {"UPLOAD_TTL_SECONDS": "3600"}),
    (
        BatchesSettings,
        TABLE | REPLAYS | BATCH_QUEUES | TTL | WEBHOOKS | {"FILE_TTL_DAYS": "30", "WINDOW": "4", "WATCH_SECONDS": "60"},
    ),
    (AsyncWorkerSettings, MODELS | BUCKET | QUEUE | RETRIES),
    (BatchWorkerSettings, MODELS | BUCKET | QUEUE | RETRIES | {"ASSEMBLY_QUEUE_URL": "https://assembly"}),
    (AsyncStatusSettings, TABLE | REPLAYS),
    (WorkflowStartSettings, TABLE | REPLAYS | MACHINE | TTL),
    (WorkflowRunStepSettings, MODELS | BUCKET),
    (WorkflowFinishSettings, TABLE),
    (WorkflowEndedSettings, TABLE),
    (WorkflowStatusSettings, TABLE | BUCKET | MACHINE),
    (PublishEventsSettings, {"EVENT_BUS_NAME": "bus"}),
    (WebhooksSettings, TABLE),
    (WebhookSenderSettings, TABLE | QUEUE | RETRIES | WEBHOOKS | {"WEBHOOK_TIMEOUT_SECONDS": "15"}),
]
DEFAULTS = {
    "IDEMPOTENCY_TTL_SECONDS": 86_400,
    "PRESIGN_ENDPOINT_URL": None,
    "WATCH_SECONDS": 60,
    "WEBHOOKS_ALLOW_PRIVATE": False,
}
SET = [(kind, environ, variable) for kind, environ in ALL for variable in environ]
EACH = [each for each in SET if each[2] not in DEFAULTS]
WRONG = {
    "FILE_TTL_DAYS": "0",
    "MAX_FILE_BYTES": "0",
    "PRESIGN_SECONDS": "0",
    # The bucket forgets the parts after two days.
    "UPLOAD_TTL_SECONDS": "86401",
    "WINDOW": "0",
    "WATCH_SECONDS": "901",
    "RESULT_TTL_DAYS": "0",
    "MAX_RECEIVE_COUNT": "0",
    "RETRY_BASE_SECONDS": "0",
    "REQUEST_LOG_TTL_DAYS": "x",
    "ATTEMPT_TIMEOUT_SECONDS": "-1",
    "MAX_ATTEMPTS": "99",
    "WEBHOOKS_ALLOW_PRIVATE": "perhaps",
    "WEBHOOK_TIMEOUT_SECONDS": "61",
    # S3 forgets the larger responses after two days.
    "IDEMPOTENCY_TTL_SECONDS": "86401",
}


@pytest.mark.parametrize(("kind", "environ"), ALL)
def test_a_whole_environment_is_accepted(kind: type[Settings], environ: dict[str, str]) -> None:
    settings = load(kind, COMMON | environ)
    for variable, text in environ.items():
        value = getattr(settings, variable.lower())
        assert str(value).lower() == text.lower() or value == float(text)


@pytest.mark.parametrize(("kind", "environ", "variable"), EACH)
@pytest.mark.parametrize("lack", ["missing", "empty"])
def test_what_is_not_there_is_named(kind: type[Settings], environ: dict[str, str], variable: str, lack: str) -> None:
    given = COMMON | environ | {variable: ""}
    if lack == "missing":
        del given[variable]
    with pytest.raises(ConfigurationError, match=f"{variable} is missing"):
        load(kind, given)


@pytest.mark.parametrize(("kind", "environ", "variable"), [each for each in SET if each[2] in DEFAULTS])
def test_what_has_a_default_may_be_missing(kind: type[Settings], environ: dict[str, str], variable: str) -> None:
    settings = load(kind, COMMON | environ | {variable: ""})
    assert getattr(settings, variable.lower()) == DEFAULTS[variable]


@pytest.mark.parametrize(("kind", "environ", "variable"), [each for each in SET if each[2] in WRONG])
def test_what_is_out_of_range_is_named(kind: type[Settings], environ: dict[str, str], variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} is wrong"):
        load(kind, COMMON | environ | {variable: WRONG[variable]})


def test_every_service_is_wired_without_a_call() -> None:
    """Sockets are off: building must not reach for anything."""
    bootstrap.routes.cache_clear()
    clients.client.cache_clear()
    submit = load(AsyncSubmitSettings, COMMON | TABLE | BUCKET | QUEUE | TTL)
    worker = load(AsyncWorkerSettings, COMMON | MODELS | BUCKET | QUEUE | RETRIES)
    table = load(WorkflowFinishSettings, COMMON | TABLE)
    arn = MACHINE["STATE_MACHINE_ARN"]
    worked = durable.run_job(worker, bucket_name="b", queue_url="q", max_receive_count=5, retry_base_s=2)
    assert (worked.consumer.max_receive_count, worked.consumer.start_needs_s) == (5, 20)
    made = [
        durable.submit_job(submit, bucket_name="b", queue_url="q", result_ttl_days=1),
        durable.read_job(table, bucket_name="b"),
        durable.start_workflow(table, bucket_name="b", state_machine_arn=arn, result_ttl_days=1),
        durable.run_workflow_step(worker, bucket_name="b"),
        durable.finish_workflow(table),
        durable.read_workflow(table, bucket_name="b", state_machine_arn=arn),
        durable.publish_events(table, event_bus_name="bus"),
    ]
    assert len({type(service) for service in made}) == len(made)
