"""The workflow mode's functions, with the state machine's part played by the test."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions.workflow_ended import handler as ended_module
from functions.workflow_finish import handler as finish_module
from functions.workflow_run_step import handler as step_module
from functions.workflow_start import handler as start_module
from functions.workflow_status import handler as status_module
from sluice.domain.errors import ContextTooLongError, ProviderUnavailableError, StateError
from sluice.runtime.events import UnexpectedFailureError
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from tests.unit.sluice.services.durable import Chain

CANARY = "canary-that-must-not-be-logged"
BODY = {"steps": [{"prompt": f"{CANARY} {{{{input}}}}"}, {"prompt": "and?"}], "input": CANARY}


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Chain:
    made = Chain()
    monkeypatch.setattr(start_module, "service", lambda: made.starter)
    monkeypatch.setattr(step_module, "service", lambda: made.runner)
    monkeypatch.setattr(finish_module, "service", lambda: made.finisher)
    monkeypatch.setattr(ended_module, "service", lambda: made.finisher)
    monkeypatch.setattr(status_module, "service", lambda: made.reader)
    return made


def start(body: object = BODY, *, name: str = "chain") -> tuple[int, Any, dict[str, str]]:
    event = api_event(
        "POST",
        "/v1/workflows/{name}/executions",
        body=body,
        path_parameters={"name": name},
        authorizer=CALLER,
    )
    response = start_module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"]), response["headers"]


def read(execution_id: str, *, key_id: str = "key_1") -> tuple[int, Any]:
    event = api_event(
        "GET",
        "/v1/workflows/executions/{id}",
        path_parameters={"id": execution_id},
        authorizer={**CALLER, "key_id": key_id},
    )
    response = status_module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def run_machine(execution: dict[str, Any]) -> dict[str, Any]:
    """What infra/state_machines/chain.asl.json does, without its retries."""
    state: dict[str, Any] = {
        "execution_id": execution["id"],
        "key_id": "key_1",
        "step_count": len(execution["steps"]),
        "index": 0,
    }
    while state.get("outcome", "continue") == "continue":
        try:
            state = step_module.handler(state, FakeLambdaContext())
        except Exception as exc:  # noqa: BLE001  (Step Functions catches whatever it is)
            cause = json.dumps({"errorType": type(exc).__name__, "errorMessage": str(exc), "stackTrace": ["at"]})
            state = {**state, "failure": {"Error": type(exc).__name__, "Cause": cause}}
            break
        assert len(json.dumps(state)) < 1000
    finished: dict[str, Any] = finish_module.handler({**state, "status": "whatever"}, FakeLambdaContext())
    return finished


def test_a_chain_is_started_run_and_answered(chain: Chain) -> None:
    code, started, headers = start()
    assert (code, started["status"], started["workflow"]) == (202, "running", "chain")
    assert [step["status"] for step in started["steps"]] == ["pending", "pending"]
    assert headers["location"] == f"/v1/workflows/executions/{started['id']}"
    assert run_machine(started) == {"execution_id": started["id"], "status": "succeeded"}
    code, done = read(started["id"])
    assert (code, done["status"], done["cost_usd"]) == (200, "succeeded", "0.000008")
    assert [step["output"] for step in done["steps"]] == ["an answer", "an answer"]


@pytest.mark.parametrize(
    ("name", "body", "code", "param"),
    [
        ("chain", {"steps": []}, 400, "steps"),
        ("chain", "not json", 400, None),
        ("chain", {"steps": [{"prompt": "x", "model": "nope"}]}, 404, "model"),
        ("graph", BODY, 404, None),
    ],
)
def test_a_mistake_is_refused(chain: Chain, name: str, body: object, code: int, param: str | None) -> None:
    answered, error, _ = start(body, name=name)
    assert (answered, error["error"]["param"]) == (code, param)
    assert not chain.executions.executions


def test_an_engine_that_is_away_is_a_503_and_nothing_stays_running(chain: Chain) -> None:
    chain.engine.failing = StateError("The workflow engine is not available at the moment. Try again.")
    code, error, _ = start()
    assert (code, error["error"]["code"]) == (503, "state_unavailable")
    assert [execution.status.value for execution in chain.executions.executions.values()] == ["failed"]


def test_a_refused_step_is_visible_with_its_reason(chain: Chain) -> None:
    _, started, _ = start()
    chain.model.error = ContextTooLongError("The prompt is too long.", target="bedrock/small")
    assert run_machine(started)["status"] == "failed"
    _, done = read(started["id"])
    assert done["error"] == {
        "message": "The prompt is too long.",
        "type": "invalid_request_error",
        "code": "context_length_exceeded",
        "step": 0,
    }
    assert [step["status"] for step in done["steps"]] == ["failed", "skipped"]


def test_a_step_that_may_be_tried_again_raises(chain: Chain) -> None:
    _, started, _ = start()
    chain.model.error = ProviderUnavailableError("Down.", target="bedrock/small")
    state = {"execution_id": started["id"], "key_id": "key_1", "step_count": 2, "index": 0}
    with pytest.raises(ProviderUnavailableError):
        step_module.handler(state, FakeLambdaContext())


def test_a_state_that_cannot_be_understood_raises(chain: Chain) -> None:
    for module in (step_module, finish_module):
        with pytest.raises(StateError):
            module.handler({"execution_id": 7}, FakeLambdaContext())


def status_change(execution_id: str, status: str) -> dict[str, Any]:
    """As EventBridge delivers it, without what nobody reads."""
    return {
        "source": "aws.states",
        "detail-type": "Step Functions Execution Status Change",
        "detail": {"name": execution_id, "status": status, "stateMachineArn": "arn", "stopDate": 1, "cause": CANARY},
    }


@pytest.mark.parametrize(
    ("status", "code"),
    [("ABORTED", "execution_aborted"), ("TIMED_OUT", "execution_timed_out"), ("FAILED", "execution_failed")],
)
def test_an_execution_that_step_functions_ended_is_failed_without_anybody_asking(
    chain: Chain, capsys: pytest.CaptureFixture[str], status: str, code: str
) -> None:
    _, started, _ = start()
    event = status_change(started["id"], status)
    ended = ended_module.handler(event, FakeLambdaContext())
    assert json.loads(json.dumps(ended)) == {"execution_id": started["id"], "status": "failed"}
    [canonical] = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "engine_says" in line]
    assert (canonical["execution_id"], canonical["engine_says"]) == (started["id"], code)
    assert CANARY not in str(canonical)
    _, shown = read(started["id"])
    assert (shown["status"], shown["error"]["code"]) == ("failed", code)
    assert ended_module.handler(event, FakeLambdaContext()) == ended


def test_an_end_that_is_recorded_already_stays_as_it_is(chain: Chain) -> None:
    _, started, _ = start()
    chain.model.error = ContextTooLongError("The prompt is too long.", target="bedrock/small")
    run_machine(started)
    _, before = read(started["id"])
    ended_module.handler(status_change(started["id"], "FAILED"), FakeLambdaContext())
    assert read(started["id"])[1] == before


def test_an_execution_that_somebody_started_by_hand_is_no_failure(chain: Chain) -> None:
    ended = ended_module.handler(status_change("by-hand", "ABORTED"), FakeLambdaContext())
    assert ended == {"execution_id": "by-hand", "status": None}


@pytest.mark.parametrize(
    "event", [{}, {"detail": {"name": "x", "status": "SUCCEEDED"}}, {"detail": {"status": "FAILED"}}]
)
def test_another_event_raises(chain: Chain, event: dict[str, Any]) -> None:
    with pytest.raises(StateError):
        ended_module.handler(event, FakeLambdaContext())


def test_another_keys_execution_is_not_found(chain: Chain) -> None:
    _, started, _ = start()
    code, error = read(started["id"], key_id="key_2")
    assert (code, error["error"]["code"]) == (404, "not_found")
    assert read("nonsense") == (404, error)


@pytest.mark.parametrize(
    "error", [None, ProviderUnavailableError("Down.", target="bedrock/small"), RuntimeError(CANARY)]
)
def test_no_path_through_the_code_logs_a_prompt(
    chain: Chain, capsys: pytest.CaptureFixture[str], error: Exception | None
) -> None:
    _, started, _ = start()
    chain.model.error = error
    run_machine(started)
    _, told = read(started["id"])
    output = capsys.readouterr()
    assert CANARY not in output.out + output.err + json.dumps(told)


def test_what_a_bug_raises_tells_nothing(chain: Chain) -> None:
    _, started, _ = start()
    chain.model.error = RuntimeError(CANARY)
    state = {"execution_id": started["id"], "key_id": "key_1", "step_count": 2, "index": 0}
    with pytest.raises(UnexpectedFailureError) as caught:
        step_module.handler(state, FakeLambdaContext())
    assert CANARY not in str(caught.value)
