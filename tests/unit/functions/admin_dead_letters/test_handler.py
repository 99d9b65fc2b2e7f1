from __future__ import annotations

import json
from typing import Any

import pytest

from functions.admin_dead_letters import handler as module
from sluice.domain.errors import StateError
from sluice.domain.redrive import DeadLetterReason, QueueDepth
from sluice.services.dead_letters import InspectQueues
from sluice.testing.dead_letters import FakeDeadLetterReasons, FakeQueueDepths
from sluice.testing.invocations import ADMINISTRATOR, FakeLambdaContext, api_event


class World:
    def __init__(self) -> None:
        self.reasons = FakeDeadLetterReasons(*(reason(number) for number in range(3)))
        self.service = InspectQueues(
            FakeQueueDepths(
                QueueDepth(queue="async", waiting=0, in_flight=0, delayed=0, dead=0),
                QueueDepth(queue="chunks", waiting=7, in_flight=4, delayed=1, dead=5),
            ),
            self.reasons,
        )


def reason(number: int) -> DeadLetterReason:
    return DeadLetterReason(
        queue="chunks",
        message_id=f"message-{number}",
        subject=f"batch_{'0' * 32}/{number}",
        code="state_throttled",
        message="The table is throttling. Try again.",
        at=1_795_219_200 + number,
        receives=6,
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(module, "service", lambda: world.service)
    return world


def get(resource: str, **event: Any) -> tuple[int, Any]:
    made = api_event("GET", f"/v1/admin/{resource}", actor=ADMINISTRATOR, **event)
    response = module.handler(made, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def dead_letters(name: str, **query: str) -> tuple[int, Any]:
    return get("queues/{name}/dead-letters", path_parameters={"name": name}, query=query)


def test_every_queue_is_there_with_what_is_in_it(world: World) -> None:
    status, body = get("queues")
    assert (status, body["object"]) == (200, "list")
    assert [queue["name"] for queue in body["data"]] == ["async", "chunks"]
    assert body["data"][1] == {
        "object": "queue",
        "name": "chunks",
        "waiting": 7,
        "in_flight": 4,
        "delayed": 1,
        "dead_letters": 5,
    }


def test_the_newest_dead_letters_say_why_they_died(world: World) -> None:
    status, body = dead_letters("chunks", limit="2")
    assert (status, body["queue"], body["dead_letters"], body["has_more"]) == (200, "chunks", 5, True)
    assert [letter["message_id"] for letter in body["data"]] == ["message-2", "message-1"]
    assert body["data"][0] == {
        "object": "dead_letter",
        "message_id": "message-2",
        "subject": f"batch_{'0' * 32}/2",
        "code": "state_throttled",
        "message": "The table is throttling. Try again.",
        "receives": 6,
        "failed_at": 1_795_219_202,
    }


def test_as_many_as_there_are_are_all(world: World) -> None:
    status, body = dead_letters("chunks", limit="3")
    assert (status, len(body["data"]), body["has_more"]) == (200, 3, False)


def test_a_queue_without_dead_letters_has_an_empty_list(world: World) -> None:
    status, body = dead_letters("async")
    assert (status, body["data"], body["dead_letters"], body["has_more"]) == (200, [], 0, False)


def test_a_queue_that_is_not_there_is_not_found_and_the_others_are_named(world: World) -> None:
    status, body = dead_letters("nonsense")
    assert status == 404
    assert "async, chunks" in body["error"]["message"]


@pytest.mark.parametrize("limit", ["0", "101", "many", "-1"])
def test_a_limit_that_cannot_be_is_refused(world: World, limit: str) -> None:
    status, body = dead_letters("chunks", limit=limit)
    assert (status, body["error"]["param"]) == (400, "limit")


def test_a_table_that_does_not_answer_is_told(world: World) -> None:
    world.reasons.failing = StateError("The table is not available.")
    assert dead_letters("chunks")[0] >= 500
