"""What the attributes of the ledger's items mean, and which of them nobody needs any more."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters.dynamodb_ledger_items import (
    KEPT_S,
    bucket_code,
    bucket_place,
    month_before,
    outdated,
    state_of,
)
from sluice.domain.admission import Bucket, State, Window
from sluice.domain.ledger import LONGEST_HOLD_S, Spent, bucket_of, expiry_of, month_of

D = Decimal
NOON = datetime(2026, 11, 21, 12, 0, 10, tzinfo=UTC).timestamp()
WINDOW = Window.of(NOON)
BUCKET, EXPIRY = bucket_of(NOON, NOON + 29)
CODE = bucket_code("202611", BUCKET)


@given(st.floats(min_value=1.7e9, max_value=4e9), st.floats(min_value=0.1, max_value=LONGEST_HOLD_S))
def test_a_bucket_is_found_again_by_its_code(now: float, length: float) -> None:
    name, _ = bucket_of(now, now + length)
    code = bucket_code(month_of(now), name)

    assert bucket_place(code) == (month_of(now), name)
    # Nobody's word, and no placeholder needed: a letter, a digit, letters and digits.
    assert re.fullmatch(r"[0-3][0-9a-z]{5,7}", code)


def test_the_two_months_of_a_bucket_that_spans_their_border_are_told_apart() -> None:
    midnight = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    name, _ = bucket_of(midnight - 1, midnight + 20)

    codes = {bucket_code("202612", name), bucket_code("202701", name)}

    assert {bucket_place(code) for code in codes} == {("202612", name), ("202701", name)}


@pytest.mark.parametrize(("month", "before"), [("202611", "202610"), ("202701", "202612"), ("202803", "202802")])
def test_the_month_before(month: str, before: str) -> None:
    assert month_before(month) == before


def test_an_item_that_is_not_there_says_that_nothing_was_used() -> None:
    assert state_of(None, WINDOW) == State()


def test_an_item_says_what_was_used_in_a_window() -> None:
    minute = WINDOW.minute
    item = {
        "pk": "LEDGER#key#0",
        "sk": "STATE",
        f"r{minute}": 3,
        f"r{minute - 1}": 99,
        f"t{minute}": 40,
        "c": D("12.5"),
        "c202611": 7,
        "s": D("2.25"),
        "s202611": 1,
        "n202611": 4,
        "i202611": 5,
        "o202611": 6,
        f"h{CODE}": D("0.5"),
        f"k{CODE}": 1,
        f"x{CODE}": 2,
        f"y{CODE}": 3,
        f"u{CODE}": 4,
        f"v{CODE}": 5,
        f"l{CODE}": 17,
    }

    assert state_of(item, WINDOW) == State(
        requests=3,
        tokens=40,
        committed=D("12.5"),
        committed_month=D(7),
        spent=D("2.25"),
        spent_month=D(1),
        settled=Spent(requests=4, input_tokens=5, output_tokens=6, cost_micro_usd=D(1)),
        buckets=(
            Bucket(
                month="202611",
                name=BUCKET,
                held=D("0.5"),
                open=1,
                settled=Spent(requests=3, input_tokens=4, output_tokens=5, cost_micro_usd=D(2)),
                claimed_until=17,
            ),
        ),
    )


def test_what_is_over_can_go_and_what_somebody_may_still_need_stays() -> None:
    minute = WINDOW.minute
    old_minutes = {f"{letter}{minute - 2}" for letter in "rt"}
    old_months = {f"{letter}202609" for letter in "csnio"}
    kept = {"c", "s", "pk", "sk"}
    kept |= {f"{letter}{number}" for letter in "rt" for number in (minute - 1, minute, minute + 1)}
    kept |= {f"{letter}{month}" for letter in "csnio" for month in ("202610", "202611", "202612")}

    assert outdated(dict.fromkeys(kept | old_minutes | old_months, 1), WINDOW) == old_minutes | old_months


@pytest.mark.parametrize(
    ("seconds", "held", "count", "goes"),
    [
        (KEPT_S, 0, 0, True),
        (KEPT_S - 1, 0, 0, False),
        (9_999, 0, 1, False),
        (9_999, 5, 0, False),
        (9_999, 0, -1, False),
    ],
)
def test_a_bucket_goes_when_it_is_settled_and_has_been_over_for_a_while(
    seconds: int, held: int, count: int, *, goes: bool
) -> None:
    item = {f"h{CODE}": held, f"k{CODE}": count, f"x{CODE}": 7, f"l{CODE}": 1}

    found = outdated(item, Window.of(expiry_of(BUCKET) + seconds))

    assert found == (item.keys() if goes else frozenset())
