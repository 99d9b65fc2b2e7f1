"""The model catalogue in OpenAI's format: https://platform.openai.com/docs/api-reference/models."""

from typing import Literal

import msgspec


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """One model. ``created`` is epoch seconds."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``GET /models``."""

    object: Literal["list"] = "list"
    data: list[ModelObject]
