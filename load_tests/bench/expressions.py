"""DynamoDB's condition and update expressions, compiled once and then evaluated in microseconds.

Enough of the language for a stand-in that has to decide as the table would: comparisons, ``AND OR NOT BETWEEN IN``, the
functions, nested paths, ``SET REMOVE ADD``. Values are DynamoDB's typed ones (``{"N": "5"}``) throughout.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.html
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

__all__ = ["ExpressionError", "condition", "copied", "update"]

Typed = dict[str, Any]
Item = dict[str, Typed]
Values = Mapping[str, Typed]
Path = tuple[str | int, ...]
Operand = Callable[[Item, Values], Typed | None]
Test = Callable[[Item, Values], bool]
Change = Callable[[Item, Item, Values], None]

_TOKEN: Final = re.compile(r"\s*(<>|<=|>=|[=<>(),+\-\[\].]|[:#]?[A-Za-z0-9_]+)")
_COMPARATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class ExpressionError(ValueError):
    """The table would answer with a ValidationException."""


@lru_cache(maxsize=4096)
def condition(text: str, names: tuple[tuple[str, str], ...] = ()) -> Test:
    """The test that the condition expression ``text`` is. :raises ExpressionError: it is none."""
    parser = _Parser(text, dict(names))
    test = parser.either()
    parser.end()
    return test


@lru_cache(maxsize=4096)
def update(text: str, names: tuple[tuple[str, str], ...] = ()) -> Callable[[Item, Values], Item]:
    """What the update expression ``text`` makes of an item: a new one. :raises ExpressionError: it is none."""
    changes = _Parser(text, dict(names)).changes()

    def apply(item: Item, values: Values) -> Item:
        changed: Item = copied(item)
        for change in changes:
            # Every operand is that of the item as it was.
            change(changed, item, values)
        return changed

    return apply


def copied(value: Any) -> Any:
    """A deep copy of typed values."""
    if isinstance(value, dict):
        return {name: copied(member) for name, member in value.items()}
    return [copied(member) for member in value] if isinstance(value, list) else value


class _Parser:
    def __init__(self, text: str, names: Mapping[str, str]) -> None:
        self._tokens = _TOKEN.findall(text)
        if "".join(self._tokens) != re.sub(r"\s", "", text):
            raise ExpressionError(f"not understood: {text}")
        self._names = names
        self._at = 0

    # Conditions.

    def either(self) -> Test:
        tests = [self._both()]
        while self._taken("OR"):
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else lambda item, values: any(test(item, values) for test in tests)

    def _both(self) -> Test:
        tests = [self._not()]
        while self._taken("AND"):
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda item, values: all(test(item, values) for test in tests)

    def _not(self) -> Test:
        if self._taken("NOT"):
            test = self._not()
            return lambda item, values: not test(item, values)
        if self._taken("("):
            test = self.either()
            self._expect(")")
            return test
        return self._predicate()

    def _predicate(self) -> Test:
        function = _FUNCTIONS.get(self._peek())
        if function and self._peek(1) == "(":
            self._next()
            return function(*self._arguments())
        left = self._operand()
        if self._taken("BETWEEN"):
            low = self._operand()
            self._expect("AND")
            high = self._operand()
            return lambda item, values: (
                _compare("<=", low, left)(item, values) and _compare("<=", left, high)(item, values)
            )
        if self._taken("IN"):
            choices = [_compare("=", left, choice) for choice in self._arguments()]
            return lambda item, values: any(test(item, values) for test in choices)
        sign = self._next()
        if sign not in _COMPARATORS:
            raise ExpressionError(f"no comparison: {sign}")
        return _compare(sign, left, self._operand())

    def _arguments(self) -> list[Operand]:
        self._expect("(")
        arguments = [self._operand()]
        while self._taken(","):
            arguments.append(self._operand())
        self._expect(")")
        return arguments

    # Operands.

    def _operand(self) -> Operand:
        if self._peek(1) == "(" and self._peek() in ("size", "if_not_exists", "list_append"):
            return _OPERATIONS[self._next()](*self._arguments())
        if self._peek().startswith(":"):
            name = self._next()
            return lambda _item, values: values[name]
        path = self._path()
        return lambda item, _values: _find(item, path)

    def _path(self) -> Path:
        path: list[str | int] = [self._name()]
        while True:
            if self._taken("."):
                path.append(self._name())
            elif self._taken("["):
                path.append(int(self._next()))
                self._expect("]")
            else:
                return tuple(path)

    def _name(self) -> str:
        name = self._next()
        if not name.startswith("#"):
            return name
        if name not in self._names:
            raise ExpressionError(f"undefined name: {name}")
        return self._names[name]

    # Updates.

    def changes(self) -> list[Change]:
        found: list[Change] = []
        clauses = {"SET": self._set, "REMOVE": self._remove, "ADD": self._add}
        while self._at < len(self._tokens):
            word = self._next().upper()
            if word not in clauses:
                raise ExpressionError(f"no clause: {word}")
            found.append(clauses[word]())
            while self._taken(","):
                found.append(clauses[word]())
        return found

    def _set(self) -> Change:
        path = self._path()
        self._expect("=")
        value = self._sum()

        def change(item: Item, before: Item, values: Values) -> None:
            new = value(before, values)
            if new is None:
                raise ExpressionError("The provided expression refers to an attribute that does not exist in the item")
            _put(item, path, new)

        return change

    def _sum(self) -> Operand:
        left = self._operand()
        sign = self._peek()
        if sign not in ("+", "-"):
            return left
        self._next()
        right = self._operand()

        def total(item: Item, values: Values) -> Typed:
            one, other = left(item, values), right(item, values)
            if one is None or other is None:
                raise ExpressionError("The provided expression refers to an attribute that does not exist in the item")
            first, second = Decimal(one["N"]), Decimal(other["N"])
            return {"N": str(first + second if sign == "+" else first - second)}

        return total

    def _remove(self) -> Change:
        path = self._path()
        return lambda item, _before, _values: _drop(item, path)

    def _add(self) -> Change:
        path = self._path()
        value = self._operand()

        def change(item: Item, before: Item, values: Values) -> None:
            given, known = value(before, values), _find(before, path)
            if given is None or "N" not in given:
                raise ExpressionError("ADD takes numbers only, here")
            _put(item, path, {"N": str(Decimal(given["N"]) + Decimal(known["N"] if known else 0))})

        return change

    # Tokens.

    def _peek(self, ahead: int = 0) -> str:
        place = self._at + ahead
        return str(self._tokens[place]) if place < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise ExpressionError("the expression ends too early")
        self._at += 1
        return token

    def _taken(self, word: str) -> bool:
        if self._peek().upper() != word:
            return False
        self._at += 1
        return True

    def _expect(self, word: str) -> None:
        if not self._taken(word):
            raise ExpressionError(f"{word} is missing before '{self._peek()}'")

    def end(self) -> None:
        """:raises ExpressionError: something is left."""
        if self._peek():
            raise ExpressionError(f"too much: {self._peek()}")


def _plain(value: Typed) -> Any:
    [(kind, content)] = value.items()
    return Decimal(content) if kind == "N" else content


def _compare(sign: str, left: Operand, right: Operand) -> Test:
    decide = _COMPARATORS[sign]

    def test(item: Item, values: Values) -> bool:
        one, other = left(item, values), right(item, values)
        if one is None or other is None:
            return False
        if one.keys() != other.keys():
            return sign == "<>"
        return decide(_plain(one), _plain(other))

    return test


def _exists(path: Operand) -> Test:
    return lambda item, values: path(item, values) is not None


def _absent(path: Operand) -> Test:
    return lambda item, values: path(item, values) is None


def _begins(path: Operand, prefix: Operand) -> Test:
    return lambda item, values: str(_content(path, item, values, "")).startswith(
        str(_content(prefix, item, values, ""))
    )


def _contains(path: Operand, part: Operand) -> Test:
    def test(item: Item, values: Values) -> bool:
        whole, wanted = path(item, values), part(item, values)
        if whole is None or wanted is None:
            return False
        [(kind, content)] = whole.items()
        return wanted in content if kind == "L" else _plain(wanted) in content

    return test


def _has_type(path: Operand, kind: Operand) -> Test:
    return lambda item, values: _content(kind, item, values, "") in (path(item, values) or ())


def _content(operand: Operand, item: Item, values: Values, default: object) -> object:
    found = operand(item, values)
    return default if found is None else next(iter(found.values()))


def _size(path: Operand) -> Operand:
    def size(item: Item, values: Values) -> Typed | None:
        found = path(item, values)
        if found is None:
            return None
        content = next(iter(found.values()))
        return {"N": str(len(content.encode() if isinstance(content, str) else content))}

    return size


def _if_not_exists(path: Operand, default: Operand) -> Operand:
    def either(item: Item, values: Values) -> Typed | None:
        found = path(item, values)
        return default(item, values) if found is None else found

    return either


def _list_append(first: Operand, second: Operand) -> Operand:
    def both(item: Item, values: Values) -> Typed | None:
        one, other = first(item, values), second(item, values)
        return {"L": [*one["L"], *other["L"]]} if one and other else None

    return both


_FUNCTIONS: Final[Mapping[str, Callable[..., Test]]] = {
    "attribute_exists": _exists,
    "attribute_not_exists": _absent,
    "attribute_type": _has_type,
    "begins_with": _begins,
    "contains": _contains,
}
_OPERATIONS: Final[Mapping[str, Callable[..., Operand]]] = {
    "size": _size,
    "if_not_exists": _if_not_exists,
    "list_append": _list_append,
}


def _find(item: Item, path: Path) -> Typed | None:
    node: Any = item.get(str(path[0]))
    for step in path[1:]:
        if node is None:
            return None
        node = node.get("M", {}).get(step) if isinstance(step, str) else _element(node, step)
    found: Typed | None = node
    return found


def _element(node: Typed, index: int) -> Any:
    elements = node.get("L", [])
    return elements[index] if index < len(elements) else None


def _parent(item: Item, path: Path) -> Any:
    if len(path) == 1:
        return item
    parent = _find(item, path[:-1])
    kind = "M" if isinstance(path[-1], str) else "L"
    if parent is None or kind not in parent:
        raise ExpressionError("The document path provided in the update expression is invalid for update")
    return parent[kind]


def _put(item: Item, path: Path, value: Typed) -> None:
    parent = _parent(item, path)
    if isinstance(parent, list) and int(path[-1]) >= len(parent):
        parent.append(copied(value))
    else:
        parent[path[-1]] = copied(value)


def _drop(item: Item, path: Path) -> None:
    parent = _parent(item, path)
    if isinstance(parent, list):
        if int(path[-1]) < len(parent):
            parent.pop(int(path[-1]))
    else:
        parent.pop(path[-1], None)
