"""Secrets: one JSON object of strings per secret, remembered for a few minutes so that rotation needs no restart."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

CACHE_SECONDS: Final = 300.0


class Secret:
    """One secret of Secrets Manager, by ARN."""

    def __init__(self, client: "SecretsManagerClient", arn: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._arn = arn
        self._clock = clock
        self._fields: dict[str, str] | None = None
        self._fresh_until = 0.0

    def field(self, name: str) -> str:
        """The value of a field.

        :raises ConfigurationError: the secret may not be read, is not a JSON object of strings, or lacks the field.
        :raises StateError: Secrets Manager failed.
        """
        if self._fields is None or self._clock() >= self._fresh_until:
            self._fields = self._read()
            self._fresh_until = self._clock() + CACHE_SECONDS
        value = self._fields.get(name)
        if not value:
            raise ConfigurationError(f"The provider secret has no field '{name}'.")
        return value

    def forget(self) -> None:
        """Read it again next time: a provider refused what it held, so it may have been rotated."""
        self._fields = None

    def _read(self) -> dict[str, str]:
        try:
            answer = self._client.get_secret_value(SecretId=self._arn)
        except (ClientError, BotoCoreError) as exc:
            raise aws.translate(exc, "The secret store") from exc
        try:
            return msgspec.json.decode(answer.get("SecretString", ""), type=dict[str, str])
        except msgspec.MsgspecError:
            # Not chained: what msgspec says might quote a piece of the secret.
            raise ConfigurationError("The provider secret is not a JSON object of strings.") from None
