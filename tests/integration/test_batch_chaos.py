"""20,000 lines while everything that can happen to a batch happens to it: complete, exactly once, paid for exactly.

Worker processes are killed at random, a tenth of the provider's answers are errors, messages come twice and out of
order, and the splitter and the assembler are each killed once in the middle of their work. SLUICE_CHAOS_LINES makes it
longer or shorter, SLUICE_CHAOS_KILLS more or less cruel; SLUICE_CHAOS_SEED repeats the order of its accidents.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any, Self

import numpy as np
import pytest

from local.models.embeddings import Embedder
from tests.integration.batches import EMBEDDINGS, begun, ended, jsonl, request, results, send
from tests.integration.governance import Key, containers, kill, micro, settled
from tests.integration.support import Platform

LINES = int(os.environ.get("SLUICE_CHAOS_LINES", "20000"))
# On a slow machine a worker could be killed before it has done anything, for ever.
KILLS = int(os.environ.get("SLUICE_CHAOS_KILLS", "20"))
SEED = int(os.environ.get("SLUICE_CHAOS_SEED", "6"))
MODEL = "openai/wordllama-256"
# $0.02 for a million tokens.
MICRO_USD_PER_TOKEN = Decimal("0.02")
BETWEEN_KILLS_S = 6.0


def text(number: int) -> str:
    return f"Kayak {number} left pier {number % 97} at {number % 24} o'clock with {number % 7} passengers."


class Chaos:
    """Accidents, from now on until the end of the block."""

    def __init__(self, platform: Platform, batch_id: str) -> None:
        self._platform = platform
        self._batch_id = batch_id
        self._random = random.Random(SEED)
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._each, args=(accident, every_s))
            for accident, every_s in (
                (self._kill_splitter, 0.02),
                (self._kill_assembler, 0.02),
                (self._kill_a_worker, BETWEEN_KILLS_S),
                (self._repeat_messages, 1.0),
            )
        ]
        self.killed = {"batch_splitter": 0, "batch_worker": 0, "batch_assembler": 0}
        self.repeated = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _each(self, accident: Callable[[], bool], every_s: float) -> None:
        while not self._over.wait(every_s):
            # A process that has gone by itself, or an item that is not there yet.
            with suppress(AssertionError, IndexError):
                if accident():
                    return

    def meta(self) -> dict[str, Any]:
        """The batch's item."""
        key = {"pk": {"S": f"BATCH#{self._batch_id}"}, "sk": {"S": "META"}}
        item = self._platform.table.get_item(TableName=self._platform.env["SLUICE_TABLE"], Key=key, ConsistentRead=True)
        return dict(item.get("Item", {}))

    def _kill_splitter(self) -> bool:
        return self._kill_at_work("batch_splitter", "validating")

    def _kill_assembler(self) -> bool:
        return self._kill_at_work("batch_assembler", "finalizing")

    def _kill_at_work(self, function: str, status: str) -> bool:
        """Kill whoever holds the batch; whether it was still at it."""
        if not self._is_held(status):
            return False
        kill(containers(self._platform, function))
        self.killed[function] += self._is_held(status)
        return bool(self.killed[function])

    def _is_held(self, status: str) -> bool:
        meta = self.meta()
        return meta["status"]["S"] == status and "lease_until" in meta

    def _kill_a_worker(self) -> bool:
        found = containers(self._platform, "batch_worker")
        if found and self.meta()["status"]["S"] == "in_progress":
            self.killed["batch_worker"] += kill({self._random.choice(sorted(found, key=lambda process: process.pid))})
        return self.killed["batch_worker"] >= KILLS

    def _repeat_messages(self) -> bool:
        items = self._platform.items(f"BATCH#{self._batch_id}")
        seen = [item for item in items if item["sk"]["S"] != "META" and int(item["attempts"]["N"])]
        chosen = self._random.sample(seen, min(5, len(seen)))
        pointers = [
            {"batch_id": self._batch_id, "chunk": int(item["sk"]["S"].removeprefix("CHUNK#")), "version": 1}
            for item in chosen
        ]
        send(self._platform, "chunks", pointers)
        send(self._platform, "batches", [{"batch_id": self._batch_id, "version": 1}])
        send(self._platform, "assembly", [{"batch_id": self._batch_id, "version": 1}])
        self.repeated += len(pointers) + 2
        return False


@pytest.mark.last
def test_nothing_is_lost_and_nothing_comes_twice(healthy: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    key = Key.new(healthy, total_budget_usd="5")
    client = healthy.openai(key=key.secret)
    body = [
        request(f"line-{number}", {"model": MODEL, "input": text(number)}, url=EMBEDDINGS) for number in range(LINES)
    ]
    healthy.fault("wordllama-256", kind="error", status=500, share=0.1)
    started = time.monotonic()
    batch = begun(client, jsonl(body), endpoint=EMBEDDINGS)
    with Chaos(healthy, batch.id) as chaos:
        done = ended(client, batch.id, within_s=900)
    took = time.monotonic() - started

    with capsys.disabled():
        sys.stdout.write(
            f"\nchaos: {LINES} lines in {took:.0f} s, killed {chaos.killed}, repeated {chaos.repeated} messages\n"
        )
    assert chaos.killed["batch_splitter"] == chaos.killed["batch_assembler"] == 1
    # The splitter, the assembler, and who came after each of them.
    assert int(chaos.meta()["attempts"]["N"]) >= 4
    assert chaos.killed["batch_worker"] >= 1
    assert chaos.repeated > 0

    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (LINES, LINES, 0)
    assert done.error_file_id is None
    rows = results(client, done.output_file_id)
    assert set(rows) == {f"line-{number}" for number in range(LINES)}
    _assert_right_vectors(rows)

    tokens = sum(row["response"]["body"]["usage"]["prompt_tokens"] for row in rows.values())
    usage = settled(key, within_s=60)
    assert micro(usage["cost_usd"]) == tokens * MICRO_USD_PER_TOKEN == key.logged_cost()
    assert usage["requests"] == LINES


def _assert_right_vectors(rows: dict[str, dict[str, Any]]) -> None:
    wanted = Embedder.load().embed([text(number) for number in range(LINES)])
    data = [rows[f"line-{number}"]["response"]["body"]["data"] for number in range(LINES)]
    assert all(len(one) == 1 for one in data)
    found = np.array([one[0]["embedding"] for one in data])
    assert np.abs(found - wanted).max() < 1e-6
