"""Batches as their owners handle them: files of lines, a wait, and results by custom_id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from tests.integration.support import Platform, eventually

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"
ENDED = ("completed", "failed", "expired", "cancelled")
# What is left of 4,400,000 bytes, which is what one request carries, for what is around a part.
PART_BYTES = 4_000_000

Lines = dict[str, dict[str, Any]]


def request(custom_id: str, body: object, *, url: str = CHAT, method: str = "POST") -> dict[str, object]:
    """One line of an input file."""
    return {"custom_id": custom_id, "method": method, "url": url, "body": body}


def question(number: int, *, model: str = "auto") -> dict[str, Any]:
    """A conversation whose answer says which number it was asked about."""
    context = f"Locker {number} holds the blue kayak. The harbour opens at eight. Paddles are in the shed."
    messages = [{"role": "system", "content": context}, {"role": "user", "content": "Which locker holds the kayak?"}]
    return {"model": model, "messages": messages}


def jsonl(requests: Iterable[object]) -> bytes:
    """These objects, one a line."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in requests)


def uploaded(client: OpenAI, content: bytes, *, name: str = "input.jsonl") -> str:
    """The id of a file with this content, whatever its size, uploaded as the official client does it."""
    if len(content) <= PART_BYTES:
        return client.files.create(file=(name, content), purpose="batch").id
    upload = client.uploads.upload_file_chunked(
        file=content,
        filename=name,
        bytes=len(content),
        mime_type="application/jsonl",
        purpose="batch",
        part_size=PART_BYTES,
    )
    assert upload.file is not None
    return upload.file.id


def begun(client: OpenAI, content: bytes, *, endpoint: Any = CHAT, window: Any = "24h", **extra: object) -> Batch:
    """A batch over this content."""
    return client.batches.create(
        input_file_id=uploaded(client, content), endpoint=endpoint, completion_window=window, extra_body=extra
    )


def ended(client: OpenAI, batch_id: str, *, within_s: float = 120, every_s: float = 0.5) -> Batch:
    """The batch once nothing of it moves any more."""

    def probe() -> Batch | None:
        batch = client.batches.retrieve(batch_id)
        return batch if batch.status in ENDED else None

    return eventually(probe, within_s=within_s, every_s=every_s, what=f"{batch_id} has ended")


def results(client: OpenAI, file_id: str | None) -> Lines:
    """The lines of an output or error file by custom_id, of which none may come twice; of no file, none."""
    if file_id is None:
        return {}
    rows = [json.loads(line) for line in client.files.content(file_id).content.decode().splitlines()]
    by_id = {row["custom_id"]: row for row in rows}
    assert len(by_id) == len(rows), "a custom_id came twice"
    return by_id


def errors_of(batch: Batch) -> list[tuple[str | None, int | None]]:
    """The codes of what is wrong with a batch, with their lines."""
    assert batch.errors is not None
    return [(error.code, error.line) for error in batch.errors.data or ()]


def answers(rows: Lines) -> dict[str, str]:
    """What the conversations of an output file were answered."""
    return {custom_id: row["response"]["body"]["choices"][0]["message"]["content"] for custom_id, row in rows.items()}


def queued(platform: Platform, queue: str, *, in_flight: bool = True) -> int:
    """Messages of a queue, those that wait for their time included, and by default those that a function has."""
    names = ["", "Delayed", *(["NotVisible"] if in_flight else [])]
    answer = platform.aws("sqs").get_queue_attributes(
        QueueUrl=platform.env[f"SLUICE_{queue.upper()}_URL"],
        AttributeNames=[f"ApproximateNumberOfMessages{name}" for name in names],
    )
    return sum(int(value) for value in answer["Attributes"].values())


def drained(platform: Platform, queue: str, *, to: int = 0, in_flight: bool = True, within_s: float = 60) -> None:
    """Wait until a queue has no more messages left than ``to``, counted as :func:`queued` counts them."""
    eventually(
        lambda: queued(platform, queue, in_flight=in_flight) <= to or None,
        within_s=within_s,
        what=f"{queue} is down to {to}",
    )


def send(platform: Platform, queue: str, bodies: Sequence[object]) -> None:
    """Put messages into a queue, as nobody but Sluice itself should."""
    for body in bodies:
        platform.aws("sqs").send_message(
            QueueUrl=platform.env[f"SLUICE_{queue.upper()}_QUEUE_URL"], MessageBody=json.dumps(body)
        )
