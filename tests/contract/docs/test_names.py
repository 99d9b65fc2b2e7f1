"""What the documents name exists: make targets, environment variables, files."""

from __future__ import annotations

import re

import pytest

from tests.contract.docs.support import ROOT, Document, documents, sources

TARGET = re.compile(r"(?:^|&& |; |\| )make(?: [A-Z]+=\S+)* ([a-z][a-z0-9-]*)")
# With an underscore: one upper-case word alone is more often an HTTP method or a SQL keyword than a variable.
VARIABLE = re.compile(r"(?<![\w#-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![\w#-])")
FOLDERS = "functions|layers|infra|local|tests|docs|diagrams|load_tests|requirements|\\.github|\\.ci"
PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w/?")


def targets() -> set[str]:
    """The targets that the Makefile defines."""
    return set(re.findall(r"^([a-z][a-z0-9-]*):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("source", documents(), ids=str)
def test_make_targets_exist(source: Document) -> None:
    named = {target for code in source.code() for target in TARGET.findall(code.strip())}
    assert named <= targets()


@pytest.mark.parametrize("source", documents(), ids=str)
def test_environment_variables_exist(source: Document) -> None:
    named = {name for code in source.code() for name in VARIABLE.findall(code)}
    assert {name for name in named if not re.search(rf"\b{name}\b", sources())} == set()


@pytest.mark.parametrize("source", documents(), ids=str)
def test_named_files_exist(source: Document) -> None:
    """Paths from the repository's root; those with a placeholder or a pattern in them are not looked up."""
    spans = [code for code in source.code() if not re.search(r"[<>*{}$…]", code)]
    named = {path for code in spans for path in PATH.findall(code)}
    missing = {path for path in named if not (ROOT / path).exists()}
    # A dotted name such as functions.health is no path; a module's own README speaks of its own folder.
    assert {path for path in missing if not (ROOT / source.path.parent / path).exists()} == set()
