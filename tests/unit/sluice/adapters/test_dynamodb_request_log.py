from decimal import Decimal

import msgspec

from sluice.adapters.dynamodb import from_item as plain
from sluice.adapters.dynamodb import to_item as typed
from sluice.adapters.dynamodb_request_log import from_item, to_item
from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.pricing import Charge
from sluice.domain.request_log import Outcome, RequestLogEntry, new_unit

ENTRY = RequestLogEntry(
    request_id="request-1",
    key_id="key_1",
    mode=Mode.SYNC,
    operation=Operation.CHAT,
    model="auto",
    outcome=Outcome.COMPLETED,
    http_status=200,
    started_at=1_700_000_000.1234,
    latency_ms=42,
    target="bedrock/one",
    usage=Usage(input_tokens=10, output_tokens=5, cache_read_tokens=4),
    cost_micro_usd=Decimal("1.050"),
    price_version="2026-01",
    attempts=2,
    fallbacks=1,
)


def test_an_entry_is_stored_under_key_day_and_shard_in_order_of_time() -> None:
    item = to_item(ENTRY, expires_at=5)
    assert str(item["pk"]).startswith("REQ#key_1#20231114#")
    assert int(str(item["pk"])[-1]) in range(8)
    assert item["sk"] == f"2023-11-14T22:13:20.123400+00:00#{ENTRY.unit}"
    assert (item["status"], item["expires_at"], item["cost_micro_usd"]) == ("completed", 5, Decimal("1.050"))


def test_the_same_entry_always_has_the_same_keys() -> None:
    later = msgspec.structs.replace(ENTRY, outcome=Outcome.FAILED, latency_ms=99)
    one, two = to_item(ENTRY, expires_at=5), to_item(later, expires_at=5)
    assert (one["pk"], one["sk"]) == (two["pk"], two["sk"])


def test_requests_of_one_key_are_spread_over_the_shards_whatever_ids_a_caller_gives_them() -> None:
    entries = [msgspec.structs.replace(ENTRY, unit=new_unit()) for _ in range(200)]
    keys = {(item["pk"], item["sk"]) for item in (to_item(entry, expires_at=5) for entry in entries)}
    assert len(keys) == 200
    assert len({pk for pk, _ in keys}) == 8


def test_an_unknown_cost_is_absent_not_zero() -> None:
    item = typed(to_item(msgspec.structs.replace(ENTRY, cost_micro_usd=None, usage=None), expires_at=5))
    assert not {"cost_micro_usd", "input_tokens", "output_tokens"} & item.keys()


def test_every_class_of_tokens_is_stored_where_there_are_any_and_an_estimate_says_so() -> None:
    usage = Usage(
        input_tokens=10,
        output_tokens=5,
        cache_write_tokens=3,
        cache_write_1h_tokens=2,
        reasoning_tokens=4,
        estimated=True,
    )
    item = typed(to_item(msgspec.structs.replace(ENTRY, usage=usage), expires_at=5))
    assert {name: item[name]["N"] for name in ("cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens")} == {
        "cache_write_tokens": "3",
        "cache_write_1h_tokens": "2",
        "reasoning_tokens": "4",
    }
    assert item["usage_estimated"] == {"BOOL": True}
    assert "cache_read_tokens" not in item
    assert not {"usage_estimated", "reasoning_tokens"} & typed(to_item(ENTRY, expires_at=5)).keys()


def test_the_calls_of_a_request_that_took_several_survive_the_way_there_and_back() -> None:
    known = Charge(
        target="bedrock/one",
        usage=Usage(input_tokens=4, output_tokens=2, reasoning_tokens=1, estimated=True),
        cost_micro_usd=Decimal("0.5"),
        price_version="2026-01",
    )
    unknown = Charge(target="openai/two", usage=Usage(input_tokens=6, output_tokens=3))
    entry = msgspec.structs.replace(ENTRY, charges=(known, unknown), started_at=1_700_000_000.123)
    item = typed(to_item(entry, expires_at=5))
    assert "cost_micro_usd" not in item["charges"]["L"][1]["M"]
    assert from_item(plain(item)) == entry


def test_an_entry_survives_the_way_there_and_back() -> None:
    stored = from_item(plain(typed(to_item(ENTRY, expires_at=5))))
    assert stored == msgspec.structs.replace(ENTRY, started_at=1_700_000_000.123)


def test_what_was_held_for_an_entry_and_that_it_came_from_the_cache_are_stored_where_they_say_something() -> None:
    entry = msgspec.structs.replace(ENTRY, hold="0:202611:30x59842081", cached=True)
    stored = from_item(plain(typed(to_item(entry, expires_at=5))))
    assert (stored.hold, stored.cached) == ("0:202611:30x59842081", True)
    assert not {"hold", "cached"} & typed(to_item(ENTRY, expires_at=5)).keys()
