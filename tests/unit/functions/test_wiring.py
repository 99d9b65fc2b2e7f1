"""Every function of the sync mode puts itself together from exactly the environment that Terraform gives it."""

from collections.abc import Callable

import pytest

from functions.admin_circuits import handler as admin_circuits
from functions.admin_dead_letters import handler as admin_dead_letters
from functions.admin_keys import handler as admin_keys
from functions.admin_redrive import handler as admin_redrive
from functions.authorizer import handler as authorizer
from functions.batch_worker import handler as batch_worker
from functions.batches import handler as batches
from functions.chat import handler as chat
from functions.chat_completions import handler as chat_completions
from functions.chat_stream import handler as chat_stream
from functions.chat_stream.settings import ChatStreamSettings
from functions.classify import handler as classify
from functions.completions import handler as completions
from functions.embeddings import handler as embeddings
from functions.files import handler as files
from functions.health import handler as health
from functions.models import handler as models
from functions.score import handler as score
from functions.uploads import handler as uploads
from functions.webhook_sender import handler as webhook_sender
from functions.webhooks import handler as webhooks
from sluice.domain.deadline import Deadline
from sluice.domain.errors import ConfigurationError
from sluice.runtime import bootstrap
from sluice.runtime.settings import load
from sluice.services.authorize import Authorize
from sluice.services.batches import Batches
from sluice.services.check_health import CheckHealth
from sluice.services.dead_letters import InspectQueues
from sluice.services.deliver_webhook import DeliverWebhook
from sluice.services.files import Files
from sluice.services.idempotency import Idempotency
from sluice.services.infer import Inference
from sluice.services.list_circuits import ListCircuits
from sluice.services.list_models import ListModels
from sluice.services.manage_keys import ManageKeys
from sluice.services.redrive import Redrive
from sluice.services.run_chunks import RunChunks
from sluice.services.uploads import Uploads
from sluice.services.webhook_secrets import ManageWebhookSecrets
from sluice.testing.routes import target

