"""What the benchmark gives the functions it runs is what they ask for."""

from __future__ import annotations

import importlib

import msgspec
import pytest

from load_tests.bench.layout import FUNCTIONS
from load_tests.bench.stand_ins import COMPLETION
from load_tests.bench.world import ENVIRONMENT, QUESTION
from sluice.runtime.settings import Settings, load
from sluice.wire.chat import decode_chat_request


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_variable_of_a_function_is_set(function: str) -> None:
    module = importlib.import_module(f"functions.{function}.settings")
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
    [kind] = [kind for kind in kinds if issubclass(kind, Settings)]
    settings = load(kind, {**ENVIRONMENT, "SLUICE_SERVICE": function})
    # Also those that have defaults: what is measured is what is deployed.
    left = {field.name.upper() for field in msgspec.structs.fields(kind)} - set(ENVIRONMENT) - {"SLUICE_SERVICE"}
    assert left <= {"FIRST_OUTPUT_TIMEOUT_SECONDS", "HEDGE_AFTER_MS", "MAX_INPUT_BYTES"}
    assert settings.sluice_environment == "bench"


def test_the_question_is_one_that_the_route_takes() -> None:
    asked = decode_chat_request(msgspec.json.encode(dict(QUESTION)))
    assert (asked.model, bool(asked.stream)) == ("fast", False)
    assert msgspec.json.decode(COMPLETION)["usage"]["total_tokens"] == 176
