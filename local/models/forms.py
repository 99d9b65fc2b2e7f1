"""Filling a JSON Schema from a text: what a model does that is asked for JSON, or for a tool's arguments.

Every value is taken out of the text by what the schema says about it: a number by the words around it, an enum by the
nearest label, a string by its name and description, a flag by the sentence that speaks of it. What the text does not
hold is left out if it may be, and else is the schema's default or the least value that conforms.

Understood: ``type`` (one or several), ``properties``, ``required``, ``items``, ``prefixItems``, ``enum``, ``const``,
``default``, ``$ref`` into the same schema, ``anyOf``/``oneOf`` (the first that is not null), ``allOf``, bounds of
numbers, lengths and arrays, and the formats date, date-time, time, email, uri and uuid. A ``pattern`` is searched for
in the text, never made up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from local.models.embeddings import Embedder, FloatArray
from local.models.text import STOP_WORDS, content_words, sentences, words

Schema = Mapping[str, Any]


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DEEPEST = 12
# From this likeness on, a sentence speaks of what a flag is called.
_SPEAKS_OF = 0.3
# How far around a number its words are looked for, in words.
_NEIGHBOURHOOD = 4
_NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_WORD_NUMBERS = {word: number for number, word in enumerate(_NUMBER_WORDS)}
_NUMBER = re.compile(
    rf"(?<![\w.])(-?\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|-?\d+(?:\.\d+)?)(?![\w]|\.\d)|\b({'|'.join(_WORD_NUMBERS)})\b",
    re.IGNORECASE,
)
_FORMATS = {
    "date": re.compile(r"\b\d{4}-\d{2}-\d{2}\b"),
    "date-time": re.compile(r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})"),
    "time": re.compile(r"\b\d{2}:\d{2}:\d{2}(?:Z|[+-]\d{2}:\d{2})"),
    "email": re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    "uri": re.compile(r"\bhttps?://[^\s\"'<>)]+[^\s\"'<>).,;]"),
    "uuid": re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE),
}
_FORMAT_DEFAULTS = {
    "date": "1970-01-01",
    "date-time": "1970-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "nobody@example.com",
    "uri": "https://example.com",
    "uuid": "00000000-0000-0000-0000-000000000000",
}
# A name and what it stands for, as in a list of settings: the text behind a colon or an equals sign.
_PAIR = re.compile(
    r"(?:^|[\n;,{(])\s*[-*\"']?\s*([A-Za-z][\w \-]{0,30}?)[\"']?\s*[:=]\s*[\"']?"
    # A comma is part of the value, unless another name comes after it.
    r"((?:[^\n;,{}\"']|,(?!\s*[\"']?[A-Za-z][\w \-]{0,30}[\"']?\s*[:=])){1,200})"
)
_QUOTED = re.compile(r"[\"“”']([^\"“”'\n]{1,120})[\"“”'](?!\w)")
_NAME = re.compile(r"\b[A-Z][\w'-]*(?:\s+(?:of|de|van|von|the)?\s*[A-Z][\w'-]*)*")
# What follows a name at the start of a sentence, and not a verb that tells the model what to do.
_SUBJECT = re.compile(r"\s*(?:,|'s\b|\b(?:and|or|is|was|are|were|has|had|will|lives?|works?|said)\b|[.?!]?$)")
_KEYS = re.compile(r"\b(?:keys?|fields?|properties|members)\b\s*:?\s*(?:named\s+|called\s+)?([^.\n;?]+)", re.IGNORECASE)
_QUANTITIES = _set("age amount count number price quantity score temperature total year")
_LIST_BREAK = re.compile(r"\s*(?:,\s*(?:and|or)\s+|,\s*|\s+and\s+|\s+or\s+)\s*")
_NEGATION = re.compile(
    r"\b(?:no|not|never|without|isn't|wasn't|aren't|don't|doesn't|didn't|cannot|can't|none)\b", re.IGNORECASE
)
# What is asked for in sentences rather than in a word or two.
_PROSE = _set(
    "answer body comment content description explanation input message note prompt query question reason reasoning "
    "response sentence summary text thought"
)
# What is called so may be a figure, though it is a string.
_FIGURES = _set("amount code date id no number phone quantity time version year zip")
_INTERROGATIVES = _set("what which who when where why how is are does do can could will would should")


@dataclass(frozen=True)
class Hint:
    """What a value is called, and what is said about it."""

    name: str
    description: str = ""

    @property
    def words(self) -> list[str]:
        """Both as words: ``userName`` and ``user_name`` are two."""
        spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", self.name).replace("_", " ").replace("-", " ")
        return content_words(f"{spaced} {self.description}")

    @property
    def own_words(self) -> list[str]:
        """The words of the name alone."""
        return Hint(self.name).words


class FormFiller:
    """Fills schemas; deterministic and safe to share between threads."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def fill(self, schema: Schema, text: str, *, subject: Hint, given: Mapping[str, Any] | None = None) -> Any:
        """A value that conforms to ``schema``, out of ``text``. ``given`` holds top-level members that are settled."""
        return _Filling(self, schema, text, set(subject.words)).value(schema, subject, dict(given or {}))

    def likeness(self, left: Sequence[str], right: Sequence[str]) -> FloatArray:
        """Cosines between every one of ``left`` and every one of ``right``; (len(left), len(right))."""
        likeness: FloatArray = self._embedder.embed(left) @ self._embedder.embed(right).T
        return likeness


