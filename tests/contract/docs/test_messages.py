"""docs/troubleshooting.md explains every error that the local platform and the packaging can end with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.docs.support import ROOT, document, files

ERRORS = {"LocalError", "PackagingError"}
# What the shell part says before there is a Python to say it.
SETUP = ROOT / "local/setup.sh"


def template(message: ast.expr) -> str | None:
    """The text of a message with ``…`` for what is filled in; ``None`` when it is put together elsewhere."""
    if isinstance(message, ast.Constant):
        return str(message.value)
    if isinstance(message, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in message.values)
    return None


def messages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
            text = template(node.args[0])
            # One that says nothing itself cannot be looked up.
            if text and re.search(r"\w{3,}", text):
                yield text


def all_messages() -> list[str]:
    folders = ("local", "infra/packaging")
    paths = [path for path in files(".py") if path.as_posix().startswith(folders)]
    return sorted({message for path in paths for message in messages(path)})


def explained() -> str:
    return "\n".join(document("docs/troubleshooting.md").code())


@pytest.mark.parametrize("message", all_messages())
def test_is_explained(message: str) -> None:
    # A backtick cannot stand in a code span.
    assert message.replace("`", "'") in explained()


def setup_messages() -> list[str]:
    """The longest literal piece of each message's first sentence."""
    sentences = [
        message.split(". ")[0] for message in re.findall(r'problem "([^"]+)"', SETUP.read_text(encoding="utf-8"))
    ]
    return sorted({max(re.split(r"\$\{[^}]*\}|\$\w+", sentence), key=len).strip(" ,.;") for sentence in sentences})


@pytest.mark.parametrize("message", setup_messages())
def test_of_the_setup_is_explained(message: str) -> None:
    assert message in explained()
