import json
from collections.abc import Iterator
from typing import Any

import pytest

from sluice.domain.deadline import Deadline
from sluice.domain.errors import StateError
from sluice.runtime import invocation
from sluice.runtime.events import UnexpectedFailureError, event_function
from sluice.testing.invocations import FakeLambdaContext

CANARY = "canary-that-must-not-be-logged"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLUICE_ENVIRONMENT", "test")
    monkeypatch.setenv("SLUICE_SERVICE", "worker")
    invocation._settings.cache_clear()
    yield
    invocation._settings.cache_clear()


def canonical(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.splitlines()[0])


def test_the_handler_gets_the_event_and_a_deadline_and_its_result_is_the_functions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def handler(event: dict[str, Any], deadline: Deadline) -> int:
        return int(event["x"]) + (deadline.remaining_s() > 8)

    assert event_function(handler)({"x": 1}, FakeLambdaContext(seconds=10)) == 2
    line = canonical(capsys)
    assert (line["event"], line["request_id"], line["function"]) == ("request", "lambda-request-1", "worker")


def test_an_error_of_ours_is_raised_again_so_that_the_trigger_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    def handler(event: dict[str, Any], deadline: Deadline) -> None:
        raise StateError("The table is throttling.")

    with pytest.raises(StateError):
        event_function(handler)({}, FakeLambdaContext())
    line = canonical(capsys)
    assert (line["level"], line["error_code"]) == ("error", "state_unavailable")


def test_an_unexpected_exception_is_raised_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    def handler(event: dict[str, Any], deadline: Deadline) -> None:
        raise ValueError(CANARY)

    with pytest.raises(UnexpectedFailureError, match="ValueError") as raised:
        event_function(handler)({}, FakeLambdaContext())
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert CANARY not in capsys.readouterr().out + str(raised.value)
