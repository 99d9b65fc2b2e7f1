"""Tool calling of ``extractive-v1``: which tool, with which arguments, and what to make of its answer.

A tool is chosen by the likeness of the question to its name and description, and its arguments are filled from the
question (:mod:`local.models.forms`). Once a tool has answered, the answer is told instead of asking again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from local.models.forms import FormFiller, Hint, siblings
from local.models.text import content_words

# From this likeness of a question to a tool on, the tool is called without being told to.
LEAST_LIKENESS = 0.27
_WORDS_THAT_COUNT = 3


@dataclass(frozen=True)
class Tool:
    """A function on offer; ``parameters`` is its JSON Schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolCall:
    """A call; ``arguments`` is a JSON object as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ToolChoice:
    """``name`` has to be called, or with ``required`` any tool; ``forbidden`` means none may be."""

    required: bool = False
    name: str | None = None
    forbidden: bool = False


ANY_CHOICE = ToolChoice()


class ToolCaller:
    """Decides on calls; deterministic and safe to share between threads."""

    def __init__(self, filler: FormFiller) -> None:
        self._filler = filler

    def calls(self, question: str, tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool) -> list[ToolCall]:
        """The calls that ``question`` asks for; none when no tool is near it and none has to be called."""
        if not tools or choice.forbidden:
            return []
        named = [tool for tool in tools if tool.name == choice.name]
        likeness = self._likeness(question, tools)
        best = named[0] if named else tools[int(np.argmax(likeness))]
        if not named and not choice.required and likeness.max() < LEAST_LIKENESS:
            return []
        filled = [self._arguments(best, question, given) for given in self._settled(best, question, parallel=parallel)]
        return [_call(best.name, arguments, i) for i, arguments in enumerate(filled)]

    def _likeness(self, question: str, tools: Sequence[Tool]) -> Any:
        """How near ``question`` comes to each tool: its whole meaning, and the words of it that come nearest."""
        asked = content_words(question) or [question]
        about = [" ".join(Hint(tool.name, tool.description).words) for tool in tools]
        whole = self._filler.likeness(about, [" ".join(asked)])[:, 0]
        near = np.sort(self._filler.likeness(about, asked), axis=1)[:, -_WORDS_THAT_COUNT:].mean(axis=1)
        return (whole + near) / 2

    def _settled(self, tool: Tool, question: str, *, parallel: bool) -> list[dict[str, Any]]:
        """One call for each of the things that the question enumerates, where the tool takes one thing at a time."""
        properties = dict(tool.parameters.get("properties") or {})
        required = [name for name in tool.parameters.get("required", properties) if name in properties]
        texts = [
            name for name in required if properties[name].get("type") == "string" and not properties[name].get("enum")
        ]
        if not parallel or len(texts) != 1:
            return [{}]
        first = self._arguments(tool, question, {}).get(texts[0])
        listed = siblings(question, first) if isinstance(first, str) else []
        return [{texts[0]: value} for value in listed] or [{}]

    def _arguments(self, tool: Tool, question: str, given: Mapping[str, Any]) -> dict[str, Any]:
        properties = dict(tool.parameters.get("properties") or {})
        if not properties:
            return {}
        # Where nothing is said to be required, everything is worth a try.
        schema = {"required": list(properties), **tool.parameters, "type": "object"}
        filled: dict[str, Any] = self._filler.fill(
            schema, question, subject=Hint(tool.name, tool.description), given=given
        )
        return filled


def facts(result: str, call: ToolCall | None) -> list[str]:
    """What a tool answered as sentences: the members of an object by name, anything else as it is."""
    try:
        said = msgspec.json.decode(result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [result]
    if isinstance(said, Mapping):
        about = _subject(call)
        listed = ", ".join(f"{_spaced(str(name))} {_plain(value)}" for name, value in said.items())
        return [f"{about}{listed}."] if listed else []
    return [_plain(said)]


def _subject(call: ToolCall | None) -> str:
    if call is None:
        return ""
    try:
        arguments = msgspec.json.decode(call.arguments, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return ""
    values = ", ".join(_plain(value) for value in arguments.values() if isinstance(value, str | int | float))
    return f"{values}: " if values else ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ")


def _call(name: str, arguments: dict[str, Any], index: int) -> ToolCall:
    written = msgspec.json.encode(arguments).decode()
    # From what is called, so that the same request has the same answer.
    digest = hashlib.sha256(f"{index} {name} {written}".encode()).hexdigest()
    return ToolCall(f"call_{digest[:24]}", name, written)
