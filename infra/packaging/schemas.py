"""`python -m infra.packaging.schemas [--check]`: JSON Schemas from the very types that the code parses with.

`infra/schemas/<Name>.json` are API Gateway's models, in JSON Schema draft 4, the only one it takes
(https://docs.aws.amazon.com/apigateway/latest/developerguide/models-mappings-models.html).
`docs/events/<version>.schema.json` are the contracts of the events on the bus, in draft 2020-12.
Both are checked in, so that a change of the contract is seen in review.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from infra.packaging.errors import PackagingError
from sluice.wire.schemas import EVENT_TYPES, GATEWAY_MODELS

__all__ = ["draft_4", "main", "render"]

_ROOT = Path(__file__).resolve().parents[2]
_MODELS = Path("infra", "schemas")
_EVENTS = Path("docs", "events")

Schema = dict[str, Any]

# Keywords that mean the same in draft 4.
_SAME = frozenset(
    [
        "default",
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "pattern",
        "title",
        "type",
        "uniqueItems",
    ]
)
# Annotations that draft 4 has no place for; leaving them out changes nothing that is accepted.
_ANNOTATIONS = frozenset({"$comment", "contentEncoding", "deprecated", "discriminator", "examples"})


def render() -> dict[Path, str]:
    """Every generated file: its path below the repository, and its content."""
    models = {
        _MODELS / f"{name}.json": {
            "$schema": "http://json-schema.org/draft-04/schema#",
            **draft_4(_schema_of(type_)),
        }
        for name, type_ in GATEWAY_MODELS.items()
    }
    events = {
        _EVENTS / f"{version}.schema.json": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **_schema_of(type_),
        }
        for version, type_ in EVENT_TYPES.items()
    }
    return {path: json.dumps(schema, indent=2) + "\n" for path, schema in {**models, **events}.items()}


def _schema_of(type_: type) -> Schema:
    schema: Schema = _with_clean_descriptions(msgspec.json.schema(type_))
    return _inline_root(schema)


def _with_clean_descriptions(value: Any) -> Any:
    """`value` without the indentation that docstrings have in source code, and before Python 3.13 also at run time."""
    if isinstance(value, list):
        return [_with_clean_descriptions(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: inspect.cleandoc(item)
        if key == "description" and isinstance(item, str)
        else _with_clean_descriptions(item)
        for key, item in value.items()
    }


def _inline_root(schema: Schema) -> Schema:
    """`schema` with its own definition at the top, where validators and readers expect it, not behind a reference."""
    if set(schema) - {"$defs"} != {"$ref"}:
        return schema
    name = schema["$ref"].removeprefix("#/$defs/")
    definitions = dict(schema["$defs"])
    root = definitions[name]
    rest = {key: value for key, value in definitions.items() if key != name}
    if f'"{schema["$ref"]}"' in json.dumps(definitions):
        # The type contains itself: others go on referring to it.
        rest = definitions
    return {**root, "$defs": rest} if rest else dict(root)


def draft_4(schema: Schema) -> Schema:
    """A draft 2020-12 schema, as msgspec writes it, in draft 4.

    Raises PackagingError for a keyword that draft 4 cannot express: dropping it would accept more than the code does.
    """
    converted: Schema = {}
    for keyword, value in schema.items():
        if keyword in _SAME:
            converted[keyword] = value
        elif keyword in _REWRITTEN:
            converted.update(_REWRITTEN[keyword](value))
        elif keyword not in _ANNOTATIONS:
            raise PackagingError(f"JSON Schema draft 4 has no {keyword!r}: say it otherwise in sluice.wire")
    if "$ref" in converted and len(converted) > 1:
        # In draft 4 whatever stands beside a reference is ignored.
        converted["allOf"] = [{"$ref": converted.pop("$ref")}]
    return converted


def _one(value: Schema | bool) -> Schema | bool:  # noqa: FBT001 - a schema may be just true or false
    return draft_4(value) if isinstance(value, dict) else value


def _each(schemas: dict[str, Schema]) -> dict[str, Schema]:
    return {name: draft_4(schema) for name, schema in schemas.items()}


_REWRITTEN: dict[str, Callable[[Any], Schema]] = {
    "$defs": lambda value: {"definitions": _each(value)},
    "$ref": lambda value: {"$ref": value.replace("#/$defs/", "#/definitions/")},
    "additionalProperties": lambda value: {"additionalProperties": _one(value)},
    "anyOf": lambda value: {"anyOf": [draft_4(schema) for schema in value]},
    "const": lambda value: {"enum": [value]},
    "exclusiveMaximum": lambda value: {"maximum": value, "exclusiveMaximum": True},
    "exclusiveMinimum": lambda value: {"minimum": value, "exclusiveMinimum": True},
    # `false` comes after `prefixItems`, and means that nothing follows those.
    "items": lambda value: {"additionalItems": False} if value is False else {"items": draft_4(value)},
    "oneOf": lambda value: {"oneOf": [draft_4(schema) for schema in value]},
    "prefixItems": lambda value: {"items": [draft_4(schema) for schema in value]},
    "properties": lambda value: {"properties": _each(value)},
    # Draft 4 has no empty list of what is required.
    "required": lambda value: {"required": value} if value else {},
}


def main(*, check: bool, root: Path = _ROOT) -> int:
    """Write the files, or with `check` compare them and change nothing; returns the exit code."""
    wanted = render()
    present = {
        path.relative_to(root) for path in [*(root / _MODELS).glob("*"), *(root / _EVENTS).glob("*.schema.json")]
    }
    stale = [path for path, content in wanted.items() if not _holds(root / path, content)]
    strangers = sorted(present - set(wanted))
    if check:
        for path in [*stale, *strangers]:
            print(f"error: {path} is not what the code says: run `make schemas`", file=sys.stderr)
        return int(bool(stale or strangers))
    for path in stale:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path}")
    for path in strangers:
        (root / path).unlink()
        print(f"removed {path}")
    return 0


def _holds(path: Path, content: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == content


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the JSON Schemas of API Gateway's models and of the events.")
    parser.add_argument("--check", action="store_true", help="compare only; exit code 1 when anything differs")
    try:
        sys.exit(main(check=parser.parse_args().check))
    except PackagingError as problem:
        sys.exit(f"error: {problem}")
