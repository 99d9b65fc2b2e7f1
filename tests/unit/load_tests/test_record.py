"""What became of the arrivals adds up, whoever counted it."""

from __future__ import annotations

import json

from load_tests.record import Outcome, Record


def recorded(*outcomes: Outcome, stage: int = 0, operation: str = "chat") -> Record:
    record = Record()
    for outcome in outcomes:
        record.tally(stage, operation).offered += 1
        record.tally(stage, operation).end(outcome)
    return record


GOOD = Outcome(latency=0.030, service=0.020, overhead=0.005, achieved=True)
BAD = Outcome(latency=2.0, service=1.0, overhead=None, achieved=False, failure="503 state_unavailable")


def test_every_outcome_is_counted_failed_ones_too() -> None:
    tally = recorded(GOOD, BAD).total([0], ["chat"])
    assert (tally.offered, tally.achieved, tally.failed, tally.unfinished) == (2, 1, 1, 0)
    assert list(tally.latency) == [(30, 1), (2000, 1)]
    assert list(tally.service) == [(20, 1), (1000, 1)]
    assert list(tally.overhead) == [(5, 1)]
    assert tally.failures == {"503 state_unavailable": 1}


def test_what_never_ended_is_known() -> None:
    record = recorded(GOOD)
    record.tally(0, "chat").offered += 2
    assert record.total([0], ["chat"]).unfinished == 2


def test_a_total_takes_only_what_it_was_asked_for() -> None:
    record = recorded(GOOD)
    record.add(recorded(GOOD, stage=1))
    record.add(recorded(GOOD, operation="score"))
    assert record.total([0], ["chat"]).offered == 1
    assert record.total([0, 1], ["chat"]).offered == 2
    assert record.total(range(9), ["chat", "score"]).offered == 3


def test_a_record_survives_being_sent() -> None:
    sent = recorded(GOOD, BAD)
    assert Record.from_plain(json.loads(json.dumps(sent.plain()))).plain() == sent.plain()


def test_what_was_taken_is_not_taken_again() -> None:
    record, received = recorded(GOOD), Record()
    received.add(record.take())
    record.tally(0, "chat").offered += 1
    received.add(record.take())
    received.add(record.take())
    assert received.total([0], ["chat"]).offered == 2
