"""Answers in the form that was asked for: JSON, or JSON that fits a schema.

A model is asked for a form and mostly keeps to it. What it says is checked here, and an answer that does not fit is
sent back to the same model once, with what is wrong with it. :mod:`sluice.services.infer` makes that second call, as
it makes every other: within the deadline, counted as an attempt, billed.

The schema is a stranger's program, run on every answer: its size, depth and the work it can cause are bounded before
it is compiled, its patterns are matched in linear time, and nothing it refers to is ever fetched.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sluice.domain.errors import InvalidModelOutputError, InvalidRequestError
from sluice.domain.inference import ChatRequest, ChatResult, FinishReason, Message, ResponseFormat

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

PARAM: Final = "response_format"
MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_SCHEMA_DEPTH: Final = 48
# A chain of definitions that each refer to the next one twice doubles the work with every link.
MAX_EXPANDED_NODES: Final = 20_000
# What the model is told of its mistakes: enough to mend them, not so much as to bury the question.
MAX_PROBLEMS: Final = 5
MAX_PROBLEM_CHARS: Final = 300

_JSON_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}
_ELSEWHERE: Final = ("$dynamicRef", "$recursiveRef")


class OutputCheck:
    """The check of one request's answers. :func:`check_for` makes it."""

    def __init__(self, validator: "Validator") -> None:
        self._validator = validator

    def tidied(self, result: ChatResult) -> ChatResult:
        """The answer without the Markdown fence that many models put around JSON."""
        text = _unfenced(result.text)
        return result if text == result.text else msgspec.structs.replace(result, text=text)

    def problem(self, result: ChatResult) -> str | None:
        """What is wrong with the answer, in words for the model that gave it; ``None`` when it fits.

        A fence around it is no problem. Only a finished answer is judged: one that was cut off, filtered, or asks for a
        tool is not the JSON yet, and its finish reason tells the caller so. A refusal is not meant to be the JSON.
        """
        if result.finish_reason is not FinishReason.STOP or result.tool_calls or result.refusal is not None:
            return None
        try:
            answer = msgspec.json.decode(_unfenced(result.text))
        except (msgspec.DecodeError, RecursionError):
            return "It is not valid JSON."
        errors = [_described(error) for error, _ in zip(self._errors(answer), range(MAX_PROBLEMS), strict=False)]
        return "\n".join(errors) or None

    def repair(self, request: ChatRequest, result: ChatResult, problem: str) -> ChatRequest:
        """The request that shows the model its answer and what is wrong with it."""
        advice = (
            f"This answer cannot be used:\n{problem}\n"
            "Answer again with the corrected JSON and nothing else: no explanation and no Markdown."
        )
        # An empty turn is an error to some providers, and says nothing to any.
        answered = (Message("assistant", result.text),) if result.text.strip() else ()
        messages = (*request.messages, *answered, Message("user", advice))
        return msgspec.structs.replace(request, messages=messages)

    def _errors(self, answer: Any) -> "Iterator[ValidationError]":
        return self._validator.iter_errors(answer)


def check_for(request: ChatRequest) -> OutputCheck | None:
    """The check that the request's response format calls for; ``None`` when any text will do.

    :raises InvalidRequestError: the schema is too large, too deep, or not a valid JSON Schema.
    """
    if request.response_format is None:
        return None
    return OutputCheck(_compiled(_schema(request.response_format)))


def check_schema(request: ChatRequest) -> None:
    """See that :func:`check_for` will take the request's schema, if it has one.

    :raises InvalidRequestError: as that does.
    """
    # Any JSON object needs no schema of the caller's, and so no library to compile one.
    if request.response_format is not None and request.response_format.type == "json_schema":
        check_for(request)


def _schema(wanted: ResponseFormat) -> Mapping[str, Any]:
    if wanted.type == "json_object":
        return _JSON_OBJECT
    if len(msgspec.json.encode(wanted.schema)) > MAX_SCHEMA_BYTES:
        raise _refused(f"The schema may have at most {MAX_SCHEMA_BYTES // 1024} KiB of JSON.")
    if _depth(wanted.schema) > MAX_SCHEMA_DEPTH:
        raise _refused(f"The schema may be nested at most {MAX_SCHEMA_DEPTH} levels deep.")
    _Expansion(wanted.schema).check()
    return wanted.schema


def _compiled(schema: Mapping[str, Any]) -> "Validator":
    # Only requests that ask for JSON pay for loading it.
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(
            dict(schema),
            # Never leaves the process, and never backtracks: both would let a schema hang the function.
            offline=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as exc:
        raise _refused("The schema is not a valid JSON Schema (draft 2020-12 unless it names another).") from exc


def _depth(root: object) -> int:
    """How deep a JSON value is nested; without recursion, as the depth is what is in doubt."""
    deepest, nodes = 0, [(root, 1)]
    while nodes:
        node, depth = nodes.pop()
        deepest = max(deepest, depth)
        children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
        nodes.extend((child, depth + 1) for child in children)
    return deepest


class _Expansion:
    """Counts the nodes of a schema as if every reference were replaced by what it refers to."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._counts: dict[str, int] = {}

    def check(self) -> None:
        """:raises InvalidRequestError: there are too many, or too long a chain of references."""
        try:
            nodes = self._nodes(self._root)
        except RecursionError as exc:
            raise _refused("The schema's references form too long a chain.") from exc
        if nodes > MAX_EXPANDED_NODES:
            raise _refused("The schema's references multiply into more than can be checked.")

    def _nodes(self, node: object) -> int:
        if isinstance(node, list):
            return 1 + sum(map(self._nodes, node))
        if not isinstance(node, Mapping):
            return 1
        if any(isinstance(node.get(keyword), str) for keyword in _ELSEWHERE):
            raise _refused("The schema may only use '$ref' to refer to a part of itself.")
        own = 1 + sum(map(self._nodes, node.values()))
        reference = node.get("$ref")
        return own + (self._behind(reference) if isinstance(reference, str) else 0)

    def _behind(self, reference: str) -> int:
        if not reference.startswith("#"):
            raise _refused("The schema may only refer to a part of itself, as in '#/$defs/name'.")
        if reference not in self._counts:
            # A schema that contains itself: each turn needs another level of the answer, so the answer bounds it.
            self._counts[reference] = 0
            self._counts[reference] = self._nodes(_found(self._root, reference))
        return self._counts[reference]


def _found(root: Mapping[str, Any], reference: str) -> object:
    """What a JSON pointer points to; ``None`` when it points nowhere, which compiling the schema will tell."""
    node: object = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(name)
        elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            return None
    return node


def misfit(target: str) -> InvalidModelOutputError:
    """The error for a second answer that does not fit. It quotes neither the answer nor the schema."""
    return InvalidModelOutputError(
        "The model did not answer in the form that 'response_format' asks for, not even when it was asked again.",
        target=target,
        param=PARAM,
    )


def _described(error: "ValidationError") -> str:
    place = "/".join(map(str, error.instance_path))
    return f"At /{place}: {error.message}"[:MAX_PROBLEM_CHARS]


def _unfenced(text: str) -> str:
    stripped = text.strip()
    if not (stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped):
        return text
    first, _, rest = stripped.partition("\n")
    # More than one fence is an answer with prose in between, and not this one's to pick from.
    inner = rest.removesuffix("```")
    return text if "```" in inner or first not in ("```", "```json", "```JSON") else inner.strip()


def _refused(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="invalid_json_schema", param=PARAM)
