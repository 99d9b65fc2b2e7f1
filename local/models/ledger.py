"""How often each model was called: what a test asks to know whether a provider was really called."""

from __future__ import annotations

from collections import Counter
from typing import Any

from local.models.faults import ProtocolName


class Ledger:
    """Counts calls that named a known model (and, for OpenAI, carried the key), faulted or refused ones too."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[str, ProtocolName, str]] = Counter()

    def add(self, model: str, protocol: ProtocolName, operation: str) -> None:
        """Count one call."""
        self._calls[model, protocol, operation] += 1

    def report(self, model: str | None = None) -> dict[str, Any]:
        """``{"total", "requests": [{"model", "protocol", "operation", "count"}]}``, for one model if named."""
        rows = [
            {"model": name, "protocol": protocol, "operation": operation, "count": count}
            for (name, protocol, operation), count in sorted(self._calls.items())
            if model in {None, name}
        ]
        return {
            "total": sum(count for (name, *_), count in self._calls.items() if model in {None, name}),
            "requests": rows,
        }

    def reset(self) -> None:
        """Forget every call."""
        self._calls.clear()
