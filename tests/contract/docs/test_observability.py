"""docs/observability.md names the events that the code logs: all of them, and no other."""

from __future__ import annotations

import re

from tests.contract.docs.support import document
from tests.contract.docs.syntax import logged_events

DOCUMENT = document("docs/observability.md")


def test_every_event_that_is_logged_is_named() -> None:
    events = logged_events()
    # One by a logger, one by a level that is chosen first, one of two to choose from, one that is put together.
    assert {"attempt_failed", "request", "circuit_closed", "….record"} <= events
    # What is filled in is written out for some.
    named = {re.sub(r"^\w+(?=\.record$)", "…", code) for code in DOCUMENT.code()}
    assert events - named == set()


def test_every_event_in_the_table_is_logged() -> None:
    table = DOCUMENT.text.partition("\n| event | |\n")[2].partition("\n\n")[0]
    listed = {event for row in table.splitlines() for event in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert len(listed) > 1
    assert listed - logged_events() == set()