class _Filling:
    """One schema and one text."""

    def __init__(self, filler: FormFiller, root: Schema, text: str, topic: set[str]) -> None:
        self._filler = filler
        self._root = root
        self._text = text
        self._sentences = sentences(text)
        self._pairs = [(Hint(name.strip()).own_words, value.strip()) for name, value in _PAIR.findall(text)]
        self._topic = topic
        self._used: list[str] = []

    def value(self, schema: Any, hint: Hint, given: dict[str, Any] | None = None, depth: int = 0) -> Any:
        """A value that conforms to ``schema``."""
        schema = self._resolved(schema, depth)
        hint = Hint(hint.name, str(schema.get("description") or hint.description))
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("enum"):
            return self._choice(choices, hint)
        kind = _kind(schema) if depth < _DEEPEST else ""
        if kind == "object":
            return self._object(schema, given or {}, depth)
        if kind == "array":
            return self._array(schema, hint, depth)
        found = self._scalar(kind, schema, hint)
        return schema.get("default", _least(kind, schema)) if found is None else found

    def _scalar(self, kind: str, schema: Schema, hint: Hint) -> Any:
        if kind in ("integer", "number"):
            return self._number(schema, hint, whole=kind == "integer")
        if kind == "boolean":
            return self._flag(hint)
        return self._string(schema, hint) if kind == "string" else None

    def _resolved(self, given: Any, depth: int) -> Schema:
        """A schema with references followed, alternatives decided and ``allOf`` merged."""
        schema: Schema = given if isinstance(given, Mapping) else {}
        for _ in range(_DEEPEST):
            if reference := schema.get("$ref"):
                schema = {**_at(self._root, str(reference)), **{k: v for k, v in schema.items() if k != "$ref"}}
            elif options := schema.get("anyOf") or schema.get("oneOf"):
                rest = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf")}
                schema = {**rest, **self._alternative(options, depth)}
            elif parts := schema.get("allOf"):
                schema = _merged([{k: v for k, v in schema.items() if k != "allOf"}, *parts])
            else:
                break
        return schema

    def _alternative(self, options: Sequence[Any], depth: int) -> Schema:
        usable = [option for option in options if isinstance(option, Mapping)]
        # Past some depth a recursive schema has to come to an end, and its null is the end it offers.
        nullable = [option for option in usable if option.get("type") == "null"]
        if depth >= _DEEPEST // 2 and nullable:
            return nullable[0]
        return next((option for option in usable if option.get("type") != "null"), {})

    def _object(self, schema: Schema, given: dict[str, Any], depth: int) -> dict[str, Any]:
        required = [str(name) for name in schema.get("required", ())]
        properties = {str(name): part for name, part in dict(schema.get("properties") or {}).items()}
        filled: dict[str, Any] = {}
        for name, part in properties.items():
            if name in given:
                filled[name] = given[name]
            elif name in required or self._has(part, Hint(name), depth):
                filled[name] = self.value(part, Hint(name), depth=depth + 1)
        for name in required:
            filled.setdefault(name, self.value(schema.get("additionalProperties"), Hint(name), depth=depth + 1))
        return filled

    def _has(self, schema: Any, hint: Hint, depth: int) -> bool:
        """Whether the text holds a value for something that may be left out."""
        schema = self._resolved(schema, depth)
        if depth >= 3 or "default" in schema:
            return False
        described = Hint(hint.name, str(schema.get("description") or ""))
        if choices := schema.get("enum"):
            return any(_mentions(self._text, choice) for choice in choices)
        kind = _kind(schema)
        if kind in ("integer", "number"):
            return self._number(schema, described, whole=kind == "integer", sure=True) is not None
        if kind == "string":
            return self._named(described) is not None or self._formatted(schema) is not None
        return kind == "boolean" and self._speaking_of(described) is not None

    def _choice(self, choices: Sequence[Any], hint: Hint) -> Any:
        found = sorted((place, i) for i, choice in enumerate(choices) if (place := _place(self._text, choice)) >= 0)
        if found:
            mentioned = [choices[i] for _, i in found]
            after = [choice for choice in mentioned if self._follows(hint, choice)]
            # Two fields with the same choices ("from", "to") are rarely meant to hold the same one.
            fresh = [choice for choice in mentioned if str(choice) not in self._used]
            chosen = (after or fresh or mentioned)[0]
            self._used.append(str(chosen))
            return chosen
        named = self._named(hint)
        near = content_words(named or self._text) or [hint.name]
        labels = [" ".join(Hint(str(choice)).words) or str(choice) for choice in choices]
        closest = np.sort(self._filler.likeness(labels, near), axis=1)[:, -3:].mean(axis=1)
        return choices[int(np.argmax(closest))]

    def _follows(self, hint: Hint, choice: Any) -> bool:
        """Whether the text has ``choice`` after the preposition that its field is named by, as in ``to_currency``."""
        preposition = hint.name.lower().replace("-", "_").partition("_")[0]
        if preposition not in ("from", "to", "in", "into", "for"):
            return False
        return bool(re.search(rf"\b{preposition}\s+(?:\w+\s+)?{re.escape(str(choice))}\b", self._text, re.IGNORECASE))

    def _number(self, schema: Schema, hint: Hint, *, whole: bool, sure: bool = False) -> float | int | None:
        if (said := self._named(hint)) and (first := _NUMBER.search(said)):
            candidates = [(_figure(first), said, True)]
        else:
            candidates = [(_figure(match), self._around(match), False) for match in _NUMBER.finditer(self._text)]
        fitting = [(v, near, named) for v, near, named in candidates if _allowed(v, schema, whole=whole)]
        if not fitting or (sure and len(fitting) > 1 and not hint.words):
            return None
        likeness = self._filler.likeness(
            [" ".join(content_words(near)) for _, near, _ in fitting], [" ".join(hint.words)]
        )
        best = int(np.argmax(likeness[:, 0]))
        if sure and not fitting[best][2] and likeness[best, 0] < _SPEAKS_OF:
            return None
        value = fitting[best][0]
        return int(value) if whole or value.is_integer() else value

    def _around(self, match: re.Match[str]) -> str:
        before = self._text[: match.start()].split()[-_NEIGHBOURHOOD:]
        after = self._text[match.end() :].split()[:_NEIGHBOURHOOD]
        return " ".join([*before, *after])

    def _flag(self, hint: Hint) -> bool:
        speaking = self._speaking_of(hint)
        return speaking is not None and not _NEGATION.search(speaking)

    def _speaking_of(self, hint: Hint) -> str | None:
        if not self._sentences:
            return None
        likeness = self._filler.likeness([" ".join(content_words(s)) for s in self._sentences], [" ".join(hint.words)])
        best = int(np.argmax(likeness[:, 0]))
        return self._sentences[best] if likeness[best, 0] >= _SPEAKS_OF else None

    def _string(self, schema: Schema, hint: Hint) -> str | None:
        found = self._formatted(schema)
        if found is None and not schema.get("format") and not schema.get("pattern"):
            found = self._named(hint) or (self._prose(hint) if self._is_prose(schema, hint) else self._phrase(hint))
        if found is None:
            return None
        shortest, longest = int(schema.get("minLength", 0)), schema.get("maxLength")
        cut = found if longest is None else found[: int(longest)]
        self._used.append(cut)
        return cut.ljust(shortest, ".")

    def _formatted(self, schema: Schema) -> str | None:
        pattern = _FORMATS.get(str(schema.get("format")))
        if pattern is None and schema.get("pattern"):
            try:
                pattern = re.compile(str(schema["pattern"]).removeprefix("^").removesuffix("$"))
            except re.error:
                return None
        match = pattern.search(self._text) if pattern else None
        return match[0] if match else None

    def _named(self, hint: Hint) -> str | None:
        """What stands behind the name in the text, as in "city: Paris"."""
        return next((value for name, value in self._pairs if name and name == hint.own_words), None)

    def _is_prose(self, schema: Schema, hint: Hint) -> bool:
        return bool(_PROSE.intersection(hint.own_words)) or int(schema.get("minLength", 0)) > 40

    def _prose(self, hint: Hint) -> str | None:
        if not self._sentences:
            return None
        asked = {"question", "query", "prompt", "input", "message"}.intersection(hint.own_words)
        if asked:
            return " ".join(self._sentences)
        likeness = self._filler.likeness([" ".join(content_words(s)) for s in self._sentences], [" ".join(hint.words)])
        return self._sentences[int(np.argmax(likeness[:, 0]))]

    def _phrase(self, hint: Hint) -> str | None:
        """The quotation, name or word that fits best; a value already given to something else only if nothing else."""
        candidates = phrases(self._text)
        if not _FIGURES.intersection(hint.own_words):
            candidates = [phrase for phrase in candidates if not _NUMBER.fullmatch(phrase)]
        fresh = [phrase for phrase in candidates if phrase not in self._used] or candidates
        if not fresh:
            return None
        label = hint.words
        likeness = self._filler.likeness(fresh, [" ".join(label)])[:, 0]
        # "weather" is what a weather tool is about; "Paris" is what it is asked about.
        topical = np.array([bool(set(content_words(p)) & ({*label} | self._topic)) for p in fresh])
        proper = np.array([p[:1].isupper() or p[:1].isdigit() for p in fresh])
        return fresh[int(np.argmax(likeness + 0.5 * proper - 0.6 * topical))]

    def _array(self, schema: Schema, hint: Hint, depth: int) -> list[Any]:
        prefix = [self.value(part, hint, depth=depth + 1) for part in schema.get("prefixItems", ())]
        items = self._resolved(schema.get("items", {}), depth)
        if schema.get("items") is False:
            return prefix
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        found = prefix + self._several(items, hint, depth)
        unique = [item for i, item in enumerate(found) if item not in found[:i]] if schema.get("uniqueItems") else found
        while len(unique) < least:
            unique.append(self.value(items, hint, depth=depth + 1))
        return unique if most is None else unique[: int(most)]

    def _several(self, items: Schema, hint: Hint, depth: int) -> list[Any]:
        if choices := items.get("enum"):
            mentioned = [choice for choice in choices if _mentions(self._text, choice)]
            return mentioned or [self._choice(choices, hint)]
        kind = _kind(items)
        if kind in ("integer", "number"):
            values = (_figure(match) for match in _NUMBER.finditer(self._text))
            fitting = [value for value in values if _allowed(value, items, whole=kind == "integer")]
            return [int(value) if value.is_integer() else value for value in fitting]
        if kind == "string":
            said = self._named(hint)
            listed = _LIST_BREAK.split(said) if said else siblings(self._text, self._phrase(hint))
            longest = items.get("maxLength")
            return [part if longest is None else part[: int(longest)] for part in listed if part]
        return [self.value(items, hint, depth=depth + 1)]


