"""API keys as administrators see them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sluice.domain.keys import ApiKey

# No comma: the authorizer hands the list on as one comma-separated string.
AllowedModel = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$")]
Scope = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9._:-]{0,63}$")]


class AdminKeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /admin/keys``.

    Without ``allowed_models`` the key may use every model, without ``expires_at`` (epoch seconds) it lives until it is
    revoked.
    """

    name: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
    scopes: Annotated[list[Scope], Meta(max_length=32)] | None = None
    allowed_models: Annotated[list[AllowedModel], Meta(min_length=1, max_length=64)] | None = None
    expires_at: Annotated[int, Meta(ge=1)] | None = None


class CreatedKey(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``POST /admin/keys``: the only time that ``key`` is ever shown."""

    object: Literal["api_key"] = "api_key"
    id: str
    key: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    allowed_models: tuple[str, ...] | None
    created_at: int
    expires_at: int | None

    @classmethod
    def of(cls, key: ApiKey, secret: str) -> "CreatedKey":
        """``key`` with its secret."""
        return cls(
            id=key.id,
            key=secret,
            name=key.name,
            prefix=key.prefix,
            scopes=key.scopes,
            allowed_models=key.allowed_models,
            created_at=key.created_at,
            expires_at=key.expires_at,
        )


class RevokedKey(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``DELETE /admin/keys/{id}``."""

    object: Literal["api_key"] = "api_key"
    id: str
    prefix: str
    revoked_at: int | None
