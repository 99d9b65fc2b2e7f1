from __future__ import annotations

import json
import time
from typing import Any

import pytest

from functions.admin_redrive import handler as module
from sluice.domain.redrive import DeadLetter
from sluice.services.redrive import Redrive
from sluice.testing.dead_letters import FakeDeadLetterReasons, FakeDeadLetters
from sluice.testing.invocations import ADMINISTRATOR, FakeLambdaContext, api_event
from sluice.testing.keys import FakeAudit

CANARY = "canary-that-must-not-be-logged"


class World:
    def __init__(self) -> None:
        letters = [
            DeadLetter(message_id=str(number), handle=str(number), body=CANARY, sent_ms=number) for number in range(3)
        ]
        self.letters = FakeDeadLetters(*letters, now=time.time)
        self.audit = FakeAudit()
        self.service = Redrive({"async": self.letters}, self.audit, FakeDeadLetterReasons())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(module, "service", lambda: world.service)
    return world


def redrive(name: str = "async", **event: Any) -> tuple[int, Any]:
    event.setdefault("actor", ADMINISTRATOR)
    made = api_event("POST", "/v1/admin/queues/{name}/redrive", path_parameters={"name": name}, **event)
    response = module.handler(made, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def test_dead_letters_go_back_and_the_log_says_who_moved_how_many(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    status, body = redrive()
    assert status == 200
    assert body.items() >= {"object": "queue.redrive", "queue": "async", "moved": 3, "done": True}.items()
    assert body["before_ms"] == pytest.approx(time.time() * 1000, abs=5_000)
    assert len(world.letters.sent) == 3
    output = capsys.readouterr().out
    canonical = json.loads(output.splitlines()[0])
    assert (canonical["actor"], canonical["queue"], canonical["moved"]) == (ADMINISTRATOR, "async", 3)
    assert CANARY not in output
    assert [action.actor for action in world.audit.actions] == [ADMINISTRATOR]


def test_only_what_was_sent_before_a_moment_is_moved(world: World) -> None:
    status, body = redrive(body={"before_ms": 2})
    assert (status, body["moved"], body["done"], body["before_ms"]) == (200, 2, True, 2)
    assert [letter.sent_ms for letter in world.letters.dead] == [2]


@pytest.mark.parametrize("body", [{"before_ms": -1}, {"before_ms": "now"}, {"before": 5}, "nonsense"])
def test_a_malformed_body_moves_nothing(world: World, body: object) -> None:
    assert redrive(body=body)[0] == 400
    assert world.letters.sent == []


def test_a_queue_that_is_not_there_is_not_found(world: World) -> None:
    assert redrive("nonsense")[0] == 404


def test_it_cannot_be_made_idempotent(world: World) -> None:
    status, body = redrive(headers={"idempotency-key": "once"})
    assert (status, body["error"]["code"]) == (400, "idempotency_unsupported")
    assert world.letters.sent == []


def test_a_route_that_is_deployed_without_iam_does_nothing(world: World) -> None:
    assert redrive(actor=None)[0] == 500
    assert world.letters.sent == []
