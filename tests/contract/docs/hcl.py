"""Just enough reading of Terraform's language for these tests: named blocks, quoted lists, references.

It holds because `terraform fmt` decides the layout; a real parser is not worth a dependency here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    """One statement of a policy document: actions, and resources as they are written."""

    actions: tuple[str, ...]
    resources: str
    leading_keys: tuple[str, ...]


def blocks(text: str, header: str) -> Iterator[tuple[re.Match[str], str]]:
    """Each place where ``header`` matches up to an opening brace or parenthesis, with what is inside the pair."""
    for found in re.finditer(header, text, re.MULTILINE):
        yield found, _inside(text, found.end() - 1)


def block(text: str, header: str) -> str:
    """The inside of the first block whose header matches. Raises LookupError when there is none."""
    for _, body in blocks(text, header):
        return body
    raise LookupError(header)


def strings(text: str, name: str) -> tuple[str, ...]:
    """The quoted strings of ``name = [...]`` (on one line or several)."""
    found = re.search(rf"^\s*{name}\s*=\s*\[(.*?)\]\s*$", re.sub(r"#.*", "", text), re.MULTILINE | re.DOTALL)
    return tuple(re.findall(r'"([^"]+)"', found[1])) if found else ()


def policy_documents(text: str) -> dict[str, tuple[Statement, ...]]:
    """Every ``aws_iam_policy_document`` by name."""
    return {
        found[1]: tuple(_statement(body) for _, body in blocks(document, r"^\s*statement \{"))
        for found, document in blocks(text, r'^data "aws_iam_policy_document" "(\w+)" \{')
    }


def policies_of(body: str) -> dict[str, str]:
    """Policy name => name of its document, in what is given to a function as ``policies``."""
    return dict(re.findall(r"([a-z][a-z-]*)\s*=\s*data\.aws_iam_policy_document\.(\w+)\.json", body))


def _statement(body: str) -> Statement:
    resources = re.search(r"^\s*resources\s*=\s*(.+)$", body, re.MULTILINE)
    condition = re.search(r'variable = "dynamodb:LeadingKeys"\s*values\s*=\s*\[(.*?)\]', body, re.DOTALL)
    keys = tuple(re.findall(r'"([^"]+)"', condition[1])) if condition else ()
    return Statement(strings(body, "actions"), resources[1] if resources else "", keys)


def _inside(text: str, start: int) -> str:
    depth = 0
    for position in range(start, len(text)):
        depth += {"{": 1, "(": 1, "}": -1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + 1 : position]
    raise LookupError(f"never closed: {text[start : start + 40]!r}")
