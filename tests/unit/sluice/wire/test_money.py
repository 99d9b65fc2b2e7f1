from __future__ import annotations

from decimal import Decimal

import pytest

from sluice.wire.money import micro_usd, usd


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("0", "0"),
        ("0.0", "0"),
        ("12.50", "12500000"),
        ("0.000001", "1"),
        ("0.000000000001", "0.000001"),
        ("999999999999.999999999999", "999999999999999999.999999"),
        ("007", "7000000"),
    ],
)
def test_dollars_become_exact_micro_dollars(text: str, micro: str) -> None:
    assert micro_usd(text) == Decimal(micro)


@pytest.mark.parametrize("text", ["0", "12.5", "0.000000000001", "999999999999.999999999999"])
def test_what_was_parsed_is_told_as_it_was(text: str) -> None:
    assert usd(micro_usd(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1e3",
        "1.",
        ".5",
        "1,5",
        "NaN",
        "Infinity",
        " 1",
        "1 ",
        "1\n",
        "\u0661",
        "1" * 13,
        "0." + "1" * 13,
    ],
)
def test_anything_else_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="decimal string such as"):
        micro_usd(text)


def test_what_is_unknown_stays_unknown() -> None:
    assert usd(None) is None
