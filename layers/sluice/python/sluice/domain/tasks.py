"""Requests apart from the connection they came by: what asynchronous requests and the lines of batches have in common.

A task is what a sync route would have been asked, parsed and checked; its answer is what the route would have answered.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from sluice.domain.classification import ClassificationRequest
from sluice.domain.inference import ChatRequest, EmbeddingRequest, Operation, Usage
from sluice.domain.scoring import ScoreRequest

TaskRequest = ChatRequest | EmbeddingRequest | ClassificationRequest | ScoreRequest


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One request to ``endpoint`` (a path of the API, ``/v1/embeddings``).

    ``asked`` is the body as its endpoint understands it, which only that endpoint looks into.
    """

    endpoint: str
    operation: Operation
    request: TaskRequest
    asked: Any

    @property
    def model(self) -> str:
        """The alias or target that was asked for."""
        return self.request.model


class TaskAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the sync route would have answered. ``body`` is JSON; ``cost_micro_usd`` of ``None`` means unknown.

    ``target`` is the name of the route target that answered; ``headers`` are the ``x-sluice-`` ones. Where numbers are
    wanted and no document, ``body`` is empty, ``vectors`` has one for each input, and ``tokens_by_input`` how many
    tokens each had, where the provider says so.
    """

    status_code: int
    body: bytes
    target: str
    usage: Usage
    cost_micro_usd: Decimal | None
    headers: Mapping[str, str] = {}
    vectors: tuple[tuple[float, ...], ...] = ()
    tokens_by_input: tuple[int, ...] = ()
