"""Nothing at all: what the interpreter and the runtime's own client cost."""

from typing import Any


def handler(_event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer."""
    return {"statusCode": 200, "body": "{}"}
