"""A chain from start to end on fakes, with the state machine's part played by :meth:`Chain.run`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.domain.errors import (
    ConfigurationError,
    ContextTooLongError,
    NotFoundError,
    PermissionDeniedError,
    ProviderUnavailableError,
    SluiceError,
    StateError,
)
from sluice.domain.inference import ChatRequest
from sluice.domain.jobs import SERVER_ERROR, Failure
from sluice.domain.ledger import Limits
from sluice.domain.workflows import (
    ENGINE_FAILURES,
    CaughtError,
    ChainDefinition,
    ChainState,
    ChainStep,
    EndedExecution,
    EngineStatus,
    ExecutionStatus,
    StepStatus,
)
from tests.unit.sluice.services.durable import CALLER, KEY, NOW, Chain, steps

DOWN = ProviderUnavailableError("The provider is down.", target="bedrock/small")
TOO_LONG = ContextTooLongError("The prompt is too long.", target="bedrock/small")


# ---- start ----


def test_a_started_execution_is_stored_and_running() -> None:
    chain = Chain()
    execution, records = chain.starter.start("chain", steps("one", "two"), CALLER)
    assert chain.executions.executions[execution.id] == execution
    assert [(record.index, record.status) for record in records] == [(0, StepStatus.PENDING), (1, StepStatus.PENDING)]
    assert msgspec.json.decode(chain.objects.bodies[execution.input_key], type=ChainDefinition) == steps("one", "two")
    assert chain.engine.statuses[execution.id].status is ExecutionStatus.RUNNING


def test_an_unknown_workflow_is_not_found() -> None:
    with pytest.raises(NotFoundError) as caught:
        Chain().starter.start("graph", steps("one"), CALLER)
    assert caught.value.code == "workflow_not_found"


def test_every_model_is_resolved_before_anything_is_stored() -> None:
    chain = Chain()
    definition = ChainDefinition(steps=(ChainStep(prompt="x", model="auto"), ChainStep(prompt="x", model="nope")))
    with pytest.raises(NotFoundError) as caught:
        chain.starter.start("chain", definition, CALLER)
    assert caught.value.code == "model_not_found"
    with pytest.raises(PermissionDeniedError):
        chain.starter.start("chain", steps("x"), msgspec.structs.replace(CALLER, allowed_models=("other",)))
    assert not chain.objects.bodies
    assert not chain.executions.executions


def test_what_cannot_be_started_is_marked_as_failed() -> None:
    chain = Chain()
    chain.engine.failing = StateError("The workflow engine is not available.")
    with pytest.raises(StateError):
        chain.starter.start("chain", steps("x"), CALLER)
    [execution] = chain.executions.executions.values()
    assert execution.status is ExecutionStatus.FAILED
    assert execution.error is not None
    assert execution.error.code == "state_unavailable"


def test_a_failure_to_mark_the_execution_does_not_hide_why_it_failed() -> None:
    chain = Chain()
    chain.engine.failing = StateError("no engine")
    chain.executions.failing["finish"] = StateError("no table either")
    with pytest.raises(StateError, match="no engine"):
        chain.starter.start("chain", steps("x"), CALLER)


# ---- steps ----


def test_each_step_uses_the_answer_before_it() -> None:
    chain = Chain()
    chain.model.before = lambda request: setattr(chain.model, "text", f"<{request.messages[-1].content}>")
    view = chain.run(steps("{{input}}!", "so: {{previous}}", "and?"))
    assert view.execution.status is ExecutionStatus.SUCCEEDED
    assert [step.output for step in view.steps] == [
        "<the text!>",
        "<so: <the text!>>",
        "<and?\n\n<so: <the text!>>>",
    ]


def test_a_step_that_is_refused_says_so() -> None:
    chain = Chain()
    chain.model.text, chain.model.refusal = "", "I cannot help with that."
    assert [step.output for step in chain.run(steps("one")).steps] == ["I cannot help with that."]


def test_a_step_has_its_own_system_prompt_and_parameters() -> None:
    chain = Chain()
    step = ChainStep(prompt="x", model="bedrock/free", system="Be brief.", max_tokens=7, temperature=0.5)
    chain.run(ChainDefinition(steps=(step,)))
    [request] = chain.model.requests
    assert [message.role for message in request.messages] == ["system", "user"]
    assert (request.model, request.max_tokens, request.temperature) == ("bedrock/free", 7, 0.5)


def test_totals_are_those_of_the_steps() -> None:
    view = Chain().run(steps("one", "two"))
    assert view.execution.usage is not None
    assert view.execution.usage.total_tokens == 20
    assert str(view.execution.cost_micro_usd) == "8.00"


def test_a_total_with_an_unknown_part_is_unknown() -> None:
    definition = ChainDefinition(
        steps=(ChainStep(prompt="x", model="auto"), ChainStep(prompt="x", model="bedrock/free"))
    )
    assert Chain().run(definition).execution.cost_micro_usd is None


def test_nothing_of_a_prompt_or_an_answer_travels_through_the_state_machine() -> None:
    chain = Chain()
    chain.model.text = "x" * 300_000
    state = chain.step(chain.start(steps("a secret", "two")))
    travelling = msgspec.json.encode(state)
    assert len(travelling) < 500
    assert b"secret" not in travelling
    assert (state.index, state.outcome) == (1, "continue")
    assert chain.step(state).outcome == "done"


def test_a_repeated_step_is_not_run_again() -> None:
    chain = Chain()
    state = chain.start(steps("one", "two"))
    first = chain.step(state)
    assert chain.step(state) == first
    assert len(chain.model.requests) == 1


def test_every_attempt_of_a_step_has_a_log_entry_of_its_own() -> None:
    chain = Chain()
    state = chain.start(steps("one", "two"))
    state = chain.step(state)
    chain.clock.advance(5)
    chain.model.error = DOWN
    with pytest.raises(ProviderUnavailableError):
        chain.step(state)
    chain.clock.advance(5)
    chain.model.error = None
    chain.step(state)
    first, second = (f"{state.execution_id}-{index:03d}" for index in range(2))
    asked = [(entry.request_id, entry.started_at) for entry in chain.log.entries]
    assert asked == [(first, NOW), (second, NOW + 5), (second, NOW + 10)]
    assert [entry.outcome.value for entry in chain.log.entries] == ["completed", "failed", "completed"]


def test_a_passing_failure_is_raised_and_a_later_attempt_succeeds() -> None:
    chain = Chain()
    failures = iter([DOWN, None])
    chain.model.before = lambda _: setattr(chain.model, "error", next(failures))
    view = chain.run(steps("one"))
    assert view.execution.status is ExecutionStatus.SUCCEEDED
    assert view.steps[0].record.error is None


@pytest.mark.parametrize(
    ("error", "code"), [(TOO_LONG, "context_length_exceeded"), (ConfigurationError("no role"), "misconfigured")]
)
def test_a_failure_that_stays_is_recorded_and_returned(error: SluiceError, code: str) -> None:
    chain = Chain()
    chain.model.before = lambda request: setattr(chain.model, "error", error if "two" in str(request) else None)
    state = chain.step(chain.start(steps("one", "two", "three")))
    state = chain.step(state)
    assert state.outcome == "failed"
    assert state.error is not None
    assert (state.error.code, state.error.step) == (code, 1)
    chain.finisher.finish(state)
    view = chain.read(state)
    assert view.execution.error is not None
    assert (view.execution.error.code, view.execution.error.step) == (code, 1)
    assert [step.status for step in view.steps] == ["succeeded", "failed", "skipped"]
    assert view.execution.usage is not None
    assert view.execution.usage.total_tokens == 10


def test_a_step_that_never_works_ends_the_execution_with_its_reason() -> None:
    chain = Chain()
    chain.model.error = DOWN
    view = chain.run(steps("one", "two"))
    assert view.execution.status is ExecutionStatus.FAILED
    assert view.execution.error == Failure(
        code="provider_unavailable", message="The provider is down.", type=SERVER_ERROR, step=0
    )
    assert "secret" not in str(view)


def test_a_bug_is_raised_and_tells_nothing() -> None:
    chain = Chain()
    chain.model.error = RuntimeError("quotes a secret")
    state = chain.start(steps("one"))
    with pytest.raises(RuntimeError):
        chain.step(state)
    chain.finisher.finish(
        msgspec.structs.replace(state, failure=CaughtError(error="UnexpectedFailureError", cause="{}"))
    )
    view = chain.read(state)
    assert view.execution.error is not None
    assert view.execution.error.code == "internal_error"
    assert "secret" not in str(view)


@pytest.mark.parametrize("lost_at", ["put", "record_step"])
def test_an_answer_that_could_not_be_stored_is_asked_for_again(lost_at: str) -> None:
    """Cut off after the provider answered; after the object was stored, before the table knew."""
    chain = Chain()
    state = chain.start(steps("one"))

    def cut_off(_: ChatRequest) -> None:
        if lost_at == "put":
            chain.objects.failing = StateError("down")
        chain.executions.failing["record_step"] = StateError("down")

    chain.model.before = cut_off
    with pytest.raises(StateError):
        chain.step(state)
    chain.objects.failing = None
    chain.executions.failing.clear()
    chain.model.before = lambda _: None
    chain.model.text = "the second answer"
    chain.finisher.finish(chain.step(state))
    assert chain.read(state).steps[0].output == "the second answer"


def test_a_run_that_was_given_up_cannot_replace_the_answer_a_later_step_has_read() -> None:
    chain = Chain()
    state = chain.start(steps("one", "two"))

    def overtaken(_: ChatRequest) -> None:
        chain.model.before = lambda _: None
        chain.model.text = "the second run's"
        chain.step(chain.step(state))
        chain.model.text = "the slow run's"

    chain.model.before = overtaken
    assert chain.step(state).outcome == "continue"
    assert chain.executions.steps[state.execution_id][0].status is StepStatus.SUCCEEDED
    assert chain.read(state).steps[0].output == "the second run's"


def test_a_late_failure_cannot_replace_an_answer_either() -> None:
    chain = Chain()
    state = chain.start(steps("one"))

    def overtaken(_: ChatRequest) -> None:
        chain.model.before = lambda _: None
        chain.step(state)
        chain.model.error = TOO_LONG

    chain.model.before = overtaken
    assert chain.step(state).outcome == "done"


def test_a_definition_that_cannot_be_read_is_raised() -> None:
    chain = Chain()
    state = chain.start(steps("one"))
    chain.objects.bodies.clear()
    with pytest.raises(StateError):
        chain.step(state)


@pytest.mark.parametrize("state", [{"index": 5}, {"step_count": 9}, {"execution_id": "exec_nope"}, {"index": -1}])
def test_a_state_that_fits_no_execution_is_raised(state: dict[str, object]) -> None:
    chain = Chain()
    good = chain.start(steps("one"))
    with pytest.raises(StateError):
        chain.step(msgspec.structs.replace(good, **state))


def test_a_step_of_an_execution_that_has_ended_is_not_run() -> None:
    chain = Chain()
    state = chain.start(steps("one"))
    chain.finisher.finish(msgspec.structs.replace(state, failure=CaughtError(error="States.Timeout")))
    ended = chain.step(state)
    assert ended.outcome == "failed"
    assert not chain.model.requests


# ---- finish ----


def test_a_repeated_finish_changes_nothing_whatever_it_says() -> None:
    chain = Chain()
    state = chain.step(chain.start(steps("one")))
    assert chain.finisher.finish(state) is ExecutionStatus.SUCCEEDED
    before = chain.executions.executions[state.execution_id]
    chain.clock.advance(5)
    late = msgspec.structs.replace(state, failure=CaughtError(error="States.Timeout"))
    assert chain.finisher.finish(late) is ExecutionStatus.SUCCEEDED
    assert chain.executions.executions[state.execution_id] == before


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (CaughtError(error="States.Timeout", cause=""), "step_timed_out"),
        (
            CaughtError(error="Sandbox.Timedout", cause='{"errorMessage":"RequestId: x Error: Task timed out"}'),
            "step_timed_out",
        ),
        (
            CaughtError(error="Runtime.HandlerError", cause='{"errorMessage":"x Task timed out after 3.00 seconds"}'),
            "step_timed_out",
        ),
        (
            CaughtError(error="Runtime.HandlerError", cause='{"errorMessage":"secret","stackTrace":["secret.py"]}'),
            "step_failed",
        ),
        (CaughtError(error="Lambda.TooManyRequestsException", cause="Rate exceeded: secret"), "step_failed"),
        (CaughtError(error="States.DataLimitExceeded", cause="[1]"), "step_failed"),
        (CaughtError(), "step_failed"),
    ],
)
def test_a_caught_failure_that_left_no_reason_is_named_by_its_kind_only(failure: CaughtError, code: str) -> None:
    chain = Chain()
    state = msgspec.structs.replace(chain.start(steps("one")), failure=failure)
    assert chain.finisher.finish(state) is ExecutionStatus.FAILED
    view = chain.read(state)
    assert view.execution.error is not None
    assert (view.execution.error.code, view.execution.error.step) == (code, 0)
    assert view.steps[0].status == "failed"
    assert view.steps[0].record.error == view.execution.error
    assert "secret" not in str(view)


def test_finishing_what_is_unknown_is_raised() -> None:
    with pytest.raises(StateError):
        Chain().finisher.finish(ChainState(execution_id="exec_nope", key_id="key_1", step_count=1, index=0))


@pytest.mark.parametrize("status", ["ABORTED", "TIMED_OUT", "FAILED"])
def test_an_end_that_the_machine_could_not_record_is_recorded_from_outside(status: str) -> None:
    chain = Chain()
    state = chain.step(chain.start(steps("one", "two")))
    ended = EndedExecution(execution_id=state.execution_id, failure=ENGINE_FAILURES[status])
    assert chain.finisher.close(ended) is ExecutionStatus.FAILED
    stored = chain.executions.executions[state.execution_id]
    assert (stored.status, stored.error, stored.completed_at) == (
        ExecutionStatus.FAILED,
        ENGINE_FAILURES[status],
        NOW,
    )
    assert stored.usage is not None
    assert stored.usage.total_tokens == 10
    chain.clock.advance(5)
    assert chain.finisher.close(ended) is ExecutionStatus.FAILED
    assert chain.executions.executions[state.execution_id] == stored


def test_an_end_that_is_recorded_is_left_alone() -> None:
    chain = Chain()
    state = chain.step(chain.start(steps("one")))
    chain.finisher.finish(state)
    ended = EndedExecution(execution_id=state.execution_id, failure=ENGINE_FAILURES["FAILED"])
    assert chain.finisher.close(ended) is ExecutionStatus.SUCCEEDED
    assert chain.read(state).execution.error is None


def test_the_end_of_what_nobody_knows_is_nobodys_failure() -> None:
    ended = EndedExecution(execution_id="started-by-hand", failure=ENGINE_FAILURES["FAILED"])
    assert Chain().finisher.close(ended) is None


# ---- read ----


def test_a_running_execution_shows_how_far_it_is() -> None:
    chain = Chain()
    state = chain.step(chain.start(steps("one", "two", "three")))
    chain.model.error = DOWN
    with pytest.raises(ProviderUnavailableError):
        chain.step(state)
    view = chain.read(state)
    assert view.execution.status is ExecutionStatus.RUNNING
    assert [step.status for step in view.steps] == ["succeeded", "running", "pending"]
    assert view.steps[1].record.error is None
    assert view.execution.usage is not None
    assert view.execution.usage.total_tokens == 10
    assert view.execution.completed_at is None


def test_an_execution_that_ended_unrecorded_is_shown_as_the_engine_sees_it() -> None:
    chain = Chain()
    state = chain.step(chain.start(steps("one", "two")))
    aborted = Failure(code="execution_aborted", message="The execution was stopped.", type=SERVER_ERROR)
    chain.engine.statuses[state.execution_id] = EngineStatus(status=ExecutionStatus.FAILED, failure=aborted)
    view = chain.read(state)
    assert (view.execution.status, view.execution.error) == (ExecutionStatus.FAILED, aborted)
    assert [step.status for step in view.steps] == ["succeeded", "failed"]
    # Recorded as well as shown, so that it is announced.
    assert chain.executions.executions[state.execution_id] == view.execution
    assert view.execution.usage is not None
    assert view.execution.usage.total_tokens == 10
    chain.clock.advance(100)
    assert chain.read(state) == view


def test_an_execution_the_engine_never_got_is_failed_after_a_while() -> None:
    chain = Chain()
    state = chain.start(steps("one"))
    chain.engine.statuses.clear()
    assert chain.read(state).execution.status is ExecutionStatus.RUNNING
    chain.clock.advance(60)
    view = chain.read(state)
    assert view.execution.error is not None
    assert view.execution.error.code == "execution_not_started"
    assert chain.executions.executions[state.execution_id] == view.execution


def test_an_end_recorded_between_the_two_reads_is_what_is_shown() -> None:
    chain = Chain()
    state = chain.step(chain.start(steps("one")))
    status = chain.engine.status

    def ends_meanwhile(execution_id: str) -> EngineStatus | None:
        chain.finisher.finish(state)
        chain.engine.statuses[execution_id] = EngineStatus(status=ExecutionStatus.SUCCEEDED)
        return status(execution_id)

    chain.engine.status = ends_meanwhile  # type: ignore[method-assign]
    view = chain.read(state)
    assert (view.execution.status, view.execution.completed_at) == (ExecutionStatus.SUCCEEDED, NOW)


def test_another_keys_execution_an_expired_one_and_nonsense_all_look_the_same() -> None:
    chain = Chain()
    state = chain.start(steps("one"))
    messages = set()
    other = msgspec.structs.replace(CALLER, key_id="key_2")
    for asked, caller in [(state.execution_id, other), ("exec_" + "0" * 32, CALLER), ("nonsense", CALLER)]:
        with pytest.raises(NotFoundError) as caught:
            chain.reader.read(asked, caller)
        messages.add(caught.value.message)
    chain.clock.advance(30 * 86_400)
    with pytest.raises(NotFoundError) as caught:
        chain.read(state)
    assert messages == {caught.value.message}


def test_an_answer_that_cannot_be_read_is_an_error_of_ours() -> None:
    chain = Chain()
    state = chain.step(chain.start(steps("one")))
    chain.objects.bodies.clear()
    with pytest.raises(StateError):
        chain.read(state)


# ---- the key and its limits ----


def limited(chain: Chain, **limits: Any) -> None:
    chain.keys.stored[KEY.key_hash] = msgspec.structs.replace(KEY, limits=Limits(**limits))


def test_a_step_over_the_keys_rate_waits_and_goes_on() -> None:
    chain = Chain()
    limited(chain, rpm=1)
    started: list[int] = []
    chain.model.before = lambda _: started.append(int(chain.clock() // 60))
    view = chain.run(steps("one", "two", "three"), tries=1)
    assert view.execution.status is ExecutionStatus.SUCCEEDED
    assert len(set(started)) == 3
    assert [entry.outcome.value for entry in chain.log.entries] == ["completed"] * 3


def test_the_state_says_how_long_and_forgets_it_when_the_step_is_done() -> None:
    chain = Chain()
    limited(chain, rpm=1)
    state = chain.step(chain.start(steps("one", "two")))
    waiting = chain.step(state)
    until_next = 60 - chain.clock() % 60
    assert (waiting.outcome, waiting.index, waiting.waits) == ("wait", 1, 1)
    assert waiting.wait_seconds == until_next
    again = chain.step(waiting)
    assert (again.waits, again.wait_seconds) == (2, until_next + 5)
    assert chain.read(again).steps[1].status == "running"
    chain.clock.advance(until_next)
    done = chain.step(again)
    assert (done.outcome, done.waits, done.wait_seconds) == ("done", 0, None)


def test_a_spent_budget_ends_the_execution() -> None:
    chain = Chain()
    limited(chain, total_budget_micro_usd=Decimal(1))
    view = chain.run(steps("one"))
    assert view.execution.error is not None
    assert (view.execution.status, view.execution.error.code) == (ExecutionStatus.FAILED, "insufficient_quota")
    assert not chain.model.requests


def test_a_revoked_key_ends_the_execution() -> None:
    chain = Chain()
    chain.keys.stored[KEY.key_hash] = msgspec.structs.replace(KEY, revoked_at=5)
    view = chain.run(steps("one"))
    assert view.execution.error is not None
    assert (view.execution.status, view.execution.error.code) == (ExecutionStatus.FAILED, "invalid_api_key")


def test_a_key_that_is_not_seen_for_a_moment_does_not_end_the_execution() -> None:
    chain = Chain()
    chain.keys.unseen = {KEY.key_hash}
    state = chain.start(steps("one"))
    with pytest.raises(StateError):
        chain.step(state)
    chain.keys.unseen.clear()
    assert chain.step(state).outcome == "done"