def asked_keys(text: str) -> list[str]:
    """The keys that a prompt wants in its JSON, as in 'with the keys "name" and "age"'."""
    if not (match := _KEYS.search(text)):
        return []
    keys = (part.strip(" \t`\"'.:()[]{}") for part in _LIST_BREAK.split(match[1]))
    return [key for key in keys if re.fullmatch(r"[A-Za-z_][\w-]*", key)]


def keys_schema(keys: Sequence[str]) -> Schema:
    """A schema for an object of which only the keys are known; what is called like a quantity is a number."""
    properties = {key: {"type": "number" if _QUANTITIES.intersection(Hint(key).words) else "string"} for key in keys}
    return {"type": "object", "properties": properties, "required": list(keys)}


def phrases(text: str) -> list[str]:
    """Quotations, names and words of ``text`` that could be a value, in this order."""
    quoted = [match.strip() for match in _QUOTED.findall(text)]
    names = [name for sentence in sentences(text) for name in _names(sentence)]
    plain = [word for word in content_words(text) if word not in STOP_WORDS | _INTERROGATIVES]
    unique: dict[str, str] = {}
    for phrase in (*quoted, *names, *plain):
        unique.setdefault(phrase.lower(), phrase)
    return list(unique.values())


def _names(sentence: str) -> list[str]:
    names: list[str] = []
    for match in _NAME.finditer(sentence):
        kept = match[0].split()
        # What starts a sentence has a capital letter anyway.
        while kept and match.start() == 0 and kept[0].lower() in STOP_WORDS | _INTERROGATIVES:
            kept = kept[1:]
        is_verb = match.start() == 0 and len(match[0].split()) == 1 and not _SUBJECT.match(sentence, match.end())
        if kept and not is_verb:
            names.append(" ".join(kept))
    return names


