"""Settings: one frozen type per function, read once from a mapping. Nothing else looks at the environment.

A field ``table_name`` is read from ``TABLE_NAME``; its type and bounds are the field's own. An empty value counts as
missing, because Terraform cannot leave a variable out of a map.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from sluice.domain.errors import ConfigurationError

Text = Annotated[str, Meta(min_length=1)]
Days = Annotated[int, Meta(ge=1, le=3650)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What every function is told. ``sluice_service`` is the name of the function's folder.

    ``max_input_bytes`` is for the routes whose bodies are held to less than API Gateway's own limit.
    """

    sluice_environment: Text
    sluice_service: Text
    log_level: LogLevel = "INFO"
    max_input_bytes: Annotated[int, Meta(ge=1)] | None = None


class TableSettings(Settings, frozen=True, kw_only=True):
    """What every function that uses the table is told."""

    table_name: Text


class QueueSettings(TableSettings, frozen=True, kw_only=True):
    """What every function is told that looks after the queues: each of them, and its dead-letter queue."""

    async_queue_url: Text
    async_dlq_url: Text
    batches_queue_url: Text
    batches_dlq_url: Text
    chunks_queue_url: Text
    chunks_dlq_url: Text
    assembly_queue_url: Text
    assembly_dlq_url: Text
    webhooks_queue_url: Text
    webhooks_dlq_url: Text


class ReplaySettings(TableSettings, frozen=True, kw_only=True):
    """What every function is told that answers a repeated request as it was answered before.

    What is too large for the table goes to the bucket ``bucket_name``, below ``responses/``, where it is deleted after
    two days.
    """

    bucket_name: Text
    idempotency_ttl_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 86_400


class FileSettings(ReplaySettings, frozen=True, kw_only=True):
    """What every function is told that keeps files for callers, for ``file_ttl_days`` at most.

    URLs that lead around Sluice are good for ``presign_seconds``, and never for longer than the function's own
    credentials. They begin with ``presign_endpoint_url`` where the bucket's own address would not do.
    """

    file_ttl_days: Days
    max_file_bytes: Annotated[int, Meta(ge=1, le=5_000_000_000_000)]
    presign_seconds: Annotated[int, Meta(ge=1, le=604_800)]
    presign_endpoint_url: Text | None = None


class BatchSettings(ReplaySettings, frozen=True, kw_only=True):
    """What the function is told that takes batches.

    ``window`` is how many chunks of a batch may be out at once; a batch is looked after every ``watch_seconds``. It is
    kept for ``result_ttl_days``, its files for ``file_ttl_days`` at most.
    """

    batches_queue_url: Text
    assembly_queue_url: Text
    result_ttl_days: Days
    file_ttl_days: Days
    window: Annotated[int, Meta(ge=1, le=1_000)]
    watch_seconds: Annotated[int, Meta(ge=1, le=900)] = 60
    webhooks_allow_private: bool = False


class InferenceSettings(ReplaySettings, frozen=True, kw_only=True):
    """What every function that calls models is told. ``max_attempts`` counts per target.

    A circuit opens after ``circuit_failures`` failures in a row, for ``circuit_open_seconds``; a container goes by what
    it read up to ``circuit_cache_seconds`` ago. Without ``hedge_after_ms`` no second target is asked while the first
    keeps silent, unless an alias says so. The first output of a stream has no more than
    ``first_output_timeout_seconds``, where those are less than an attempt has.
    """

    provider_secret_arn: Text
    request_log_ttl_days: Days
    attempt_timeout_seconds: Annotated[float, Meta(gt=0, le=900)]
    first_output_timeout_seconds: Annotated[float, Meta(gt=0, le=900)] | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=10)]
    circuit_failures: Annotated[int, Meta(ge=1, le=100)] = 5
    circuit_open_seconds: Annotated[float, Meta(gt=0, le=600)] = 30.0
    circuit_cache_seconds: Annotated[float, Meta(ge=0, le=60)] = 3.0
    hedge_after_ms: Annotated[int, Meta(ge=1, le=60_000)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None


S = TypeVar("S", bound=msgspec.Struct)


def load(cls: type[S], environ: Mapping[str, str]) -> S:
    """The settings of type ``cls`` from ``environ`` (normally ``os.environ``).

    :raises ConfigurationError: naming every variable that is missing or wrong, not only the first.
    """
    values: dict[str, object] = {}
    problems: list[str] = []
    for field in msgspec.structs.fields(cls):
        variable = field.name.upper()
        raw = environ.get(variable, "")
        if raw:
            try:
                values[field.name] = msgspec.convert(raw, field.type, strict=False)
            except msgspec.ValidationError as exc:
                problems.append(f"{variable} is wrong: {_expectation(exc, field.type)}.")
        elif field.required:
            problems.append(f"{variable} is missing.")
    if problems:
        raise ConfigurationError(" ".join(problems))
    return cls(**values)


def _expectation(error: msgspec.ValidationError, expected: object) -> str:
    # msgspec quotes a value that is not one of a Literal's; a setting may be a secret's name, so the choices are told.
    choices = getattr(expected, "__args__", ())
    return f"expected one of {', '.join(map(str, choices))}" if "enum" in str(error) else str(error)
