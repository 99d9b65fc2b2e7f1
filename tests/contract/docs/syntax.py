"""What the deployed code says, read from its syntax: the events that it logs, the codes of its errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.contract.docs.support import ROOT, files

_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


@dataclass(frozen=True)
class Code:
    """A code of an error, and what is called with it: a kind of error, or whatever else tells of one."""

    code: str
    made_by: str


@cache
def modules() -> tuple[ast.Module, ...]:
    """Every module of the functions and of the first-party layer; the fakes are not deployed."""
    deployed = [
        path for path in files(".py") if path.parts[0] in {"functions", "layers"} and "testing" not in path.parts
    ]
    return tuple(ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in deployed)


def logged_events() -> set[str]:
    """The events of all lines that are written; ``…`` stands for what is filled in."""
    return {event for module in modules() for call in _lines(module) for event in _texts(call.args[0], {})}


def _lines(module: ast.Module) -> Iterator[ast.Call]:
    nodes = list(ast.walk(module))
    # A level may be chosen first: ``write = _log.error if failed else _log.info``.
    chosen = {
        ast.unparse(node.targets[0])
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp) and _is_level(node.value.body)
    }
    for node in nodes:
        if isinstance(node, ast.Call) and (_is_level(node.func) or ast.unparse(node.func) in chosen):
            yield node


def _is_level(node: ast.expr) -> bool:
    loggers = {"_log", "logs.get_logger()"}
    return isinstance(node, ast.Attribute) and node.attr in _LEVELS and ast.unparse(node.value) in loggers


def error_codes() -> set[Code]:
    """Every code that an error has by its kind or is given, be it by name or by its place among the arguments."""
    return {code for module in modules() for code in (*_of_kinds(module), *_given(module))}


def _of_kinds(module: ast.Module) -> Iterator[Code]:
    for kind in (node for node in ast.walk(module) if isinstance(node, ast.ClassDef)):
        for line in kind.body:
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "default_code":
                yield from (Code(code, kind.name) for code in _texts(line.value, {}))


def _given(module: ast.Module) -> Iterator[Code]:
    constants = {
        ast.unparse(line.target): line.value
        for line in module.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.value, ast.Constant)
    }
    places = _places(module)
    for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func).rpartition(".")[2]
        given = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        given += call.args[slice(places[name], places[name] + 1) if name in places else slice(0)]
        yield from (Code(code, name) for each in given for code in _texts(each, constants))


def _places(module: ast.Module) -> dict[str, int]:
    """Function => place of its ``code`` among the arguments."""
    found = {}
    for function in (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)):
        names = [argument.arg for argument in function.args.args if argument.arg != "self"]
        if "code" in names:
            found[function.name] = names.index("code")
    return found


def _texts(expression: ast.expr, constants: dict[str, ast.Constant]) -> Iterator[str]:
    """Every text that an expression may be, ``…`` for what is filled in."""
    match expression:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Name(id=name) if name in constants:
            yield from _texts(constants[name], {})
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
        case ast.IfExp(body=one, orelse=other):
            yield from (text for each in (one, other) for text in _texts(each, constants))
        case ast.BoolOp(values=choices):
            yield from (text for each in choices for text in _texts(each, constants))