def siblings(text: str, phrase: str | None) -> list[str]:
    """``phrase`` and what ``text`` enumerates together with it, as in "Paris, Rome and Oslo"."""
    if phrase is None:
        return []
    known = {candidate.lower(): candidate for candidate in phrases(text)}
    for sentence in sentences(text):
        parts = _LIST_BREAK.split(sentence)
        # The first and the last part carry the rest of the sentence with them.
        ends = [_edge(part, known, last=place == 0) for place, part in enumerate(parts)]
        listed = [end for end in ends if end and end[:1].isupper() == phrase[:1].isupper()]
        if phrase in listed:
            return listed
    return [phrase]


def _edge(part: str, known: Mapping[str, str], *, last: bool) -> str | None:
    tokens = part.split()
    for size in range(min(4, len(tokens)), 0, -1):
        candidate = " ".join(tokens[-size:] if last else tokens[:size]).strip(" .?!:;\"'")
        if candidate.lower() in known:
            return known[candidate.lower()]
    return None


def _kind(schema: Schema) -> str:
    kinds = schema.get("type")
    if isinstance(kinds, list):
        kinds = next((kind for kind in kinds if kind != "null"), "null")
    if isinstance(kinds, str):
        return kinds
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _at(root: Schema, reference: str) -> Schema:
    """The part of the schema that ``#/$defs/Name`` names; empty when there is none."""
    node: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            node = node.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(node, Mapping) else {}
    return node if isinstance(node, Mapping) else {}


