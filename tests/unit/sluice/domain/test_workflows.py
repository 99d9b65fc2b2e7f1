from __future__ import annotations

from decimal import Decimal

import pytest

from sluice.domain.inference import Usage
from sluice.domain.workflows import ChainStep, total_cost, total_usage


@pytest.mark.parametrize(
    ("prompt", "previous", "rendered"),
    [
        ("plain", None, "plain"),
        ("{{input}}", None, "IN"),
        ("{{input}} {{input}}", None, "IN IN"),
        ("{{previous}}", "ANSWER", "ANSWER"),
        ("{{previous}}/{{input}}/{{previous}}", "ANSWER", "ANSWER/IN/ANSWER"),
        ("plain", "ANSWER", "plain\n\nANSWER"),
        ("{{previous}}", None, ""),
        ("plain", "", "plain\n\n"),
        # What an answer or the input says stays text, even when it looks like a placeholder.
        ("{{previous}}", "{{input}}", "{{input}}"),
        ("{{previous}} {{input}}", "{{previous}}", "{{previous}} IN"),
    ],
)
def test_a_prompt_is_filled_in_once(prompt: str, previous: str | None, rendered: str) -> None:
    assert ChainStep(prompt=prompt, model="auto").render(chain_input="IN", previous=previous) == rendered


def test_an_input_that_looks_like_a_placeholder_stays_text() -> None:
    step = ChainStep(prompt="{{input}} then {{previous}}", model="auto")
    assert step.render(chain_input="{{previous}}", previous="ANSWER") == "{{previous}} then ANSWER"


def test_totals_add_up_what_is_known() -> None:
    usage = Usage(input_tokens=5, output_tokens=2, cache_read_tokens=1)
    assert total_usage([usage, None, usage]) == Usage(input_tokens=10, output_tokens=4, cache_read_tokens=2)
    assert total_cost([Decimal("0.1"), Decimal("0.2")]) == Decimal("0.3")


def test_a_total_cost_with_an_unknown_part_is_unknown() -> None:
    assert total_cost([Decimal(1), None]) is None
    assert total_cost([]) == 0
