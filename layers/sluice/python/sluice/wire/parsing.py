"""From a body to a struct, or to an error that names the field that is wrong and never quotes its value."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, TypeVar, cast

import msgspec

from sluice.domain.errors import InvalidRequestError

T = TypeVar("T")

_LOCATION: Final = re.compile(r"(?P<problem>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>[^`]+)`")
_STEP: Final = re.compile(r"\.(?P<name>\w+)|\[(?:\d+|\.\.\.)\]")


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def parse(body: bytes, kind: type[T]) -> T:
    """``body`` as a ``kind``; fields that it does not know are ignored.

    :raises InvalidRequestError: with the field's path in OpenAI's style (``messages[0].content``) as ``param``.
    """
    if not body:
        raise InvalidRequestError("The body is empty; a JSON object is expected.")
    try:
        return cast("T", _decoder(cast("Any", kind)).decode(body))
    except msgspec.ValidationError as exc:
        raise _explain(str(exc), kind) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidRequestError("The body is not valid JSON in UTF-8; a JSON object is expected.") from exc
    except RecursionError as exc:
        raise InvalidRequestError("The body is nested too deeply.") from exc


def unsupported(param: str, instead: str | None = None) -> InvalidRequestError:
    """The error for a field that OpenAI knows and Sluice does not serve (yet)."""
    advice = f" {instead}" if instead else " Leave it out."
    return InvalidRequestError(f"'{param}' is not supported.{advice}", code="unsupported_parameter", param=param)


def _explain(message: str, kind: type) -> InvalidRequestError:
    located = _LOCATION.fullmatch(message)
    problem, path = (located["problem"], located["path"] or "") if located else (message, "")
    param = path.replace("[...]", "").removeprefix(".")
    if missing := _MISSING.match(problem):
        param = f"{param}.{missing['name']}".removeprefix(".")
        return InvalidRequestError(f"'{param}' is required.", code="missing_required_parameter", param=param)
    if problem.startswith("Invalid enum value"):
        # The only message of msgspec's that quotes the value.
        problem = "Expected one of " + ", ".join(f"`{choice}`" for choice in _choices(kind, path))
    if not param:
        return InvalidRequestError(f"The body is not what it should be. {problem}.")
    return InvalidRequestError(f"'{param}' is not what it should be. {problem}.", code="invalid_value", param=param)


def _choices(kind: type, path: str) -> list[object]:
    """The values that are allowed at ``path``. Only errors pay for the introspection."""
    nodes: list[Any] = [msgspec.inspect.type_info(kind)]
    for step in _STEP.finditer(path):
        nodes = [child for node in nodes for child in _children(node, step["name"])]
    return [value for node in nodes for option in _options(node) for value in _values(option)]


def _options(node: Any) -> Iterator[Any]:
    yield from node.types if isinstance(node, msgspec.inspect.UnionType) else [node]


def _children(node: Any, name: str | None) -> Iterator[Any]:
    for option in _options(node):
        if name is None:
            yield from (getattr(option, part) for part in ("item_type", "value_type") if hasattr(option, part))
        elif isinstance(option, msgspec.inspect.StructType):
            yield from (field.type for field in option.fields if field.encode_name == name)


def _values(option: Any) -> Iterator[object]:
    if isinstance(option, msgspec.inspect.LiteralType):
        yield from option.values
    elif isinstance(option, msgspec.inspect.EnumType):
        yield from (member.value for member in option.cls)
    elif isinstance(option, msgspec.inspect.NoneType):
        yield "null"
