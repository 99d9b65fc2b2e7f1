"""Every price in the ledger equals a computation of its own with ``decimal`` from the provider's usage block.

The computations here share no code with the product: they start from the JSON that a provider sends, in its words.
"""

from decimal import Decimal, localcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters import bedrock_converse
from sluice.adapters.dynamodb import from_item as plain
from sluice.adapters.dynamodb import to_item as typed
from sluice.adapters.dynamodb_request_log import from_item, to_item
from sluice.adapters.openai_chat import TokenUsage
from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.pricing import Charge, Price, charge, price_versions, total_cost, total_usage
from sluice.domain.request_log import Outcome, RequestLogEntry

COUNTS = st.integers(min_value=0, max_value=2_000_000)
# Prices as they are quoted: up to a thousand dollars per million tokens, to the millionth of a dollar.
RATES = st.integers(min_value=0, max_value=10**9).map(lambda micros: Decimal(micros) / 10**6)
OPTIONAL = st.none() | RATES
RATE_NAMES = (
    "input_per_mtok",
    "output_per_mtok",
    "cache_read_per_mtok",
    "cache_write_per_mtok",
    "cache_write_1h_per_mtok",
    "reasoning_per_mtok",
)
Quoted = dict[str, Any]


def rates(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[Quoted]:
    required = {"input_per_mtok": RATES, "output_per_mtok": RATES}
    return st.fixed_dictionaries({**required, **more}, optional=dict.fromkeys(RATE_NAMES[2:], RATES))


PRICES = st.fixed_dictionaries(
    {"version": st.just("v1"), "input_per_mtok": RATES, "output_per_mtok": RATES},
    optional={
        **dict.fromkeys(RATE_NAMES[2:], RATES),
        "per_request_usd": RATES,
        "tiers": st.lists(
            rates(above_input_tokens=COUNTS), max_size=3, unique_by=lambda tier: tier["above_input_tokens"]
        ),
    },
)


@st.composite
def bedrock_blocks(draw: st.DrawFn) -> dict[str, Any]:
    """`usage` of Converse: what was cached is counted apart from the input."""
    block: dict[str, Any] = {"inputTokens": draw(COUNTS), "outputTokens": draw(COUNTS)}
    if draw(st.booleans()):
        for_an_hour, short = draw(COUNTS), draw(COUNTS)
        block["cacheReadInputTokens"] = draw(COUNTS)
        block["cacheWriteInputTokens"] = for_an_hour + short
        if draw(st.booleans()):
            block["cacheDetails"] = [{"inputTokens": short, "ttl": "5m"}, {"inputTokens": for_an_hour, "ttl": "1h"}]
    block["totalTokens"] = sum(value for value in block.values() if isinstance(value, int))
    return block


@st.composite
def openai_blocks(draw: st.DrawFn) -> dict[str, Any]:
    """`usage` of OpenAI's: the prompt includes what was cached, the completion includes the reasoning."""
    text, read, written, said, thought = (draw(COUNTS) for _ in range(5))
    block: dict[str, Any] = {"prompt_tokens": text + read + written, "completion_tokens": said + thought}
    block["total_tokens"] = block["prompt_tokens"] + block["completion_tokens"]
    block["prompt_tokens_details"] = {"cached_tokens": read, "cache_write_tokens": written}
    block["completion_tokens_details"] = {"reasoning_tokens": thought}
    return block


def quoted_rates(quoted: Quoted, prompt_tokens: int) -> Quoted:
    """The rates of the highest tier below the prompt, else the ordinary ones."""
    best = quoted
    for tier in sorted(quoted.get("tiers", []), key=lambda one: one["above_input_tokens"]):
        if prompt_tokens > tier["above_input_tokens"]:
            best = tier
    return best


def exact(quoted: Quoted, parts: list[tuple[int, tuple[str, ...]]], prompt_tokens: int) -> Decimal:
    """Micro-dollars: each part at the first of its rates that is quoted."""
    chosen = quoted_rates(quoted, prompt_tokens)
    with localcontext(prec=200):
        total: Decimal = quoted.get("per_request_usd", Decimal(0)) * 10**6
        for tokens, names in parts:
            total += Decimal(tokens) * next(chosen[name] for name in names if name in chosen)
        return total


def bedrock_cost(block: dict[str, Any], quoted: Quoted) -> Decimal:
    read, written = block.get("cacheReadInputTokens", 0), block.get("cacheWriteInputTokens", 0)
    hour = sum(part["inputTokens"] for part in block.get("cacheDetails", []) if part["ttl"] == "1h")
    parts: list[tuple[int, tuple[str, ...]]] = [
        (block["inputTokens"], ("input_per_mtok",)),
        (read, ("cache_read_per_mtok", "input_per_mtok")),
        (written - hour, ("cache_write_per_mtok", "input_per_mtok")),
        (hour, ("cache_write_1h_per_mtok", "cache_write_per_mtok", "input_per_mtok")),
        (block["outputTokens"], ("output_per_mtok",)),
    ]
    return exact(quoted, parts, block["inputTokens"] + read + written)


def openai_cost(block: dict[str, Any], quoted: Quoted) -> Decimal:
    details, spent = block["prompt_tokens_details"], block["completion_tokens_details"]
    read, written, thought = details["cached_tokens"], details["cache_write_tokens"], spent["reasoning_tokens"]
    parts: list[tuple[int, tuple[str, ...]]] = [
        (block["prompt_tokens"] - read - written, ("input_per_mtok",)),
        (read, ("cache_read_per_mtok", "input_per_mtok")),
        (written, ("cache_write_per_mtok", "input_per_mtok")),
        (block["completion_tokens"] - thought, ("output_per_mtok",)),
        (thought, ("reasoning_per_mtok", "output_per_mtok")),
    ]
    return exact(quoted, parts, block["prompt_tokens"])


def price(quoted: Quoted) -> Price:
    """As the routes adapter reads it: from the decimal strings that Terraform writes."""
    return msgspec.convert(msgspec.to_builtins(quoted), Price, strict=False)


def openai_usage(block: dict[str, Any]) -> Usage:
    return msgspec.json.decode(msgspec.json.encode(block), type=TokenUsage).to_domain()


def stored(charges: list[Charge]) -> dict[str, Any]:
    """The item that the table holds for a request with these calls, after the way through DynamoDB's own form."""
    entry = RequestLogEntry(
        request_id="request-1",
        key_id="key_1",
        mode=Mode.SYNC,
        operation=Operation.CHAT,
        model="auto",
        outcome=Outcome.COMPLETED,
        http_status=200,
        started_at=1_700_000_000.5,
        latency_ms=1,
        target=charges[-1].target,
        usage=total_usage(charges),
        cost_micro_usd=total_cost(charges),
        price_version=price_versions(charges),
        charges=tuple(charges) if len(charges) > 1 else (),
    )
    item = plain(typed(to_item(entry, expires_at=5)))
    assert from_item(item) == entry
    return item


@given(bedrock_blocks(), PRICES)
def test_bedrock(block: dict[str, Any], quoted: Quoted) -> None:
    item = stored([charge("bedrock/one", bedrock_converse.usage(block), price(quoted))])
    assert item["cost_micro_usd"] == bedrock_cost(block, quoted)
    assert item["price_version"] == "v1"
    assert item["input_tokens"] + item["output_tokens"] == block["totalTokens"]


@given(openai_blocks(), PRICES)
def test_openai(block: dict[str, Any], quoted: Quoted) -> None:
    item = stored([charge("openai/one", openai_usage(block), price(quoted))])
    assert item["cost_micro_usd"] == openai_cost(block, quoted)
    assert item["input_tokens"] + item["output_tokens"] == block["total_tokens"]
    assert item.get("reasoning_tokens", 0) == block["completion_tokens_details"]["reasoning_tokens"]


@given(bedrock_blocks(), openai_blocks(), PRICES, PRICES)
def test_a_request_that_took_several_calls(
    first: dict[str, Any], second: dict[str, Any], one: Quoted, two: Quoted
) -> None:
    item = stored(
        [
            charge("bedrock/one", bedrock_converse.usage(first), price(one)),
            charge("openai/one", openai_usage(second), price({**two, "version": "v2"})),
        ]
    )
    expected = [bedrock_cost(first, one), openai_cost(second, two)]
    with localcontext(prec=200):
        assert item["cost_micro_usd"] == sum(expected)
    assert [part["cost_micro_usd"] for part in item["charges"]] == expected
    assert item["price_version"] == "v1,v2"


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"inputTokens": 1000, "outputTokens": 500, "totalTokens": 1500}, "10500"),
        (
            {"inputTokens": 10, "outputTokens": 5, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 50},
            "322.5",
        ),
        (
            {
                "inputTokens": 0,
                "outputTokens": 0,
                "cacheWriteInputTokens": 30,
                "cacheDetails": [{"inputTokens": 20, "ttl": "5m"}, {"inputTokens": 10, "ttl": "1h"}],
            },
            "135",
        ),
    ],
)
def test_worked_by_hand_for_bedrock(block: dict[str, Any], expected: str) -> None:
    quoted = dict(zip(RATE_NAMES, map(Decimal, ("3", "15", "0.3", "3.75", "6", "20")), strict=True))
    item = stored([charge("bedrock/one", bedrock_converse.usage(block), price({"version": "v1", **quoted}))])
    assert item["cost_micro_usd"] == Decimal(expected)


def test_worked_by_hand_for_openai() -> None:
    block = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    quoted = dict(zip(RATE_NAMES, map(Decimal, ("3", "15", "0.3", "3.75", "6", "20")), strict=True))
    item = stored([charge("openai/one", openai_usage(block), price({"version": "v1", **quoted}))])
    assert item["cost_micro_usd"] == 30 * 3 + 60 * Decimal("0.3") + 10 * Decimal("3.75") + 30 * 15 + 20 * 20
