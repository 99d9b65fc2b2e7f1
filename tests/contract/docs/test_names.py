"""What the documents name exists: make targets, environment variables, files. What they list they list whole."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from load_tests.profiles import PROFILES
from local.models.faults import Kind
from tests.contract.docs.support import ROOT, Document, document, documents, sources

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


def test_the_verbs_of_the_local_platform_are_listed() -> None:
    code = "".join((ROOT / f"local/{module}.py").read_text(encoding="utf-8") for module in ("cli", "governance"))
    verbs = re.findall(r'\badd\("([a-z-]+)", _', code)
    assert "up" in verbs
    rows = [row for row in document("local/README.md").tables() if len(row) == 3 and row[2][:1].isdigit()]
    assert sorted(re.findall(r"[a-z-]+", row[0])[0] for row in rows) == sorted(verbs)


def test_the_profiles_of_load_are_listed() -> None:
    listed = [row[0].strip("`") for row in document("load_tests/README.md").tables() if len(row) == 4]
    assert listed == list(PROFILES)
    found = re.search(
        r"^load: .*PROFILE=([\w, ]+?),? ARGS", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert found
    assert re.split(r", | or ", found[1]) == list(PROFILES)


def test_the_faults_are_listed() -> None:
    kinds = get_args(Kind)
    listed = re.search(r"^Kinds: (.+?);", document("docs/testing.md").text, re.MULTILINE)
    assert listed
    assert set(re.findall(r"`(\w+)`", listed[1])) == set(kinds)
    rows = document("local/models/README.md").tables()
    assert set(kinds) <= {row[0].strip("`") for row in rows}
