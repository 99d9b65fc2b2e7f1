"""The requirement files: locked, complete, consistent, and silent about where packages come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

LAYERS = [
    ROOT / "layers" / name for name in ("dependencies/requirements", "embeddings/requirements", "embeddings/weights")
]
NAMES = ("local", "dev", "ministack", "checkov", "openai-suite", "bench", "litellm")
INPUTS = [*LAYERS, *(ROOT / "requirements" / name for name in NAMES)]
_PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)")


def locked(file: Path) -> dict[str, str]:
    """Name => version of a lock file."""
    found = (_PIN.match(line) for line in file.with_suffix(".txt").read_text().splitlines())
    return {match["name"]: match["version"] for match in found if match}


def asked_for(file: Path) -> set[str]:
    """Names in an input file itself."""
    lines = (line.split("#")[0].strip() for line in file.with_suffix(".in").read_text().splitlines())
    return {re.split(r"[\[~=<>; ]", line)[0] for line in lines if line and not line.startswith("-")}


@pytest.mark.parametrize("file", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_requirement_is_pinned_with_hashes(file: Path) -> None:
    text = file.with_suffix(".txt").read_text()
    blocks = re.split(r"\n(?=[a-z0-9])", text.split("\n", 2)[2].replace("\\\n", ""))
    assert len(blocks) == len(locked(file)) >= len(asked_for(file)) > 0
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("file", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_no_file_says_where_packages_come_from(file: Path) -> None:
    for suffix in (".in", ".txt"):
        text = file.with_suffix(suffix).read_text()
        assert not re.search(r"://|--(index|extra|find|trusted|no-index)|^\s*/|file:", text, re.MULTILINE)


@pytest.mark.parametrize("file", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_is_asked_for_is_locked(file: Path) -> None:
    assert asked_for(file) <= set(locked(file))


@pytest.mark.parametrize("name", ["local", "dev"])
@pytest.mark.parametrize("file", LAYERS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_functions_are_developed_with_the_versions_they_are_deployed_with(name: str, file: Path) -> None:
    layer, developed = locked(file), locked(ROOT / "requirements" / name)
    assert {package: developed.get(package) for package in layer} == layer


def test_the_development_tools_are_added_to_what_the_platform_runs_with() -> None:
    local, dev = locked(ROOT / "requirements" / "local"), locked(ROOT / "requirements" / "dev")
    assert {package: dev.get(package) for package in local} == local
