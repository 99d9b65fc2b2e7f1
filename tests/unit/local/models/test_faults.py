"""Which call a fault strikes. How each one looks over the wire is tested in tests/contract/local_models."""

from __future__ import annotations

import pytest

from local.models.faults import Fault, FaultBook, FaultSpecError, parse


def kind(fault: Fault | None) -> str | None:
    return fault.kind if fault else None


def test_a_fault_is_read_with_all_it_may_say() -> None:
    body = (
        b'{"kind": "throttle", "status": 503, "retry_after": 1.5, "after_tokens": 2, "times": 3, "protocol": "openai"}'
    )
    expected = Fault(kind="throttle", status=503, retry_after=1.5, after_tokens=2, times=3, protocol="openai")
    assert parse(body) == expected


def test_a_hang_is_bounded_even_when_nobody_says_so() -> None:
    assert parse(b'{"kind": "hang"}').pause_s == 60
    assert parse(b'{"kind": "hang", "seconds": 0.5}').pause_s == 0.5


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[]", b'{"kind": "x"}', b'{"kind": "cut", "seconds": 1}', b"[" * 99_999]
)
def test_nonsense_is_refused(body: bytes) -> None:
    with pytest.raises(FaultSpecError):
        parse(body)


def test_a_fault_strikes_its_model_until_it_is_cleared() -> None:
    book = FaultBook()
    book.set("m", Fault(kind="error"))
    assert [kind(book.take("m", "bedrock", streaming=False)) for _ in range(3)] == ["error"] * 3
    assert book.take("other", "bedrock", streaming=False) is None
    assert book.clear("other") == 0
    assert book.clear("m") == 1
    assert book.take("m", "bedrock", streaming=False) is None


def test_a_counted_fault_is_used_up() -> None:
    book = FaultBook()
    book.set("m", Fault(kind="error", times=2))
    assert [kind(book.take("m", "openai", streaming=False)) for _ in range(3)] == ["error", "error", None]
    assert book.active() == []


def test_a_fault_strikes_the_share_of_calls_that_it_is_given() -> None:
    chances = iter([0.09, 0.1, 0.5, 0.0])
    book = FaultBook(lambda: next(chances))
    book.set("m", Fault(kind="error", share=0.1))
    assert [kind(book.take("m", "openai", streaming=False)) for _ in range(4)] == ["error", None, None, "error"]
    assert book.active()[0]["struck"] == 2


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_is_one_of_all_calls(share: float) -> None:
    with pytest.raises(FaultSpecError, match="share"):
        parse(f'{{"kind": "error", "share": {share}}}'.encode())


def test_a_protocols_own_fault_comes_first() -> None:
    book = FaultBook()
    book.set("m", Fault(kind="error"))
    book.set("m", Fault(kind="throttle", protocol="openai", times=1))
    taken = [kind(book.take("m", "openai", streaming=False)) for _ in range(2)]
    assert taken == ["throttle", "error"]
    assert kind(book.take("m", "bedrock", streaming=False)) == "error"


def test_a_cut_stream_waits_for_a_stream_and_lets_the_next_fault_strike() -> None:
    book = FaultBook()
    book.set("m", Fault(kind="cut_stream", protocol="openai", times=1))
    book.set("m", Fault(kind="latency", seconds=1))
    assert kind(book.take("m", "openai", streaming=False)) == "latency"
    assert kind(book.take("m", "openai", streaming=True)) == "cut_stream"
    assert kind(book.take("m", "openai", streaming=True)) == "latency"