TABLE = {"TABLE_NAME": "sluice-test"}
QUEUES = TABLE | {
    f"{queue}_{kind}_URL": f"https://{queue}-{kind}".lower()
    for queue in ("ASYNC", "BATCHES", "CHUNKS", "ASSEMBLY", "WEBHOOKS")
    for kind in ("QUEUE", "DLQ")
}
WEBHOOKS = {
    **TABLE,
    "QUEUE_URL": "https://webhooks-queue",
    "MAX_RECEIVE_COUNT": "10",
    "RETRY_BASE_SECONDS": "5",
    "WEBHOOK_TIMEOUT_SECONDS": "15",
    "WEBHOOKS_ALLOW_PRIVATE": "false",
}
REPLAYS = {**TABLE, "BUCKET_NAME": "sluice-test", "IDEMPOTENCY_TTL_SECONDS": "86400"}
FILES = {**REPLAYS, "FILE_TTL_DAYS": "30", "MAX_FILE_BYTES": "5000000000", "PRESIGN_SECONDS": "3600"}
UPLOADS = FILES | {"UPLOAD_TTL_SECONDS": "3600", "PRESIGN_ENDPOINT_URL": "http://localhost:4566"}
BATCHES = {
    **REPLAYS,
    "BATCHES_QUEUE_URL": "https://batches",
    "ASSEMBLY_QUEUE_URL": "https://assembly",
    "RESULT_TTL_DAYS": "30",
    "FILE_TTL_DAYS": "30",
    "WINDOW": "4",
    "WATCH_SECONDS": "60",
    "WEBHOOKS_ALLOW_PRIVATE": "false",
}
INFERENCE = {
    **REPLAYS,
    "PROVIDER_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:providers",
    "REQUEST_LOG_TTL_DAYS": "90",
    "ATTEMPT_TIMEOUT_SECONDS": "20",
    "MAX_ATTEMPTS": "3",
    "CIRCUIT_FAILURES": "5",
    "CIRCUIT_OPEN_SECONDS": "30",
    "CIRCUIT_CACHE_SECONDS": "3",
    "MAX_OUTPUT_TOKENS": "16384",
}
CHUNKS = {
    **INFERENCE,
    "QUEUE_URL": "https://chunks-queue",
    "ASSEMBLY_QUEUE_URL": "https://assembly-queue",
    "LINE_TRIES": "5",
    "LINE_CONCURRENCY": "16",
    "PROVIDER_CONCURRENCY": "6",
    "LEASE_SECONDS": "60",
    "MAX_RECEIVE_COUNT": "5",
    "RETRY_BASE_SECONDS": "1",
}
STREAM = {
    **INFERENCE,
    "ATTEMPT_TIMEOUT_SECONDS": "240",
    "FIRST_OUTPUT_TIMEOUT_SECONDS": "20",
    "KEY_CACHE_SECONDS": "60",
}
FUNCTIONS = [
    (chat_completions.inference, INFERENCE, Inference),
    (completions.inference, INFERENCE, Inference),
    (chat_stream.inference, STREAM, Inference),
    (chat_stream.authorize, STREAM, Authorize),
    (chat.inference, INFERENCE, Inference),
    (embeddings.inference, INFERENCE, Inference),
    (classify.inference, INFERENCE, Inference),
    (score.inference, INFERENCE, Inference),
    *((module.replays, INFERENCE, Idempotency) for module in (chat_completions, completions, chat)),
    *((module.replays, INFERENCE, Idempotency) for module in (embeddings, classify, score)),
    (models.catalogue, TABLE, ListModels),
    (health.health, TABLE, CheckHealth),
    (admin_keys.keys, TABLE, ManageKeys),
    (admin_circuits.service, TABLE, ListCircuits),
    (admin_redrive.service, QUEUES, Redrive),
    (admin_dead_letters.service, QUEUES, InspectQueues),
    (files.service, FILES, Files),
    (files.replays, FILES, Idempotency),
    (uploads.service, UPLOADS, Uploads),
    (uploads.replays, UPLOADS, Idempotency),
    (batches.service, BATCHES, Batches),
    (batches.replays, BATCHES, Idempotency),
    (webhooks.secrets, TABLE, ManageWebhookSecrets),
    (webhook_sender.service, WEBHOOKS, DeliverWebhook),
    (batch_worker.service, CHUNKS, RunChunks),
    (authorizer.authorize, {**TABLE, "KEY_CACHE_SECONDS": "60"}, Authorize),
]


@pytest.mark.parametrize(("build", "environ", "kind"), FUNCTIONS)
def test_a_function_builds_what_it_needs_once(
    monkeypatch: pytest.MonkeyPatch, build: Callable[[], object], environ: dict[str, str], kind: type
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    build.cache_clear()  # type: ignore[attr-defined]
    assert isinstance(build(), kind)
    assert build() is build()
    build.cache_clear()  # type: ignore[attr-defined]
    bootstrap.routes.cache_clear()


@pytest.mark.parametrize(("build", "environ", "kind"), FUNCTIONS)
def test_without_its_environment_it_says_what_is_missing(
    build: Callable[[], object], environ: dict[str, str], kind: type
) -> None:
    build.cache_clear()  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="TABLE_NAME is missing"):
        build()


@pytest.mark.parametrize(
    ("environ", "whole_s", "first_output_s"), [(INFERENCE, 20.0, 20.0), (STREAM, 240.0, 20.0)], ids=["gateway", "url"]
)
def test_an_attempt_has_the_time_that_the_environment_says(
    environ: dict[str, str], whole_s: float, first_output_s: float
) -> None:
    settings = load(ChatStreamSettings, {**environ, "SLUICE_ENVIRONMENT": "test", "SLUICE_SERVICE": "chat_stream"})
    policy = bootstrap.inference(settings)._policy
    times = [policy.timeout_s(target("a/one"), Deadline.after(299), streaming=streaming) for streaming in (False, True)]
    assert times == [whole_s, first_output_s]
    bootstrap.routes.cache_clear()
