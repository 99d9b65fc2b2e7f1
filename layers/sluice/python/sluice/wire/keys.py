"""API keys as administrators see them. Money is US dollars in decimal strings, times are epoch seconds.

Unlike the bodies of callers, these refuse fields that they do not know: a limit that is misspelt must not become a key
without one.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sluice.domain.errors import InvalidRequestError
from sluice.domain.keys import ApiKey, KeySettings, KeyStatus, RetiringSecret, Scope
from sluice.domain.ledger import MOST_SHARDS, REQUESTS_PER_SHARD_AND_MINUTE, Limits
from sluice.wire.money import USD_PATTERN, micro_usd, usd

DEFAULT_OVERLAP_S: Final = 86_400
LONGEST_OVERLAP_S: Final = 30 * 86_400
MOST_RPM: Final = MOST_SHARDS * REQUESTS_PER_SHARD_AND_MINUTE
# Far above what any provider sells, far below where numbers stop being exact.
MOST_TPM: Final = 10**12
# All of them, joined by commas: the authorizer hands the list on. Whether the quota of 8 KB for its result is one of
# REST APIs too, sources differ (https://repost.aws/questions/QUzilwCUByQz6iUi-9hwPFJQ says of WebSocket APIs only), and
# a key should not be what finds out. The policy, a name in any script and the limits need the rest.
# https://docs.aws.amazon.com/general/latest/gr/apigateway.html
MOST_ALLOWED_MODELS_BYTES: Final = 6_000
# The end of the year 9999, the last moment that has a date.
LATEST: Final = 253_402_300_799

# Python's `$` lets a line end follow, JSON Schema's does not; `(?!\n)` makes them agree.
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")]
# No comma: the authorizer hands the list on as one comma-separated string.
AllowedModel = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$(?!\n)")]
AllowedModels = Annotated[list[AllowedModel], Meta(min_length=1, max_length=64)]
Scopes = Annotated[list[Scope], Meta(min_length=1, max_length=8)]
Rpm = Annotated[int, Meta(ge=1, le=MOST_RPM)]
Tpm = Annotated[int, Meta(ge=1, le=MOST_TPM)]
Usd = Annotated[str, Meta(pattern=USD_PATTERN)]
EpochSeconds = Annotated[int, Meta(ge=1, le=LATEST)]

T = TypeVar("T")


class AdminKeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /admin/keys``. What is left out is not limited.

    Without ``scopes`` the key is good for everything, without ``allowed_models`` for every model, without
    ``expires_at`` (epoch seconds) until it is revoked. ``rpm`` and ``tpm`` are per minute, budgets are US dollars.
    """

    name: Name
    scopes: Scopes | None = None
    allowed_models: AllowedModels | None = None
    rpm: Rpm | None = None
    tpm: Tpm | None = None
    monthly_budget_usd: Usd | None = None
    total_budget_usd: Usd | None = None
    expires_at: EpochSeconds | None = None

    def to_settings(self) -> KeySettings:
        """What was decided about the new key.

        :raises InvalidRequestError: a budget is no amount, or the models are too many to be handed on.
        """
        return KeySettings(
            name=self.name,
            scopes=_distinct(self.scopes) or (),
            allowed_models=_models(self.allowed_models),
            limits=Limits(
                rpm=self.rpm,
                tpm=self.tpm,
                monthly_budget_micro_usd=_amount(self.monthly_budget_usd, "monthly_budget_usd"),
                total_budget_micro_usd=_amount(self.total_budget_usd, "total_budget_usd"),
            ),
            expires_at=self.expires_at,
        )


class AdminKeyUpdateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``PATCH /admin/keys/{id}``: what is left out stays as it is, ``null`` takes a restriction away."""

    name: Name | UnsetType = UNSET
    scopes: Scopes | UnsetType | None = UNSET
    allowed_models: AllowedModels | UnsetType | None = UNSET
    rpm: Rpm | UnsetType | None = UNSET
    tpm: Tpm | UnsetType | None = UNSET
    monthly_budget_usd: Usd | UnsetType | None = UNSET
    total_budget_usd: Usd | UnsetType | None = UNSET
    expires_at: EpochSeconds | UnsetType | None = UNSET

    def over(self, settings: KeySettings) -> KeySettings:
        """What has been decided about a key, with this change.

        :raises InvalidRequestError: a budget is no amount, or the models are too many to be handed on.
        """
        limits, monthly, total = settings.limits, self.monthly_budget_usd, self.total_budget_usd
        return KeySettings(
            name=_chosen(self.name, settings.name),
            scopes=settings.scopes if self.scopes is UNSET else _distinct(self.scopes) or (),
            allowed_models=settings.allowed_models if self.allowed_models is UNSET else _models(self.allowed_models),
            limits=msgspec.structs.replace(
                limits,
                rpm=_chosen(self.rpm, limits.rpm),
                tpm=_chosen(self.tpm, limits.tpm),
                monthly_budget_micro_usd=limits.monthly_budget_micro_usd
                if monthly is UNSET
                else _amount(monthly, "monthly_budget_usd"),
                total_budget_micro_usd=limits.total_budget_micro_usd
                if total is UNSET
                else _amount(total, "total_budget_usd"),
            ),
            expires_at=_chosen(self.expires_at, settings.expires_at),
        )


class AdminKeyRotateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /admin/keys/{id}/rotate``, which may be left out.

    ``overlap_seconds`` is how long the secrets that there are go on working, at most. Authorizers believe what they
    read for up to a minute, so less than that may last a minute.
    """

    overlap_seconds: Annotated[int, Meta(ge=0, le=LONGEST_OVERLAP_S)] = DEFAULT_OVERLAP_S


class RetiringSecretObject(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that was replaced and still works until ``retires_at``."""

    prefix: str
    retires_at: int

    @classmethod
    def of(cls, secret: RetiringSecret) -> "RetiringSecretObject":
        """What may be shown of ``secret``."""
        return cls(prefix=secret.prefix, retires_at=secret.retires_at)


class KeyObject(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without its secrets: ``prefix`` is how the current one begins. ``null`` is no restriction."""

    object: Literal["api_key"] = "api_key"
    id: str
    name: str
    status: KeyStatus
    prefix: str
    scopes: tuple[str, ...] | None
    allowed_models: tuple[str, ...] | None
    rpm: int | None
    tpm: int | None
    monthly_budget_usd: str | None
    total_budget_usd: str | None
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    retiring: tuple[RetiringSecretObject, ...]

    @classmethod
    def of(cls, key: ApiKey, *, now: float) -> "KeyObject":
        """``key`` as it stands at ``now`` (epoch seconds)."""
        return cls(
            id=key.id,
            name=key.name,
            status=key.status_at(now),
            prefix=key.prefix,
            scopes=key.scopes or None,
            allowed_models=key.allowed_models,
            rpm=key.limits.rpm,
            tpm=key.limits.tpm,
            monthly_budget_usd=usd(key.limits.monthly_budget_micro_usd),
            total_budget_usd=usd(key.limits.total_budget_micro_usd),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            retiring=tuple(RetiringSecretObject.of(secret) for secret in key.retiring_at(now)),
        )


class KeyWithSecret(KeyObject, frozen=True, kw_only=True):
    """The answer to creating or rotating a key: the only time that ``key``, its new secret, is ever shown."""

    key: str

    @classmethod
    def showing(cls, key: ApiKey, secret: str, *, now: float) -> "KeyWithSecret":
        """``key`` with its new secret."""
        shown = KeyObject.of(key, now=now)
        return cls(key=secret, **{field: getattr(shown, field) for field in KeyObject.__struct_fields__})


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of keys, in the order of their ids. ``next_after`` is the ``after`` of the next one, if there is one."""

    object: Literal["list"] = "list"
    data: tuple[KeyObject, ...]
    has_more: bool
    next_after: str | None

    @classmethod
    def of(cls, keys: Sequence[ApiKey], next_after: str | None, *, now: float) -> "KeyList":
        """``keys`` as they stand at ``now`` (epoch seconds)."""
        shown = tuple(KeyObject.of(key, now=now) for key in keys)
        return cls(data=shown, has_more=next_after is not None, next_after=next_after)


def _amount(text: str | None, param: str) -> Decimal | None:
    try:
        return None if text is None else micro_usd(text)
    except ValueError as exc:
        # A line end after it, which the pattern of the field lets through.
        raise InvalidRequestError(f"'{param}' is not what it should be: {exc}.", param=param) from exc


def _models(names: Sequence[str] | None) -> tuple[str, ...] | None:
    models = _distinct(names)
    size = len(",".join(models or ()).encode())
    if size > MOST_ALLOWED_MODELS_BYTES:
        raise InvalidRequestError(
            f"'allowed_models' has {size:,} bytes, joined by commas; {MOST_ALLOWED_MODELS_BYTES:,} are allowed. Name"
            " fewer: an alias stands for all its targets.",
            param="allowed_models",
        )
    return models


def _distinct(values: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(dict.fromkeys(str(value) for value in values))


def _chosen(asked: T | UnsetType, otherwise: T) -> T:
    return otherwise if isinstance(asked, UnsetType) else asked
