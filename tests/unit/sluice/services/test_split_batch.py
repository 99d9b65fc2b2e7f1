"""Splitting: what is wrong with an input is told by line, what is right goes out in chunks, once, whatever happens."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.domain import custom_ids
from sluice.domain.batches import (
    MOST_REPORTED_ERRORS,
    Batch,
    BatchEndpoint,
    BatchPointer,
    BatchStatus,
    OutputFormat,
)
from sluice.domain.deliveries import QueueName
from sluice.domain.errors import (
    ConfigurationError,
    LeasedError,
    NotFoundError,
    SluiceError,
    StateConflictError,
    StateError,
)
from sluice.domain.inference import Caller
from sluice.domain.keys import ApiKey
from sluice.domain.ledger import Ask, Hold, Limits, Spent
from sluice.runtime.endpoints import InferenceEndpoints
from sluice.services.line_costs import LineCosts
from sluice.services.split_batch import CHECKPOINT_S, LONGEST_WAIT_S
from tests.unit.sluice.services.splitting import (
    BATCH,
    HELLO,
    ID,
    INPUT,
    KEY,
    LEASE_S,
    LIMITS,
    NOW,
    URL,
    Splitting,
    jsonl,
    many,
    request,
)


def failed(content: bytes, **given: Any) -> Splitting:
    splitting = Splitting(content, **given)
    assert splitting.split()
    assert splitting.batch.status is BatchStatus.FAILED
    assert splitting.batch.failed_at == NOW
    assert splitting.batch.lease_until is None
    assert splitting.sent == []
    assert splitting.held() == 0
    assert all(error.message for error in splitting.batch.errors)
    return splitting


# ---- A batch that begins ----


def test_a_batch_begins_with_its_first_window_of_chunks_and_its_money_held() -> None:
    splitting = Splitting(many(18))
    assert splitting.split()
    batch = splitting.batch
    assert (batch.status, batch.in_progress_at, batch.lease_until) == (BatchStatus.IN_PROGRESS, NOW, None)
    assert (batch.lines, batch.chunks, batch.released, batch.model) == (18, 5, 3, "auto")
    assert splitting.sent == [0, 1, 2]
    assert [(number, line.custom_id) for number, line in splitting.planned()] == [(n + 1, f"q{n}") for n in range(18)]
    held = sum(chunk.held_micro_usd for chunk in splitting.chunks)
    assert held == batch.held_micro_usd == splitting.held() > 0


def test_what_is_held_is_what_its_lines_come_to_at_most() -> None:
    splitting = Splitting(many(9))
    splitting.split()
    task = InferenceEndpoints().parse(URL, json.dumps(HELLO).encode())
    line = (
        LineCosts(splitting.routes, most_output_tokens=100)
        .of(task, Caller(key_id="key_1", request_id=ID))
        .most_micro_usd
    )
    assert [chunk.held_micro_usd for chunk in splitting.chunks] == [4 * line, 4 * line, line]


def test_fewer_chunks_than_the_window_are_all_given_out() -> None:
    splitting = Splitting(many(5))
    splitting.split()
    assert splitting.sent == [0, 1]


@pytest.mark.parametrize(
    "shaped",
    [
        many(9),
        many(9).rstrip(b"\n"),
        many(9).replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + many(9),
        b"\n\n" + many(9).replace(b"\n", b"\n \r\n\n"),
    ],
    ids=["plain", "no final newline", "CRLF", "BOM", "blank lines"],
)
def test_what_editors_do_to_files_does_no_harm(shaped: bytes) -> None:
    splitting = Splitting(shaped)
    splitting.split()
    assert splitting.batch.status is BatchStatus.IN_PROGRESS
    assert (splitting.batch.lines, splitting.batch.chunks) == (9, 3)
    physical = [number for number, line in enumerate(shaped.split(b"\n"), start=1) if b"custom_id" in line]
    assert [number for number, _ in splitting.planned()] == physical
    assert [line.custom_id for _, line in splitting.planned()] == [f"q{number}" for number in range(9)]


def test_lines_may_ask_for_different_models() -> None:
    splitting = Splitting(jsonl([request("a"), request("b", HELLO | {"model": "fast"}), request("c")]))
    splitting.split()
    assert (splitting.batch.status, splitting.batch.model) == (BatchStatus.IN_PROGRESS, None)


def test_a_line_that_its_endpoint_will_refuse_fails_by_itself_later() -> None:
    splitting = Splitting(jsonl([request("a", HELLO | {"max_completion_tokens": 10_000_000})]))
    splitting.split()
    assert splitting.batch.status is BatchStatus.IN_PROGRESS
    assert splitting.batch.held_micro_usd == 0


# ---- An input that is not as it should be ----


def test_every_line_says_what_is_wrong_with_it() -> None:
    nonsense = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    rows = [
        b"not json",
        json.dumps({"method": "POST", "url": URL, "body": HELLO}).encode(),
        b"",
        json.dumps(request("a", url="/v1/embeddings")).encode(),
        json.dumps(request("b", method="GET")).encode(),
        json.dumps(request("c", HELLO | {"model": "nobody/knows"})).encode(),
        json.dumps(request("c")).encode(),
        json.dumps(request("d", {"model": "auto", "messages": "x"})).encode(),
        json.dumps(request("e", "no object")).encode(),
        json.dumps(request("f", HELLO | {"user": "x" * 2_000})).encode(),
        json.dumps(request("g", HELLO | {"stream": True})).encode(),
        json.dumps(request("h", HELLO | {"model": "embed"})).encode(),
        json.dumps(request("i", HELLO | {"response_format": nonsense})).encode(),
        json.dumps(request("fine")).encode(),
    ]
    splitting = failed(b"\n".join(rows) + b"\n")
    assert splitting.errors == [
        (1, "invalid_json_line", None),
        (2, "missing_required_parameter", "custom_id"),
        (4, "invalid_url", "url"),
        (5, "invalid_method", "method"),
        (6, "model_not_found", "body.model"),
        (7, "duplicate_custom_id", "custom_id"),
        (8, "invalid_value", "body.messages"),
        (9, "invalid_request", None),
        (10, "line_too_long", None),
        (11, "unsupported_parameter", "body.stream"),
        (12, "unsupported_operation", "body.model"),
        (13, "invalid_json_schema", "body.response_format"),
    ]
    assert splitting.chunks == []


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_a_file_without_a_request_is_empty(content: bytes) -> None:
    assert failed(content).errors == [(None, "empty_file", None)]


def test_more_lines_than_allowed_are_told_at_the_first_that_is_one_too_many() -> None:
    limits = msgspec.structs.replace(LIMITS, lines=10)
    within = Splitting(b"\n" + many(10), limits=limits)
    within.split()
    assert within.batch.status is BatchStatus.IN_PROGRESS
    assert failed(b"\n" + many(500), limits=limits).errors == [(12, "too_many_lines", None)]


def test_a_file_that_is_too_large_is_not_read_at_all() -> None:
    splitting = failed(many(10), limits=msgspec.structs.replace(LIMITS, total_bytes=len(many(10)) - 1))
    assert splitting.errors == [(None, "file_too_large", "input_file_id")]
    assert splitting.ranges.asked == []


def test_a_line_of_just_as_much_as_allowed_is_fine() -> None:
    [line] = jsonl([request("a")]).splitlines()
    limits = msgspec.structs.replace(LIMITS, line_bytes=len(line))
    splitting = Splitting(line + b"\n", limits=limits)
    splitting.split()
    assert splitting.batch.status is BatchStatus.IN_PROGRESS
    one_less = msgspec.structs.replace(LIMITS, line_bytes=len(line) - 1)
    assert failed(line + b"\n", limits=one_less).errors == [(1, "line_too_long", None)]


def test_a_hundred_errors_are_all_told_and_of_more_it_is_told_how_many() -> None:
    bad = [request(f"q{number}", method="GET") for number in range(1_000)]
    all_told = failed(jsonl(bad[:MOST_REPORTED_ERRORS]))
    assert [error.line for error in all_told.batch.errors] == list(range(1, MOST_REPORTED_ERRORS + 1))
    splitting = failed(jsonl(bad))
    assert len(splitting.batch.errors) == MOST_REPORTED_ERRORS
    assert [error.line for error in splitting.batch.errors][:-1] == list(range(1, MOST_REPORTED_ERRORS))
    last = splitting.batch.errors[-1]
    assert (last.line, last.code, "901" in last.message) == (None, "more_errors", True)


def test_what_errors_quote_is_short() -> None:
    name = "n" * 500
    splitting = failed(jsonl([request(name), request(name)]))
    assert splitting.errors == [(2, "duplicate_custom_id", "custom_id")]
    assert len(splitting.batch.errors[0].message) < 200


def test_an_input_that_is_gone_fails_the_batch() -> None:
    splitting = Splitting(many(10))
    del splitting.objects.bodies[INPUT]
    splitting.split()
    assert (splitting.batch.status, splitting.errors) == (
        BatchStatus.FAILED,
        [(None, "input_file_gone", "input_file_id")],
    )


def test_an_input_that_goes_while_it_is_read_fails_the_batch() -> None:
    splitting = Splitting(many(100))

    def delete(block: int) -> None:
        if block == 5:
            splitting.ranges.failing = NotFoundError("gone")

    splitting.before_block = delete
    splitting.split()
    assert (splitting.batch.status, splitting.errors) == (
        BatchStatus.FAILED,
        [(None, "input_file_gone", "input_file_id")],
    )


def test_only_embeddings_are_written_as_parquet() -> None:
    parquet = msgspec.structs.replace(BATCH, output_format=OutputFormat.PARQUET)
    assert failed(many(1), batch=parquet).errors == [(None, "invalid_value", "output_format")]
    embeddings = msgspec.structs.replace(parquet, endpoint=BatchEndpoint.EMBEDDINGS)
    rows = jsonl([request("a", {"model": "embed", "input": "text"}, url="/v1/embeddings")])
    splitting = Splitting(rows, batch=embeddings)
    splitting.split()
    assert splitting.batch.status is BatchStatus.IN_PROGRESS


# ---- Names that come twice ----


def test_a_name_that_comes_twice_is_found_however_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom_ids, "REGION_NAMES", 10)
    twice = {150: "q3", 420: "q150x", 421: "q419"}
    names = [twice.get(number, f"q{number}") for number in range(500)]
    splitting = failed(jsonl(map(request, names)))
    assert splitting.errors == [(151, "duplicate_custom_id", "custom_id"), (422, "duplicate_custom_id", "custom_id")]
    read = [end - start for _, start, end in splitting.ranges.asked if end is not None]
    assert len(read) == 2
    assert max(read) < 12 * len(jsonl([request("q100")]))


def test_names_whose_fingerprints_are_alike_are_no_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom_ids, "_keyed", lambda _: len)
    splitting = Splitting(many(60))
    splitting.split()
    assert splitting.batch.status is BatchStatus.IN_PROGRESS
    assert len(splitting.planned()) == 60
    names = [f"q{number}" for number in range(40)] + ["q7", "q39"]
    assert [line for line, *_ in failed(jsonl(map(request, names))).errors] == [41, 42]


def test_a_name_is_looked_for_in_lines_that_were_wrong_as_well() -> None:
    too_long = b"x" * 5_000 + b"\n"
    bad = jsonl([request("a", method="GET")])
    splitting = failed(b"not json\n" + bad + too_long + jsonl([request("a")]))
    assert [(line, code) for line, code, _ in splitting.errors] == [
        (1, "invalid_json_line"),
        (2, "invalid_method"),
        (3, "line_too_long"),
        (4, "duplicate_custom_id"),
    ]


def test_thousands_of_duplicates_are_counted_without_reading_them_all_again() -> None:
    splitting = failed(jsonl(request("same") for _ in range(900)))
    assert splitting.batch.errors[-1].message.startswith("800 ")
    assert len([end for _, _, end in splitting.ranges.asked if end is not None]) == MOST_REPORTED_ERRORS


# ---- Money, and whose it is ----


def with_budget(micro_usd: str) -> ApiKey:
    return msgspec.structs.replace(KEY, limits=Limits(total_budget_micro_usd=Decimal(micro_usd)))


def test_a_batch_that_the_budget_does_not_hold_never_starts() -> None:
    splitting = failed(many(100), key=with_budget("10"))
    assert splitting.errors == [(None, "insufficient_quota", None)]


def test_a_batch_that_the_budget_holds_starts() -> None:
    splitting = Splitting(many(10), key=with_budget("100000"))
    splitting.split()
    assert splitting.batch.status is BatchStatus.IN_PROGRESS


def asking(splitting: Splitting, micro_usd: str) -> Hold:
    """A request under way that holds so much."""
    ask = Ask(cost_micro_usd=Decimal(micro_usd))
    return splitting.ledger.reserve(KEY.id, splitting.limited, ask, until=splitting.clock() + 900)


def test_a_batch_whose_money_a_request_holds_waits_for_it_however_often() -> None:
    splitting = Splitting(many(300), key=with_budget("100000"))
    hold = asking(splitting, "99999")
    splitting.queue.send(BatchPointer(batch_id=ID))
    for _ in range(10):
        splitting.deliver()
        assert (splitting.batch.status, splitting.batch.lease_until) == (BatchStatus.VALIDATING, None)
        assert splitting.queue.receive() == []
        splitting.clock.advance(LONGEST_WAIT_S)
    assert splitting.queue.pointers == [BatchPointer(batch_id=ID)]
    read = [start for _, start, end in splitting.ranges.asked if end is None]
    assert read == [0] + [len(many(300))] * 9, "what was read once is not read again"
    assert len(splitting.objects.bodies) == 2, "the input, and one checkpoint"
    splitting.ledger.settle(hold, Spent(cost_micro_usd=Decimal(1)))
    splitting.deliver()
    assert (splitting.batch.status, splitting.batch.lines) == (BatchStatus.IN_PROGRESS, 300)
    assert splitting.held() == splitting.batch.held_micro_usd > 0
    assert [line.custom_id for _, line in splitting.planned()] == [f"q{number}" for number in range(300)]


def test_what_is_spent_already_is_not_waited_for() -> None:
    splitting = Splitting(many(10), key=with_budget("100000"))
    splitting.ledger.settle(asking(splitting, "99999"), Spent(cost_micro_usd=Decimal(99_999)))
    assert splitting.split()
    assert (splitting.batch.status, splitting.errors) == (BatchStatus.FAILED, [(None, "insufficient_quota", None)])


def test_what_only_another_month_brings_is_not_waited_for() -> None:
    monthly = msgspec.structs.replace(KEY, limits=Limits(monthly_budget_micro_usd=Decimal(100_000)))
    splitting = Splitting(many(10), key=monthly)
    splitting.ledger.settle(asking(splitting, "99999"), Spent(cost_micro_usd=Decimal(99_999)))
    assert splitting.split()
    assert (splitting.batch.status, splitting.errors) == (BatchStatus.FAILED, [(None, "insufficient_quota", None)])


def test_a_hold_that_a_lost_attempt_has_left_behind_is_waited_for() -> None:
    whole = Splitting(many(10))
    whole.split()
    splitting = Splitting(many(10), key=with_budget(str(whole.batch.held_micro_usd)))
    asking(splitting, str(whole.batch.held_micro_usd))
    assert not splitting.split()
    splitting.clock.advance(1_500)
    assert splitting.split()
    assert splitting.batch.status is BatchStatus.IN_PROGRESS


def test_a_batch_that_waits_for_money_can_be_cancelled_and_expires() -> None:
    for ended in (BatchStatus.CANCELLED, BatchStatus.EXPIRED):
        splitting = Splitting(many(10), key=with_budget("100000"))
        asking(splitting, "99999")
        assert not splitting.split()
        if ended is BatchStatus.CANCELLED:
            splitting.batches.halt(ID, "cancelled", now=NOW)
        else:
            splitting.clock.advance(86_400)
        assert splitting.split()
        assert (splitting.batch.status, splitting.sent) == (ended, [])


def test_a_batch_that_is_cancelled_while_it_asks_for_money_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    splitting = Splitting(many(10), key=with_budget("100000"))
    asking(splitting, "99999")
    begin = splitting.batches.begin

    def cancelled(batch: Batch, **given: Any) -> Batch:
        try:
            return begin(batch, **given)
        finally:
            splitting.batches.halt(ID, "cancelled", now=NOW)

    monkeypatch.setattr(splitting.batches, "begin", cancelled)
    assert splitting.split()
    assert splitting.batch.status is BatchStatus.CANCELLED


def test_a_key_that_was_revoked_meanwhile_has_no_batches() -> None:
    splitting = failed(many(10), key=msgspec.structs.replace(KEY, revoked_at=NOW - 1))
    assert splitting.errors == [(None, "invalid_api_key", None)]


def test_a_key_that_is_not_seen_at_first_does_not_end_its_batch() -> None:
    splitting = Splitting(many(10))
    splitting.keys.unseen = {KEY.key_hash}
    with pytest.raises(StateError):
        splitting.split()
    assert splitting.errors == []
    splitting.keys.unseen.clear()
    assert splitting.split()
    assert splitting.batch.status is BatchStatus.IN_PROGRESS


def test_a_key_that_may_not_use_the_model_any_more_is_told_so() -> None:
    splitting = failed(many(2), key=msgspec.structs.replace(KEY, allowed_models=("fast",)))
    assert splitting.errors == [(1, "permission_denied", "body.model"), (2, "permission_denied", "body.model")]


# ---- Cancelled, expired, taken ----


def test_a_batch_that_is_cancelled_while_it_is_read_ends_within_seconds() -> None:
    splitting = Splitting(many(400))
    splitting.block_s = 1.0

    def cancel(block: int) -> None:
        if block == 20:
            assert splitting.batches.halt(ID, "cancelled", now=int(splitting.clock())).status == "cancelling"

    splitting.before_block = cancel
    assert splitting.split()
    assert splitting.batch.status is BatchStatus.CANCELLED
    assert splitting.batch.cancelled_at is not None
    assert splitting.batch.cancelled_at - NOW <= 20 + 4
    assert splitting.sent == []


def test_a_batch_that_is_cancelled_right_before_it_begins_is_cancelled() -> None:
    splitting = Splitting(many(9))

    def cancel(_: int) -> None:
        splitting.batches.halt(ID, "cancelled", now=NOW)

    splitting.before_block = cancel
    assert splitting.split()
    assert splitting.batch.status is BatchStatus.CANCELLED
    assert splitting.sent == []
    assert splitting.held() == 0


def test_a_cancelled_batch_whose_splitter_died_is_ended_by_the_next() -> None:
    splitting = Splitting(many(9))
    splitting.batches.claim(ID, (BatchStatus.VALIDATING,), now=NOW, lease_until=NOW + 30)
    splitting.batches.halt(ID, "cancelled", now=NOW + 1)
    splitting.clock.advance(31)
    assert splitting.split()
    assert splitting.batch.status is BatchStatus.CANCELLED


@pytest.mark.parametrize("block_s", [0.0, 3.0], ids=["before it is read", "while it is read"])
def test_a_batch_that_expires_before_it_begins_is_expired(block_s: float) -> None:
    expires_at = NOW + 30 if block_s else NOW
    splitting = Splitting(many(400), batch=msgspec.structs.replace(BATCH, expires_at=expires_at))
    splitting.block_s = block_s
    splitting.split()
    assert (splitting.batch.status, splitting.sent) == (BatchStatus.EXPIRED, [])


def test_another_splitter_at_work_is_left_alone() -> None:
    splitting = Splitting(many(9))
    splitting.batches.claim(ID, (BatchStatus.VALIDATING,), now=NOW, lease_until=NOW + 30)
    before = splitting.batch
    with pytest.raises(LeasedError):
        splitting.split()
    assert splitting.batch == before


def test_the_lease_is_renewed_as_long_as_the_reading_goes_on() -> None:
    splitting = Splitting(many(400))
    splitting.block_s = 1.0
    left: list[float] = []
    splitting.before_block = lambda _: left.append((splitting.batch.lease_until or 0) - splitting.clock())
    splitting.split(seconds=10_000)
    assert splitting.clock() - NOW > 5 * LEASE_S
    assert min(left) >= LEASE_S - 4


def test_who_was_overtaken_changes_nothing_any_more() -> None:
    splitting = Splitting(many(400))
    splitting.block_s = 1.0

    def overtake(block: int) -> None:
        if block == 20:
            now = NOW + 1_000
            splitting.batches.claim(ID, (BatchStatus.VALIDATING,), now=now, lease_until=now + 30)

    splitting.before_block = overtake
    with pytest.raises(StateConflictError):
        splitting.split()
    assert (splitting.batch.status, splitting.batch.attempts) == (BatchStatus.VALIDATING, 2)
    assert splitting.batch.lease_until == NOW + 1_030
    assert splitting.sent == []


# ---- Killed, and gone on with ----


class KilledError(BaseException):
    """What no ``except`` of the splitter sees: the process is gone."""


def test_a_splitter_that_is_killed_anywhere_is_gone_on_with_from_its_checkpoint() -> None:
    whole = Splitting(many(300))
    whole.split()
    read: list[int] = []
    for kill_at in range(40, 400, 60):
        splitting = Splitting(many(300))
        splitting.block_s = 1.0

        def kill(block: int, at: int = kill_at) -> None:
            if block == at:
                raise KilledError

        splitting.before_block = kill
        with pytest.raises(KilledError):
            splitting.split(seconds=10_000)
        splitting.clock.advance(LEASE_S + 1)
        splitting.before_block = lambda _: None
        splitting.splitter = splitting.another()
        assert splitting.split(seconds=10_000)
        assert splitting.chunks == [
            msgspec.structs.replace(chunk, updated_at=mine.updated_at)
            for chunk, mine in zip(whole.chunks, splitting.chunks, strict=True)
        ]
        assert splitting.batch.held_micro_usd == whole.batch.held_micro_usd
        assert (splitting.batch.lines, splitting.batch.model) == (300, "auto")
        read.append([start for _, start, end in splitting.ranges.asked if end is None][-1])
    assert read == sorted(read)
    assert all(
        start > 64 * (kill_at - CHECKPOINT_S - 5) for start, kill_at in zip(read, range(40, 400, 60), strict=True)
    )


def test_names_from_before_the_kill_are_still_known_after_it() -> None:
    rows = [request(f"q{number}") for number in range(300)]
    rows[290] = request("q5")
    rows[40] = request("q40", method="GET")
    splitting = Splitting(jsonl(rows))
    splitting.block_s = 1.0
    for _ in range(3):
        assert not splitting.split(seconds=150)
        assert splitting.batch.lease_until is None
    while not splitting.split(seconds=150):
        pass
    assert splitting.batch.status is BatchStatus.FAILED
    assert splitting.errors == [(41, "invalid_method", "method"), (291, "duplicate_custom_id", "custom_id")]


def test_out_of_time_goes_on_at_once_and_uses_up_no_attempt() -> None:
    splitting = Splitting(many(300))
    splitting.block_s = 1.0
    splitting.queue.send(BatchPointer(batch_id=ID))
    rounds = 0
    while splitting.queue.bodies:
        splitting.deliver(seconds=60)
        rounds += 1
    assert rounds > 5
    assert (splitting.batch.status, splitting.batch.lines) == (BatchStatus.IN_PROGRESS, 300)
    assert splitting.sent == [0, 1, 2]
    assert not splitting.reasons.of_queue(QueueName.BATCHES, limit=10)


@pytest.mark.parametrize("step", ["put_chunks", "note", "begin"])
def test_a_failure_on_the_way_is_tried_again_and_nothing_is_lost(step: str) -> None:
    splitting = Splitting(many(300))
    splitting.block_s = 1.0
    splitting.queue.send(BatchPointer(batch_id=ID))
    splitting.batches.failing[step] = StateError("unavailable")
    splitting.deliver()
    assert (splitting.batch.status, splitting.batch.lease_until) == (BatchStatus.VALIDATING, None)
    splitting.batches.failing.clear()
    splitting.clock.advance(5)
    splitting.deliver()
    assert splitting.batch.status is BatchStatus.IN_PROGRESS
    assert [line.custom_id for _, line in splitting.planned()] == [f"q{number}" for number in range(300)]


def test_one_that_was_killed_before_it_could_tell_the_workers_has_them_told() -> None:
    splitting = Splitting(many(18))
    splitting.chunk_queue.failing = StateError("unavailable")
    with pytest.raises(StateError):
        splitting.split()
    assert splitting.batch.status is BatchStatus.IN_PROGRESS
    splitting.chunk_queue.failing = None
    assert splitting.split()
    assert splitting.sent == [0, 1, 2]


def test_a_checkpoint_that_is_gone_is_the_operators_to_mend() -> None:
    splitting = Splitting(many(300))
    splitting.block_s = 1.0
    assert not splitting.split(seconds=60)
    splitting.objects.bodies = {INPUT: splitting.objects.bodies[INPUT]}
    with pytest.raises(StateError):
        splitting.split(seconds=60)
    assert splitting.batch.status is BatchStatus.VALIDATING


# ---- Messages that come again ----


def test_redelivery_changes_nothing_once_chunks_have_ended() -> None:
    splitting = Splitting(many(18))
    splitting.split()
    splitting.chunk_queue.acknowledge(splitting.chunk_queue.receive(), except_for=())
    splitting.batches.items[ID] = msgspec.structs.replace(splitting.batch, ended=1)
    before = splitting.batch, splitting.chunks
    assert splitting.split()
    assert (splitting.batch, splitting.chunks) == before
    assert splitting.sent == []


@pytest.mark.parametrize("status", ["failed", "completed", "expired", "cancelled", "finalizing"])
def test_redelivery_of_a_batch_that_is_over_changes_nothing(status: str) -> None:
    over = msgspec.structs.replace(BATCH, status=BatchStatus(status), chunks=2)
    splitting = Splitting(many(5), batch=over)
    assert splitting.split()
    assert (splitting.batch, splitting.sent, splitting.ranges.asked) == (over, [], [])


def test_a_batch_that_was_cancelled_at_work_is_the_assemblers() -> None:
    cancelling = msgspec.structs.replace(BATCH, status=BatchStatus.CANCELLING, chunks=2, released=2)
    splitting = Splitting(many(5), batch=cancelling)
    assert splitting.split()
    assert splitting.batch == cancelling


def test_a_batch_nobody_knows_ends_in_the_dead_letter_queue_with_the_reason() -> None:
    splitting = Splitting(many(5))
    splitting.queue.send(BatchPointer(batch_id="batch_" + "f" * 32))
    for _ in range(5):
        splitting.deliver()
        splitting.clock.advance(100)
    assert len(splitting.queue.dead_letters) == 1
    [reason] = splitting.reasons.of_queue(QueueName.BATCHES, limit=10)
    assert (reason.subject, reason.code) == ("batch_" + "f" * 32, "not_found")


def test_what_cannot_be_split_is_parked_and_goes_on_after_a_redrive() -> None:
    splitting = Splitting(many(5))
    splitting.ranges.failing = ConfigurationError("denied")
    splitting.queue.send(BatchPointer(batch_id=ID))
    for _ in range(5):
        splitting.deliver()
        splitting.clock.advance(100)
    assert len(splitting.queue.dead_letters) == 1
    assert (splitting.batch.status, splitting.batch.parked) == (BatchStatus.VALIDATING, True)
    [reason] = splitting.reasons.of_queue(QueueName.BATCHES, limit=10)
    assert (reason.subject, reason.code) == (ID, "misconfigured")
    splitting.ranges.failing = None
    splitting.queue.redrive()
    splitting.deliver()
    assert (splitting.batch.status, splitting.batch.parked) == (BatchStatus.IN_PROGRESS, False)


@pytest.mark.parametrize("begun", [True, False])
def test_a_worker_lost_on_the_last_attempt_parks_only_what_nobody_has(begun: bool) -> None:
    splitting = Splitting(many(5))
    splitting.queue.send(BatchPointer(batch_id=ID))
    for _ in range(3):
        # Received, and never heard of again.
        splitting.queue.receive()
        splitting.clock.advance(2_000)
    if begun:
        splitting.split()
    splitting.deliver()
    assert splitting.batch.parked is not begun
    assert bool(splitting.queue.bodies) is not begun


@pytest.mark.parametrize("error", [StateError("down"), ConfigurationError("denied")])
def test_routes_that_cannot_be_read_are_no_fault_of_the_input(error: SluiceError) -> None:
    splitting = Splitting(many(5))
    splitting.routes.failing = error
    with pytest.raises(type(error)):
        splitting.split()
    assert (splitting.batch.status, splitting.batch.lease_until) == (BatchStatus.VALIDATING, None)
