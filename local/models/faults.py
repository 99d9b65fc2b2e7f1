"""Faults that tests ask for: what can go wrong, with which model, how often.

===========  =======================================================================================
kind         what a caller sees
===========  =======================================================================================
throttle     the protocol's throttling error; ``retry_after`` seconds in its header
error        the protocol's error for ``status`` (default 500)
hang         no answer at all; after ``seconds`` (default 60) the connection is closed
latency      the usual answer, ``seconds`` late
cut          the connection closed: ``at`` "start" (no byte of an answer), "headers" (status and headers,
             no body) or "body" (half of it)
cut_stream   a stream that ends without its end after ``after_tokens`` tokens (default 1)
prose        plain text where JSON was asked for
garbage      status 200 and a broken body: malformed JSON, or one damaged frame in a stream
===========  =======================================================================================

``share`` makes any of them strike only that share of the calls, at random.
``throttle`` and ``error`` with ``after_tokens`` strike in mid-stream, as an error event of the protocol.
``cut_stream`` leaves calls that do not stream alone, and they do not use it up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

ProtocolName = Literal["bedrock", "sagemaker", "openai"]
Kind = Literal["throttle", "error", "hang", "latency", "cut", "cut_stream", "garbage", "prose"]

LONGEST_S = 600.0
_DEFAULT_HANG_S = 60.0

# Fields a kind understands besides ``times``, ``share`` and ``protocol``: a misspelt test should fail, not pass.
_UNDERSTOOD: dict[Kind, frozenset[str]] = {
    "throttle": frozenset({"status", "retry_after", "after_tokens"}),
    "error": frozenset({"status", "retry_after", "after_tokens"}),
    "hang": frozenset({"seconds"}),
    "latency": frozenset({"seconds"}),
    "cut": frozenset({"at"}),
    "cut_stream": frozenset({"after_tokens"}),
    "garbage": frozenset(),
    "prose": frozenset(),
}


class FaultSpecError(ValueError):
    """Raised when a fault cannot be set as asked; the message says what is wrong."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fault as asked for over HTTP.

    ``retry_after`` and ``seconds`` are seconds; ``times`` is how many calls it strikes (``None``: every
    call until it is deleted), ``share`` the probability that it strikes a call (``None``: 1); ``protocol``
    narrows it to one protocol.
    """

    kind: Kind
    status: int | None = None
    retry_after: float | None = None
    seconds: float | None = None
    after_tokens: int | None = None
    at: Literal["start", "headers", "body"] | None = None
    times: int | None = None
    share: float | None = None
    protocol: ProtocolName | None = None

    @property
    def pause_s(self) -> float:
        """How long a ``hang`` or ``latency`` lasts."""
        return _DEFAULT_HANG_S if self.seconds is None else self.seconds


def parse(body: bytes) -> Fault:
    """Read a fault.

    Raises:
        FaultSpecError: malformed JSON, an unknown field or kind, a value out of range, or a field that
            the kind does not understand.
    """
    try:
        fault = msgspec.json.decode(body, type=Fault)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as malformed:
        raise FaultSpecError(f"not a fault: {malformed}") from malformed
    given = {name for name in fault.__struct_fields__ if getattr(fault, name) is not None}
    if strange := given - _UNDERSTOOD[fault.kind] - {"kind", "times", "share", "protocol"}:
        raise FaultSpecError(f"{', '.join(sorted(strange))}: not understood by kind {fault.kind!r}")
    if fault.kind == "latency" and fault.seconds is None:
        raise FaultSpecError("seconds: required by kind 'latency'")
    for name, (fits, meaning) in _RANGES.items():
        value = getattr(fault, name)
        if value is not None and not fits(value):
            raise FaultSpecError(f"{name}: must be {meaning}, not {value}")
    return fault


_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "status": (lambda value: 400 <= value <= 599, "an error status from 400 to 599"),
    "retry_after": (lambda value: 0 <= value <= LONGEST_S, f"between 0 and {LONGEST_S:.0f} seconds"),
    "seconds": (lambda value: 0 <= value <= LONGEST_S, f"between 0 and {LONGEST_S:.0f} seconds"),
    "after_tokens": (lambda value: value >= 0, "0 or more"),
    "times": (lambda value: value >= 1, "1 or more"),
    "share": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
}


@dataclass
class _Armed:
    fault: Fault
    struck: int = 0

    @property
    def spent(self) -> bool:
        return self.fault.times is not None and self.struck >= self.fault.times


class FaultBook:
    """The faults now set: one per model and protocol, and one per model for all protocols.

    Only used from the event loop, so nothing here is locked.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._armed: dict[tuple[str, ProtocolName | None], _Armed] = {}
        self._random = chance

    def set(self, model: str, fault: Fault) -> None:
        """Set ``fault``; it replaces the one of the same model and protocol."""
        self._armed[model, fault.protocol] = _Armed(fault)

    def take(self, model: str, protocol: ProtocolName, *, streaming: bool) -> Fault | None:
        """The fault that strikes this call, if any; one for this protocol comes before one for all."""
        for key in ((model, protocol), (model, None)):
            armed = self._armed.get(key)
            if armed is None or (armed.fault.kind == "cut_stream" and not streaming):
                continue
            share = armed.fault.share
            if share is not None and self._random() >= share:
                continue
            armed.struck += 1
            if armed.spent:
                del self._armed[key]
            return armed.fault
        return None

    def clear(self, model: str | None = None) -> int:
        """Delete the faults of ``model``, or all of them; returns how many there were."""
        doomed = [key for key in self._armed if model is None or key[0] == model]
        for key in doomed:
            del self._armed[key]
        return len(doomed)

    def active(self) -> list[dict[str, Any]]:
        """Every fault that still strikes, with ``struck``: the calls it has had."""
        return [
            {"model": model, **msgspec.to_builtins(armed.fault), "struck": armed.struck}
            for (model, _), armed in sorted(self._armed.items(), key=lambda item: str(item[0]))
        ]
