import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.errors import InvalidRequestError
from sluice.domain.replay import fingerprint_of, idempotency_key, in_flight, name_of

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


def quoted(key: str) -> str:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(VISIBLE)
def test_a_key_is_the_same_in_quotation_marks(key: str) -> None:
    assert idempotency_key(quoted(key)) == key
    assert idempotency_key(f"  {quoted(key)}\t") == key


@given(VISIBLE.filter(lambda key: not key.startswith('"')))
def test_a_bare_key_is_taken_as_it_is(key: str) -> None:
    assert idempotency_key(key) == key
    assert idempotency_key(f" {key} ") == key


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        '""',
        "two words",
        '"two words"',
        "größe",
        '"größe"',
        "a\x00b",
        "a\nb",
        "a\x7f",
        '"',
        '"open',
        '"a"b"',
        '"a";p=1',
        r'"a\b"',
        '"a\\"',
        "x" * 256,
        '"' + "x" * 256 + '"',
    ],
)
def test_anything_else_is_refused_without_being_quoted(header: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        idempotency_key(header)
    assert (raised.value.code, raised.value.param) == ("invalid_idempotency_key", "idempotency-key")
    assert raised.value.message.count('"') == 0
    assert "x" * 256 not in raised.value.message
    assert "words" not in raised.value.message


def test_the_longest_key_may_be_quoted() -> None:
    assert idempotency_key('"' + "x" * 255 + '"') == "x" * 255
    assert idempotency_key('"' + '\\"' * 255 + '"') == '"' * 255


def test_a_key_is_known_by_its_hash_only() -> None:
    assert name_of("order-1") == hashlib.sha256(b"order-1").hexdigest()


def test_a_request_is_the_same_only_if_all_of_it_is() -> None:
    same = fingerprint_of("POST", "/v1/chat", {"a": "1", "b": "2"}, b"{}")
    assert same == fingerprint_of("POST", "/v1/chat", {"b": "2", "a": "1"}, b"{}")
    others = [
        fingerprint_of("PUT", "/v1/chat", {"a": "1", "b": "2"}, b"{}"),
        fingerprint_of("POST", "/v1/chats", {"a": "1", "b": "2"}, b"{}"),
        fingerprint_of("POST", "/v1/chat", {"a": "1"}, b"{}"),
        fingerprint_of("POST", "/v1/chat", {"a": "2", "b": "1"}, b"{}"),
        fingerprint_of("POST", "/v1/chat", {"a": "1", "b": "2"}, b"{ }"),
        fingerprint_of("POST", "/v1/chat", {"a": "1", "b": "2"}, b""),
    ]
    assert len({same, *others}) == 1 + len(others)


@given(
    st.text(max_size=8), st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2), st.binary(max_size=8)
)
def test_no_part_of_a_request_runs_on_into_the_next(path: str, parameters: dict[str, str], body: bytes) -> None:
    one = fingerprint_of("POST", path, parameters, b"\0" + body)
    assert one != fingerprint_of("POST", path + "\0", parameters, body)
    assert one != fingerprint_of("POST\0", path, parameters, body)


@pytest.mark.parametrize(("left_s", "told_s"), [(12.5, 12.5), (0.2, 1.0), (-3.0, 1.0)])
def test_whoever_has_to_wait_is_told_how_long(left_s: float, told_s: float) -> None:
    error = in_flight(left_s)
    assert (error.retry_after_s, error.retryable) == (told_s, False)
