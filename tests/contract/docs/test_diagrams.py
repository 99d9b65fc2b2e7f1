"""The diagrams are sources that render, are shown where the text says so, and name what is really there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.docs.support import ROOT, document, files, functions

DIAGRAMS = files(".mmd")
HEADERS = r"flowchart (TB|TD|LR|RL|BT)|sequenceDiagram|stateDiagram-v2"
PAIRS = {"]": "[", ")": "(", "}": "{"}
OPENING = {
    "flowchart": r"subgraph\b",
    "sequenceDiagram": r"(?:alt|opt|loop|par|critical|break|rect)\b",
    "stateDiagram-v2": r"note (?:left|right) of [^:]*$",
}
CLOSING = {"flowchart": "end", "sequenceDiagram": "end", "stateDiagram-v2": "end note"}


def read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def outside_quotes(text: str) -> str:
    return re.sub(r'"[^"]*"', "", text)


def test_there_are_diagrams() -> None:
    names = {path.stem for path in DIAGRAMS}
    assert names >= {"architecture", "sync", "batch", "workflow", "events", "deployment"}


@pytest.mark.parametrize("path", DIAGRAMS, ids=str)
def test_starts_with_a_known_kind(path: Path) -> None:
    assert re.fullmatch(HEADERS, read(path).splitlines()[0])


@pytest.mark.parametrize("path", DIAGRAMS, ids=str)
def test_blocks_are_closed(path: Path) -> None:
    lines = [line.strip() for line in read(path).splitlines()]
    kind = lines[0].split()[0]
    opened = [line for line in lines if re.match(OPENING[kind], line)]
    assert len(opened) == lines.count(CLOSING[kind])


@pytest.mark.parametrize("path", DIAGRAMS, ids=str)
def test_quotes_and_brackets_are_balanced(path: Path) -> None:
    text = read(path)
    # An asynchronous arrow of a sequence ends in a bracket that nothing opened, a link of a flow may hold an angle.
    if text.startswith("sequenceDiagram"):
        text = text.replace("-)", "")
    assert text.count('"') % 2 == 0
    stack: list[str] = []
    for character in outside_quotes(text):
        if character in PAIRS.values():
            stack.append(character)
        elif character in PAIRS:
            assert stack, f"nothing opened this {character}"
            assert stack.pop() == PAIRS[character]
    assert not stack


@pytest.mark.parametrize("path", DIAGRAMS, ids=str)
def test_is_shown_in_the_architecture(path: Path) -> None:
    assert f"(../{path.as_posix()})" in document("docs/architecture.md").text


def test_the_readme_shows_the_architecture_as_it_is() -> None:
    assert document("README.md").blocks("mermaid") == [read(Path("diagrams/architecture.mmd"))]


def test_the_architecture_shows_every_function_and_no_other() -> None:
    text = read(Path("diagrams/architecture.mmd"))
    shown = set(re.findall(r'\b([a-z_]+)\["\1"\]', text))
    assert shown == set(functions())


def test_the_events_show_what_is_published() -> None:
    filters = read(Path("infra/shared.tf")).partition("published_changes = [")[2].partition("\n  ]")[0]
    published = set(re.findall(r'prefix = "([A-Z]+)#"', filters))
    assert published
    text = read(Path("diagrams/events.mmd"))
    assert set(re.findall(r"\b([A-Z]+)#35;", text)) == published
    assert set(re.findall(r"\b[A-Z]{3,}\b", text.partition("stream, filtered:")[2].partition("\n")[0])) == published


def test_the_workflow_shows_every_way_through_the_machine() -> None:
    text = read(Path("diagrams/workflow.mmd"))
    shown = set(re.findall(r"^ +(\[\*\]|\w+) --> (\[\*\]|\w+)", text, re.MULTILINE))
    machine = json.loads(re.sub(r"\$\{\w+\}", "x", read(Path("infra/state_machines/chain.asl.json"))))
    assert shown == {("[*]", machine["StartAt"]), *ways(machine["States"])}


def ways(states: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Every transition; the two kinds of end lead to the end."""
    for name, state in states.items():
        if state["Type"] in {"Succeed", "Fail"} or state.get("End"):
            yield name, "[*]"
        if "Default" in state:
            yield name, state["Default"]
        for way in [state, *state.get("Choices", []), *state.get("Catch", [])]:
            if "Next" in way:
                yield name, way["Next"]
