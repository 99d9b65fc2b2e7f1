"""Every link inside the repository leads somewhere."""

from __future__ import annotations

import re

import pytest

from tests.contract.docs.support import ROOT, Document, document, documents

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:")


def anchors(target: Document) -> set[str]:
    """The anchors of a document's headings, made as GitHub makes them."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", target.prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(source: Document) -> list[str]:
    # What looks like a link inside a code span is code.
    text = re.sub(r"`[^`\n]+`", "code", source.prose)
    return [link for link in LINK.findall(text) if not EXTERNAL.match(link)]


@pytest.mark.parametrize("source", documents(), ids=str)
def test_relative_links_resolve(source: Document) -> None:
    broken = []
    for link in links(source):
        path, _, anchor = link.partition("#")
        target = (ROOT / source.path.parent / path).resolve() if path else ROOT / source.path
        if (
            not target.exists()
            or not target.is_relative_to(ROOT)
            or (anchor and anchor not in anchors(document(target.relative_to(ROOT).as_posix())))
        ):
            broken.append(link)
    assert not broken


def test_every_decision_is_listed() -> None:
    records = {path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md")}
    assert records == {link for link in links(document("docs/adr/README.md")) if link[0].isdigit()}


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs/adr").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_document_can_be_reached_from_the_readme() -> None:
    seen: set[str] = set()
    queue = ["README.md"]
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        for link in links(document(path)):
            target = (ROOT / document(path).path.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file():
                queue.append(target.relative_to(ROOT).as_posix())
    docs = {str(each) for each in documents() if each.path.parts[0] == "docs"}
    assert docs <= seen