def _merged(parts: Sequence[Any]) -> Schema:
    merged: dict[str, Any] = {}
    for part in parts:
        if not isinstance(part, Mapping):
            continue
        properties = {**merged.get("properties", {}), **part.get("properties", {})}
        required = [*merged.get("required", []), *part.get("required", [])]
        merged.update(part)
        if properties:
            merged["properties"] = properties
        if required:
            merged["required"] = required
    return merged


def _figure(match: re.Match[str]) -> float:
    return float(match[1].replace(",", "")) if match[1] else float(_WORD_NUMBERS[match[2].lower()])


def _allowed(value: float, schema: Schema, *, whole: bool) -> bool:
    if whole and not value.is_integer():
        return False
    step = schema.get("multipleOf")
    return (
        schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)
        and schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf)
        and (not step or math.isclose(value / step, round(value / step)))
    )


def _least(kind: str, schema: Schema) -> Any:
    """The least value that conforms, for what the text does not hold."""
    if kind in ("integer", "number"):
        return _least_number(schema, whole=kind == "integer")
    if kind != "string":
        return False if kind == "boolean" else None
    if schema.get("format") in _FORMAT_DEFAULTS:
        return _FORMAT_DEFAULTS[schema["format"]]
    return "." * int(schema.get("minLength", 0))


def _least_number(schema: Schema, *, whole: bool) -> float | int:
    step = schema.get("multipleOf") or 1
    candidates = [0.0]
    for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        if (bound := schema.get(name)) is not None:
            near = math.ceil(bound / step) * step
            candidates += [near, near + step, near - step, float(bound)]
            if not whole:
                candidates += [bound + 0.5, bound - 0.5]
    fitting = [value for value in candidates if _allowed(float(value), schema, whole=whole)]
    value = fitting[0] if fitting else 0.0
    return int(value) if float(value).is_integer() else value


def _mentions(text: str, choice: Any) -> bool:
    return _place(text, choice) >= 0


def _place(text: str, choice: Any) -> int:
    """Which word of ``text`` the choice starts at; -1 when the text does not have it."""
    label, said = words(str(choice)), words(text)
    if not label:
        return -1
    return next((i for i in range(len(said) - len(label) + 1) if said[i : i + len(label)] == label), -1)
