"""Everything that files, uploads and batches are made of, in memory."""

from __future__ import annotations

from typing import Any

from sluice.domain.batches import BatchEndpoint, BatchPointer, NewBatch
from sluice.domain.files import FilePurpose, NewFile, StoredFile
from sluice.domain.inference import Caller
from sluice.services.batches import Batches
from sluice.services.files import Files
from sluice.services.uploads import Uploads
from sluice.services.webhook_secrets import CallbackUrls
from sluice.testing.batches import FakeBatches
from sluice.testing.clock import FakeClock
from sluice.testing.composing import FakeComposer
from sluice.testing.files import FakeFileContents, FakeFiles
from sluice.testing.objects import FakeObjects
from sluice.testing.queues import FakeQueue
from sluice.testing.ranges import FakeRanges
from sluice.testing.webhooks import FakeWebhookSecrets

NOW = 1_800_000_000
CALLER = Caller(key_id="key_1", request_id="request-1", allowed_models=("auto",))
OTHER = Caller(key_id="key_2", request_id="request-2")


class Filing:
    """Files, uploads and batches over one store each. ``queue`` and ``assembly`` are what batches are sent to."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.store = FakeFiles(self.clock)
        self.objects = FakeObjects()
        self.contents = FakeFileContents(self.objects.bodies)
        self.composer = FakeComposer(self.objects)
        self.batch_store = FakeBatches(files=self.store)
        self.secrets = FakeWebhookSecrets()
        self.queue = FakeQueue(BatchPointer, clock=self.clock)
        self.assembly = FakeQueue(BatchPointer, clock=self.clock)
        self.files = Files(store=self.store, contents=self.contents, ttl_days=30, clock=self.clock)
        self.uploads = Uploads(
            store=self.store,
            contents=self.contents,
            ranges=FakeRanges(self.objects),
            composer=self.composer,
            most_bytes=5_000_000_000,
            ttl_s=3_600,
            file_ttl_days=30,
            clock=self.clock,
        )
        self.batches = Batches(
            store=self.batch_store,
            files=self.store,
            callback_urls=CallbackUrls(self.secrets, allow_private=False),
            queue=self.queue,
            assembly=self.assembly,
            chunks_at_once=4,
            watch_s=60,
            result_ttl_days=7,
            file_ttl_days=30,
            clock=self.clock,
        )

    def file(self, content: bytes = b"{}\n", *, caller: Caller = CALLER, **changes: Any) -> StoredFile:
        """A file with this content."""
        return self.files.create(new_file(**changes), content, caller)


def new_file(**changes: Any) -> NewFile:
    """What a caller says about a file."""
    said = {"filename": "input.jsonl", "purpose": FilePurpose.BATCH, "content_type": "application/jsonl"}
    return NewFile(**(said | changes))


def new_batch(file: StoredFile, **changes: Any) -> NewBatch:
    """What a caller asks for."""
    said: dict[str, Any] = {
        "endpoint": BatchEndpoint.CHAT_COMPLETIONS,
        "input_file_id": file.id,
        "completion_window": "24h",
        "window_s": 86_400,
    }
    return NewBatch(**(said | changes))
