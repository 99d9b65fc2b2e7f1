from collections.abc import Mapping

import pytest

from functions.admin_keys.settings import AdminKeysSettings
from functions.authorizer.settings import AuthorizerSettings
from functions.chat_completions.settings import ChatCompletionsSettings
from functions.embeddings.settings import EmbeddingsSettings
from functions.health.settings import HealthSettings
from functions.models.settings import ModelsSettings
from sluice.domain.errors import ConfigurationError
from sluice.runtime.settings import Settings, load

COMMON = {"SLUICE_ENVIRONMENT": "test", "SLUICE_SERVICE": "function", "LOG_LEVEL": "INFO"}
TABLE = {**COMMON, "TABLE_NAME": "sluice-test"}
INFERENCE = {
    **TABLE,
    "BUCKET_NAME": "sluice-test",
    "PROVIDER_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:providers",
    "REQUEST_LOG_TTL_DAYS": "90",
    "ATTEMPT_TIMEOUT_SECONDS": "12.5",
    "MAX_ATTEMPTS": "3",
}
EVERY: list[tuple[type[Settings], Mapping[str, str]]] = [
    (Settings, COMMON),
    (AdminKeysSettings, TABLE),
    (AuthorizerSettings, TABLE),
    (ChatCompletionsSettings, INFERENCE),
    (EmbeddingsSettings, INFERENCE),
    (HealthSettings, TABLE),
    (ModelsSettings, TABLE),
]
REQUIRED = [(kind, environ, name) for kind, environ in EVERY for name in environ if name != "LOG_LEVEL"]


@pytest.mark.parametrize(("kind", "environ"), EVERY)
def test_a_complete_environment_is_accepted(kind: type[Settings], environ: Mapping[str, str]) -> None:
    assert load(kind, {**environ, "UNRELATED": "x"}).sluice_environment == "test"


@pytest.mark.parametrize(("kind", "environ", "name"), REQUIRED)
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_missing_or_empty_variable_is_named(
    kind: type[Settings], environ: Mapping[str, str], name: str, how: str
) -> None:
    broken = {key: value for key, value in environ.items() if key != name} | ({name: ""} if how == "empty" else {})
    with pytest.raises(ConfigurationError, match=f"{name} is missing"):
        load(kind, broken)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Settings, "LOG_LEVEL", "LOUD"),
        (AuthorizerSettings, "KEY_CACHE_SECONDS", "-1"),
        (AuthorizerSettings, "KEY_CACHE_SECONDS", "61"),
        (AuthorizerSettings, "KEY_CACHE_SECONDS", "a minute"),
        (ChatCompletionsSettings, "REQUEST_LOG_TTL_DAYS", "0"),
        (ChatCompletionsSettings, "REQUEST_LOG_TTL_DAYS", "90.5"),
        (ChatCompletionsSettings, "ATTEMPT_TIMEOUT_SECONDS", "0"),
        (ChatCompletionsSettings, "ATTEMPT_TIMEOUT_SECONDS", "901"),
        (ChatCompletionsSettings, "MAX_ATTEMPTS", "0"),
        (ChatCompletionsSettings, "MAX_ATTEMPTS", "11"),
        (EmbeddingsSettings, "MAX_ATTEMPTS", "three"),
        (ChatCompletionsSettings, "IDEMPOTENCY_TTL_SECONDS", "0"),
        # S3 forgets the larger responses after two days.
        (ChatCompletionsSettings, "IDEMPOTENCY_TTL_SECONDS", "86401"),
        (ChatCompletionsSettings, "IDEMPOTENCY_TTL_SECONDS", "a day"),
    ],
)
def test_a_value_of_the_wrong_type_or_size_is_named_but_not_quoted(kind: type[Settings], name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is wrong") as raised:
        load(kind, {**INFERENCE, name: value})
    assert f"'{value}'" not in raised.value.message


def test_numbers_are_converted() -> None:
    settings = load(ChatCompletionsSettings, INFERENCE)
    assert (settings.request_log_ttl_days, settings.attempt_timeout_seconds, settings.max_attempts) == (90, 12.5, 3)


def test_responses_are_kept_for_a_day_unless_it_is_said_otherwise() -> None:
    assert load(ChatCompletionsSettings, INFERENCE).idempotency_ttl_seconds == 86_400
    assert load(ChatCompletionsSettings, {**INFERENCE, "IDEMPOTENCY_TTL_SECONDS": "60"}).idempotency_ttl_seconds == 60


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(ChatCompletionsSettings, {"SLUICE_ENVIRONMENT": "test", "MAX_ATTEMPTS": "x"})
    for name in ("SLUICE_SERVICE", "TABLE_NAME", "PROVIDER_SECRET_ARN", "REQUEST_LOG_TTL_DAYS", "MAX_ATTEMPTS"):
        assert name in raised.value.message
    assert "one of DEBUG, INFO, WARNING, ERROR" in _problem({**COMMON, "LOG_LEVEL": "LOUD"})


def _problem(environ: Mapping[str, str]) -> str:
    with pytest.raises(ConfigurationError) as raised:
        load(Settings, environ)
    return raised.value.message
