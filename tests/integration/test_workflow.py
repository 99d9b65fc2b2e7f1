"""Workflow mode through the public API: a chain of prompts on Step Functions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.support import Platform, eventually, local

TEXT = "The harbour was built in 1820. It burned down in 1871. The new quay is made of granite."


def start(platform: Platform, steps: list[dict[str, Any]], **fields: object) -> dict[str, Any]:
    answer = platform.call("POST", "/workflows/chain/executions", {"steps": steps, **fields})
    assert answer.status == 202, answer.body
    assert answer.headers["location"].endswith(f"/v1/workflows/executions/{answer.body['id']}")
    return dict(answer.body)


def ended(platform: Platform, execution_id: str, *, within_s: float = 60) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        body = platform.call("GET", f"/workflows/executions/{execution_id}").body
        return body if body["status"] != "running" else None

    return eventually(probe, within_s=within_s, what=f"the end of {execution_id}")


def test_each_step_uses_the_answer_before_it(platform: Platform) -> None:
    steps = [
        {"name": "find", "prompt": "{{input}}\n\nWhat is the new quay made of?"},
        {
            "name": "repeat",
            "prompt": "The answer was: {{previous}} Nothing else is known.\n\nWhat is the quay made of?",
        },
        {"name": "sum-up", "prompt": "What material was named?", "model": "openai/extractive-v1"},
    ]
    execution = start(platform, steps, input=TEXT)
    done = ended(platform, execution["id"])
    assert done["status"] == "succeeded", done
    outputs = [step["output"] for step in done["steps"]]
    assert [step["name"] for step in done["steps"]] == ["find", "repeat", "sum-up"]
    # Only the first step ever saw the text: "granite" can reach the last one only through the answers between.
    assert all("granite" in output for output in outputs)
    assert "1820" not in outputs[-1]
    assert done["usage"]["total_tokens"] == sum(step["usage"]["total_tokens"] for step in done["steps"])
    assert float(done["cost_usd"]) > 0


def test_a_failed_step_is_visible_with_its_reason(healthy: Platform) -> None:
    healthy.fault("extractive-v1", kind="error", status=400, protocol="openai")
    steps = [
        {"name": "fine", "prompt": "{{input}} What burned?", "model": "bedrock/extractive-v1"},
        {"name": "broken", "prompt": "And now?", "model": "openai/extractive-v1"},
    ]
    execution = start(healthy, steps, input=TEXT)
    done = ended(healthy, execution["id"])
    assert done["status"] == "failed"
    assert done["error"]["step"] == 1
    assert done["error"]["message"]
    assert [step["status"] for step in done["steps"]] == ["succeeded", "failed"]
    assert done["steps"][1]["error"]["code"] == "provider_rejected"


def test_a_step_that_fails_for_a_while_is_retried_by_the_state_machine(healthy: Platform) -> None:
    healthy.fault("extractive-v1", kind="error", status=503, times=5)
    execution = start(
        healthy, [{"prompt": "{{input}} When did it burn down?", "model": "bedrock/extractive-v1"}], input=TEXT
    )
    done = ended(healthy, execution["id"], within_s=90)
    assert done["status"] == "succeeded", done
    arn = healthy.env["SLUICE_STATE_MACHINE_ARN"].replace(":stateMachine:", ":execution:") + ":" + execution["id"]
    history = healthy.aws("stepfunctions").get_execution_history(executionArn=arn)["events"]
    assert sum("Failed" in event["type"] for event in history) >= 1
    assert TEXT not in str(history)


def test_a_step_that_never_works_ends_the_execution_with_its_reason(healthy: Platform) -> None:
    healthy.fault("extractive-v1", kind="error", status=503)
    execution = start(healthy, [{"prompt": "{{input}} When?", "model": "bedrock/extractive-v1"}], input=TEXT)
    done = ended(healthy, execution["id"], within_s=150)
    assert done["status"] == "failed"
    assert done["error"]["message"]
    assert "Traceback" not in str(done)


def test_a_stopped_execution_is_shown_failed_with_its_code(healthy: Platform) -> None:
    healthy.fault("extractive-v1", kind="hang")
    steps = [{"prompt": "{{input}} When?", "model": "bedrock/extractive-v1"}, {"prompt": "And now?"}]
    execution = start(healthy, steps, input=TEXT)
    healthy.stop(execution["id"])
    done = ended(healthy, execution["id"])
    assert (done["status"], done["error"]["code"]) == ("failed", "execution_aborted")
    assert [step["status"] for step in done["steps"]] == ["failed", "skipped"]
    [stored] = [item for item in healthy.items(f"EXEC#{execution['id']}") if item["sk"]["S"] == "META"]
    assert (stored["status"]["S"], stored["error"]["M"]["code"]["S"]) == ("failed", "execution_aborted")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "steps"),
        ({"steps": []}, "steps"),
        ({"steps": [{"prompt": 1}]}, "steps[0].prompt"),
        ({"steps": [{"prompt": "x"}] * 21}, "steps"),
    ],
)
def test_a_malformed_definition_is_refused_by_the_name_of_the_field(
    platform: Platform, body: dict[str, object], param: str
) -> None:
    answer = platform.call("POST", "/workflows/chain/executions", body)
    assert (answer.status, answer.body["error"]["param"]) == (400, param)


def test_unknown_names_are_not_found(platform: Platform) -> None:
    steps = [{"prompt": "x"}]
    assert platform.call("POST", "/workflows/nope/executions", {"steps": steps}).status == 404
    unknown = platform.call("POST", "/workflows/chain/executions", {"steps": [{"prompt": "x", "model": "nope"}]})
    assert (unknown.status, unknown.body["error"]["code"]) == (404, "model_not_found")
    assert platform.call("GET", "/workflows/executions/exec_00000000000000000000000000000000").status == 404


def test_another_keys_execution_is_not_found(platform: Platform) -> None:
    execution = start(platform, [{"prompt": "{{input}} What burned?"}], input=TEXT)
    made = local("key", "yet-another-tenant")
    other = next(word for word in made.stdout.split() if word.startswith("sk-sluice-"))
    assert platform.call("GET", f"/workflows/executions/{execution['id']}", key=other).status == 404
