from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.errors import InvalidRequestError
from sluice.wire.multipart import LONGEST_FIELD, MOST_FIELDS, FormFile, parse_form

BOUNDARY = "c5a9c8ab57c1"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts: tuple[str, bytes], end: bytes = b"--\r\n") -> bytes:
    """A body of parts, each what its header says besides the kind, and its content."""
    opening = b"--" + BOUNDARY.encode()
    sent = b"".join(
        opening + b"\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + content + b"\r\n"
        for head, content in parts
    )
    return sent + opening + end


def test_fields_and_files_come_by_name() -> None:
    typed = 'name="file"; filename="größer.jsonl"\r\nContent-Type: application/jsonl'
    found = parse_form(TYPE, form(('name="purpose"', b"batch"), (typed, b"{}\r\n")))
    assert found.fields == {"purpose": "batch"}
    assert found.files == {
        "file": FormFile(filename="größer.jsonl", content_type="application/jsonl", content=b"{}\r\n")
    }
    assert found.file("file").content == b"{}\r\n"


@given(content=st.binary(max_size=300), filename=st.text(st.characters(min_codepoint=32), min_size=1, max_size=20))
def test_whatever_is_in_a_file_comes_as_it_was_sent(content: bytes, filename: str) -> None:
    if BOUNDARY.encode() in content:
        return
    quoted = filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    try:
        quoted.encode()
    except UnicodeEncodeError:
        return
    found = parse_form(TYPE, form((f'name="file"; filename="{quoted}"', content)))
    assert found.files["file"].content == content


@pytest.mark.parametrize(
    "content_type",
    [f'multipart/form-data; boundary="{BOUNDARY}"', f"Multipart/Form-Data;charset=utf-8; boundary={BOUNDARY}"],
)
def test_the_boundary_is_found_however_it_is_written(content_type: str) -> None:
    assert parse_form(content_type, form(('name="a"', b"b"))).fields == {"a": "b"}


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"text/plain; boundary={BOUNDARY}",
    ],
)
def test_what_is_no_form_is_told_what_to_send(content_type: str) -> None:
    with pytest.raises(InvalidRequestError, match="multipart/form-data") as raised:
        parse_form(content_type, form(('name="a"', b"b")))
    assert raised.value.code == "invalid_form"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"purpose=batch",
        form(('name="a"', b"b"), end=b""),
        form(('name="a"', b"b"))[:-12],
        b"--" + BOUNDARY.encode() + b"\r\n\r\nb\r\n--" + BOUNDARY.encode() + b"--\r\n",
        form(('name="a"', b"\xff\xfe")),
        form(*[(f'name="a{number}"', b"b") for number in range(MOST_FIELDS + 1)]),
    ],
    ids=["empty", "another-form", "no-end", "cut-off", "no-header", "no-text", "too-many"],
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        parse_form(TYPE, body)
    assert raised.value.code == "invalid_form"


def test_a_field_that_comes_twice_is_refused() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        parse_form(TYPE, form(('name="a"', b"1"), ('name="a"; filename="f"', b"2")))
    assert raised.value.param == "a"


def test_a_file_without_a_name_is_told_what_it_lacks() -> None:
    with pytest.raises(InvalidRequestError, match="file name") as raised:
        parse_form(TYPE, form(('name="file"', b"x"))).file("file")
    assert raised.value.param == "file"
    with pytest.raises(InvalidRequestError, match="file name"):
        parse_form(TYPE, form(('name="file"', b"x" * (LONGEST_FIELD + 1))))


def test_a_file_that_is_missing_is_required() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        parse_form(TYPE, form(('name="a"', b"x"))).file("file")
    assert (raised.value.code, raised.value.param) == ("missing_required_parameter", "file")


def test_other_fields_than_the_known_ones_are_refused() -> None:
    known = parse_form(TYPE, form(('name="a"', b"x"), ('name="file"; filename="f"', b"y")))
    known.only(files=frozenset({"file"}), fields=frozenset({"a"}))
    with pytest.raises(InvalidRequestError) as raised:
        known.only(files=frozenset({"file"}), fields=frozenset())
    assert (raised.value.code, raised.value.param) == ("unknown_parameter", "a")
    with pytest.raises(InvalidRequestError):
        known.only(files=frozenset(), fields=frozenset({"a"}))
