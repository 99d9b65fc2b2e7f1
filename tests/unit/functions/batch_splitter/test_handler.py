"""The splitter's function: from messages to chunks, and from its environment to its limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions.batch_splitter import handler as module
from functions.batch_splitter.settings import BatchSplitterSettings
from sluice.domain.batches import BatchStatus
from sluice.domain.chunk_plan import ChunkLimits
from sluice.domain.errors import ConfigurationError
from sluice.runtime import bootstrap, clients
from sluice.runtime.settings import load
from sluice.services.plan_chunks import InputLimits
from sluice.testing.invocations import FakeLambdaContext
from tests.unit.sluice.services.splitting import ID, Splitting, many

ENVIRON = {
    "SLUICE_ENVIRONMENT": "test",
    "SLUICE_SERVICE": "batch_splitter",
    "TABLE_NAME": "table",
    "BUCKET_NAME": "bucket",
    "QUEUE_URL": "https://batches",
    "CHUNKS_QUEUE_URL": "https://chunks",
    "MAX_LINES": "50000",
    "MAX_BATCH_BYTES": "200000000",
    "MAX_LINE_BYTES": "6000000",
    "CHUNK_LINES_MAX": "5000",
    "CHUNK_SECONDS": "33.3",
    "MAX_RECEIVE_COUNT": "5",
    "RETRY_BASE_SECONDS": "2",
}
OPTIONAL = {"LINE_CONCURRENCY": "8", "LEASE_SECONDS": "10", "MAX_OUTPUT_TOKENS": "4096"}


def event(*bodies: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": f"receipt-{number}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
            }
            for number, body in enumerate(bodies)
        ]
    }


def test_a_message_has_its_batch_split(monkeypatch: pytest.MonkeyPatch) -> None:
    splitting = Splitting(many(9))
    monkeypatch.setattr(module, "service", lambda: splitting.splitter)
    answer = module.handler(event(json.dumps({"batch_id": ID, "version": 1})), FakeLambdaContext())
    assert answer == {"batchItemFailures": []}
    assert splitting.batch.status is BatchStatus.IN_PROGRESS


@pytest.mark.parametrize("body", ["not json", "{}", json.dumps({"batch_id": "batch_1", "version": 1})])
def test_a_message_nobody_can_read_is_kept_for_the_dead_letter_queue(
    monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    splitting = Splitting(many(9))
    monkeypatch.setattr(module, "service", lambda: splitting.splitter)
    answer = module.handler(event(body), FakeLambdaContext())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}


@pytest.mark.parametrize("variable", sorted(ENVIRON))
def test_what_is_not_there_is_named(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} is missing"):
        load(BatchSplitterSettings, ENVIRON | {variable: ""})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MAX_LINES", "0"),
        ("MAX_LINE_BYTES", "0"),
        ("MAX_BATCH_BYTES", "x"),
        ("CHUNK_LINES_MAX", "0"),
        ("CHUNK_SECONDS", "0"),
        ("LINE_CONCURRENCY", "0"),
        ("LEASE_SECONDS", "0"),
        ("MAX_RECEIVE_COUNT", "0"),
        ("RETRY_BASE_SECONDS", "0"),
    ],
)
def test_what_is_out_of_range_is_named(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} is wrong"):
        load(BatchSplitterSettings, ENVIRON | {variable: text})


@pytest.mark.parametrize(("optional", "at_once", "lease_s"), [({}, 16, 60.0), (OPTIONAL, 8, 10.0)])
def test_the_environment_is_what_the_splitter_goes_by(
    monkeypatch: pytest.MonkeyPatch, optional: dict[str, str], at_once: int, lease_s: float
) -> None:
    """Sockets are off: building must not reach for anything."""
    for name, value in (ENVIRON | optional).items():
        monkeypatch.setenv(name, value)
    bootstrap.routes.cache_clear()
    clients.client.cache_clear()
    module.service.cache_clear()  # type: ignore[attr-defined]
    made = module.service()
    assert made is module.service()
    chunk = ChunkLimits(lines=5_000, seconds=33.3)
    assert made.limits == InputLimits(
        lines=50_000, total_bytes=200_000_000, line_bytes=6_000_000, chunk=chunk, at_once=at_once
    )
    assert (made.lease_s, made.consumer.max_receive_count, made.consumer.retry_base_s) == (lease_s, 5, 2.0)
    module.service.cache_clear()  # type: ignore[attr-defined]
