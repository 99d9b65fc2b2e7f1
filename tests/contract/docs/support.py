"""The repository's documents and sources, as the tests here read them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# Made by tools, downloaded, or not ours to describe.
_SKIPPED = {".git", ".local", ".terraform", ".venv", "build", "node_modules"}
_SOURCES = (".asl.json", ".hcl", ".in", ".json", ".py", ".tf", ".tfvars", ".toml", ".yml", "Makefile")

_FENCE = re.compile(
    # Indented inside a list.
    r"^(?P<fence> *```+)(?P<language>[^\n`]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Document:
    """One Markdown file; ``path`` is relative to the repository."""

    path: Path

    def __str__(self) -> str:
        return self.path.as_posix()

    @property
    def text(self) -> str:
        """The whole file."""
        return (ROOT / self.path).read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The file without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str = "") -> list[str]:
        """The bodies of the fenced blocks, all of them or those of one language."""
        found = _FENCE.finditer(self.text)
        return [block["body"] for block in found if not language or block["language"].strip() == language]

    def code(self) -> list[str]:
        """Every code span, and every line of every fenced block."""
        return [*_SPAN.findall(self.prose), *(line for block in self.blocks() for line in block.splitlines())]

    def tables(self) -> list[list[str]]:
        """The rows of every table as stripped cells, header and rule left out."""
        rows: list[list[str]] = []
        lines = self.prose.splitlines()
        for number, line in enumerate(lines):
            is_rule = bool(re.fullmatch(r"\|[\s:|-]+\|", line.strip()))
            is_header = number + 1 < len(lines) and bool(re.fullmatch(r"\|[\s:|-]+\|", lines[number + 1].strip()))
            # Indented inside a list.
            if line.lstrip().startswith("|") and not is_rule and not is_header:
                rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        return rows


def files(*suffixes: str) -> list[Path]:
    """The repository's own files with one of the endings, relative to it, sorted."""
    found: list[Path] = []
    for parent, folders, names in os.walk(ROOT):
        # Not even entered: running platforms come and go in there.
        folders[:] = [folder for folder in folders if folder not in _SKIPPED]
        found.extend(Path(parent, name).relative_to(ROOT) for name in names if name.endswith(suffixes))
    return sorted(found)


def documents() -> list[Document]:
    """Every Markdown file of the repository."""
    return [Document(path) for path in files(".md")]


def document(path: str) -> Document:
    """The Markdown file at a path relative to the repository."""
    return Document(Path(path))


@cache
def sources() -> str:
    """Everything that is code or configuration, as one text to search in. The tests of the documents are left out."""
    own = Path(__file__).parent.relative_to(ROOT)
    return "\n".join((ROOT / path).read_text(encoding="utf-8") for path in files(*_SOURCES) if own not in path.parents)


def functions() -> list[str]:
    """The folders of ``functions/``: one Lambda each."""
    return sorted(path.parent.name for path in (ROOT / "functions").glob("*/handler.py"))


def terraform() -> str:
    """The Terraform root as one text."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "infra").glob("*.tf")))
