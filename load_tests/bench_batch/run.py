"""One batch from the input file to the checked output, through the official client, with the time of each stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load_tests.bench_batch import lines
from load_tests.bench_batch.verify import Check, VectorsOf, check, jsonl_rows, parquet_rows

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

__all__ = ["BatchError", "Outcome", "Work", "run"]

# What the platform takes in one request (docs/api.md); larger files go up in parts of this size.
_PART_BYTES = 4_000_000
_POLL_S = 0.5
_BLOCK_BYTES = 1 << 20
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class BatchError(Exception):
    """The batch did not complete; the message says how it ended instead."""


@dataclass(frozen=True)
class Work:
    """What to run: so many lines, for a model, with the output as `jsonl` or `parquet`, given up after `timeout_s`."""

    count: int
    model: str
    output_format: str
    folder: Path
    timeout_s: float


@dataclass
class Outcome:
    """What came of it. `stages` holds seconds, in order; `seconds` is from the upload's beginning to the last byte."""

    count: int
    input_bytes: int
    output_bytes: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    check: Check = field(default_factory=lambda: Check(0))

    @property
    def seconds(self) -> float:
        """From the first byte that went up to the last that came down."""
        return sum(self.stages.values())

    @property
    def processing_s(self) -> float:
        """From the request for the batch to its completion."""
        return sum(self.stages[name] for name in ("validating", "running", "assembling"))

    def a_second(self) -> float:
        """Lines a second, while the platform had them."""
        return self.count / self.processing_s


def run(client: OpenAI, work: Work, model: VectorsOf, tell: Callable[[str], None]) -> Outcome:
    """Do it, and check every line.

    Raises:
        BatchError: the batch ended otherwise than completed, or not in time.
    """
    path = work.folder / "input.jsonl"
    outcome = Outcome(work.count, lines.write(path, work.count, work.model))
    watch = _Stages(outcome, tell)
    file_id = _upload(client, path, outcome.input_bytes)
    watch.ended("upload")
    batch = client.batches.create(
        # The client's types know OpenAI's endpoints and windows only.
        input_file_id=file_id,
        endpoint=lines.ENDPOINT,  # type: ignore[arg-type]
        completion_window="24h",
        extra_body={"output_format": work.output_format} if work.output_format != "jsonl" else None,
    )
    batch = _wait(client, batch, work.timeout_s, watch)
    output = work.folder / f"output.{work.output_format}"
    outcome.output_bytes = _download(client, batch, output)
    watch.ended("download")
    outcome.check = check(_rows(output, work.output_format), work.count, model)
    _check_counts(batch, outcome)
    return outcome


class _Stages:
    """Notes how long each stage took."""

    def __init__(self, outcome: Outcome, tell: Callable[[str], None]) -> None:
        self._outcome = outcome
        self._tell = tell
        self._since = time.monotonic()

    def ended(self, name: str) -> None:
        now = time.monotonic()
        self._outcome.stages[name] = now - self._since
        self._since = now
        self._tell(f"{name}: {self._outcome.stages[name]:.1f} s")


def _upload(client: OpenAI, path: Path, size: int) -> str:
    if size <= _PART_BYTES:
        return client.files.create(file=path, purpose="batch").id
    upload = client.uploads.upload_file_chunked(
        file=path, mime_type="application/jsonl", purpose="batch", part_size=_PART_BYTES
    )
    if upload.file is None:
        raise BatchError("the upload was completed without a file")
    return upload.file.id


# What a status says is over; several may have passed between two looks.
_STAGES = {"validating": "validating", "in_progress": "running", "finalizing": "assembling"}


def _wait(client: OpenAI, batch: Batch, timeout_s: float, watch: _Stages) -> Batch:
    until = time.monotonic() + timeout_s
    pending = list(_STAGES)
    while True:
        while pending and _is_behind(batch.status, pending[0]):
            watch.ended(_STAGES[pending.pop(0)])
        if batch.status in _ENDED:
            break
        if time.monotonic() > until:
            raise BatchError(f"still {batch.status} after {timeout_s:.0f} s: {_counts(batch)}")
        time.sleep(_POLL_S)
        batch = client.batches.retrieve(batch.id)
    if batch.status != "completed":
        raise BatchError(f"{batch.status}: {_counts(batch)}; {_errors(batch)}")
    return batch


def _is_behind(status: str, stage: str) -> bool:
    order = list(_STAGES)
    return status not in order or order.index(status) > order.index(stage)


def _counts(batch: Batch) -> str:
    counts = batch.request_counts
    return f"{counts.completed} completed, {counts.failed} failed of {counts.total}" if counts else "nothing counted"


def _errors(batch: Batch) -> str:
    told = [str(error.message) for error in (batch.errors.data or ())] if batch.errors else []
    return "; ".join(told[:3]) or "no errors told"


def _download(client: OpenAI, batch: Batch, output: Path) -> int:
    if batch.output_file_id is None:
        raise BatchError(f"completed without an output file: {_counts(batch)}")
    with client.files.with_streaming_response.content(batch.output_file_id) as response, output.open("wb") as file:
        for block in response.iter_bytes(_BLOCK_BYTES):
            file.write(block)
    return output.stat().st_size


def _rows(output: Path, output_format: str) -> Any:
    if output_format == "parquet":
        return parquet_rows(output)
    return jsonl_rows(_blocks(output))


def _blocks(path: Path) -> Any:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _check_counts(batch: Batch, outcome: Outcome) -> None:
    counts = batch.request_counts
    if counts is None or (counts.total, counts.completed, counts.failed) != (outcome.count, outcome.count, 0):
        outcome.check.blame(f"the batch counts {_counts(batch)}")
    if batch.error_file_id is not None:
        outcome.check.blame("there is an error file")
