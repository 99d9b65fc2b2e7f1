"""How much one answer may be: the deployment's limit, and each target's own.

A caller who names a number gets that number or is refused: an answer cut short of what was asked for would look like
the model's doing. One who names none gets as much as the target and the deployment allow, and no answer is unbounded.
"""

from collections.abc import Sequence

import msgspec

from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import ChatRequest
from sluice.domain.routing import Target

PARAM = "max_tokens"


def check_output(request: ChatRequest, *, most: int | None) -> None:
    """Hold the request to the deployment's limit. :raises InvalidRequestError: it asks for more."""
    if most is not None and request.max_tokens is not None and request.max_tokens > most:
        raise _too_many(most)


def generous(targets: Sequence[Target], *, max_tokens: int | None) -> tuple[Target, ...]:
    """The targets that can write as much as is asked for. :raises InvalidRequestError: none can."""
    found = tuple(target for target in targets if max_tokens is None or _room(target) >= max_tokens)
    if found:
        return found
    raise _too_many(int(max(map(_room, targets))))


def bounded(request: ChatRequest, target: Target, *, most: int | None) -> ChatRequest:
    """The request as ``target`` is sent it: always with a limit, where there is any to set."""
    limits = [limit for limit in (most, target.max_output_tokens) if limit is not None]
    if request.max_tokens is not None or not limits:
        return request
    return msgspec.structs.replace(request, max_tokens=min(limits))


def _room(target: Target) -> float:
    return float("inf") if target.max_output_tokens is None else target.max_output_tokens


def _too_many(most: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"An answer may have at most {most} tokens here: ask for no more.", code="max_tokens_too_large", param=PARAM
    )
