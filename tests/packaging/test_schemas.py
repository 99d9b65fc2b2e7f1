"""Generated schemas: up to date, valid, and in the draft that their readers understand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from jsonschema import Draft4Validator, Draft202012Validator

from infra.packaging import schemas
from infra.packaging.errors import PackagingError
from infra.packaging.schemas import draft_4

RENDERED = {path: json.loads(text) for path, text in schemas.render().items()}


class Inner(msgspec.Struct):
    ratio: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    more: list[Inner] = []


class Outer(msgspec.Struct):
    pair: tuple[int, str]
    inner: Inner
    fallback: Inner | None = None
    labels: dict[str, str] = {}
    kind: Annotated[str, msgspec.Meta(pattern="^[a-z]+$", examples=["chat"])] = "chat"


GOOD = {"pair": [1, "a"], "inner": {"ratio": 0.5, "more": [{"ratio": 0.1}]}}


def test_the_checked_in_files_are_what_the_code_says() -> None:
    assert schemas.main(check=True) == 0


@pytest.mark.parametrize("path", RENDERED, ids=str)
def test_a_schema_is_valid_in_its_draft(path: Path) -> None:
    is_model = path.parts[:2] == ("infra", "schemas")
    validator = Draft4Validator if is_model else Draft202012Validator
    assert RENDERED[path]["$schema"] == validator.META_SCHEMA["$schema"]
    validator.check_schema(RENDERED[path])
    # API Gateway and readers look at the top level first.
    assert RENDERED[path]["type"] == "object"


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"pair": [1, "a", 2]}, False),
        ({"pair": ["a", 1]}, False),
        ({"inner": {"ratio": 1}}, False),
        ({"inner": {"ratio": 0}}, False),
        ({"inner": {"ratio": 0.5, "more": [{"ratio": 2}]}}, False),
        ({"fallback": {"ratio": 2}}, False),
        ({"labels": {"a": 1}}, False),
        ({"kind": "A"}, False),
        ({"inner": None}, False),
    ],
)
def test_draft_4_accepts_what_the_code_accepts(change: dict[str, Any], valid: bool) -> None:
    schema = draft_4(msgspec.json.schema(Outer))
    Draft4Validator.check_schema(schema)
    value = GOOD | change
    assert Draft4Validator(schema).is_valid(value) is valid
    try:
        msgspec.convert(value, Outer)
    except msgspec.ValidationError:
        assert not valid
    else:
        assert valid


def test_what_draft_4_cannot_say_is_refused() -> None:
    with pytest.raises(PackagingError, match="has no 'propertyNames'"):
        draft_4({"type": "object", "propertyNames": {"maxLength": 3}})


def test_descriptions_do_not_depend_on_the_python_that_renders_them() -> None:
    text = json.dumps(list(RENDERED.values()))
    assert "\\n    " not in text


def test_writing_repairs_and_checking_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = tmp_path / "infra" / "schemas" / "Gone.json"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("{}")
    assert schemas.main(check=True, root=tmp_path) == 1
    assert "run `make schemas`" in capsys.readouterr().err
    assert schemas.main(check=False, root=tmp_path) == 0
    assert not stranger.exists()
    assert schemas.main(check=True, root=tmp_path) == 0
