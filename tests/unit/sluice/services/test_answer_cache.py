import json
from typing import Any

import msgspec
import pytest

from sluice.domain.caching import CachedAnswer, Caching, fingerprint_of
from sluice.domain.classification import Classification, ClassificationRequest, ClassificationResult, Label
from sluice.domain.errors import ConfigurationError, SluiceError, StateError
from sluice.domain.inference import (
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    FinishReason,
    Message,
    Operation,
    ToolCall,
    Usage,
)
from sluice.domain.scoring import LeadScore, ScoreRequest, ScoreResult
from sluice.services.answer_cache import AnswerCache, Found
from sluice.testing.answers import FakeAnswers
from sluice.testing.clock import FakeClock
from sluice.testing.routes import target

NOW = 1_700_000_000.75
HOUR = Caching(ttl_s=3600)
ONE, TWO = target("bedrock/one"), target("bedrock/two")
USAGE = Usage(input_tokens=7, output_tokens=3, cache_read_tokens=2, estimated=True)
QUESTION = ChatRequest(model="auto", messages=(Message("user", "Größer?"),))
ANSWER = ChatResult(
    text="Ja: \u2713",
    finish_reason=FinishReason.TOOL_CALLS,
    usage=USAGE,
    tool_calls=(ToolCall(id="1", name="f", arguments='{"a": 1}'),),
)


class World:
    def __init__(self) -> None:
        self.store = FakeAnswers()
        self.clock = FakeClock(NOW)
        self.cache = AnswerCache(self.store, now=self.clock)

    def find(self, *, key: str = "key_1", caching: Caching = HOUR, by: Any = ONE) -> Found[ChatResult] | None:
        return self.cache.find(caching, key, Operation.CHAT, QUESTION, by, ChatResult)

    def keep(self, *, key: str = "key_1", caching: Caching = HOUR, by: Any = ONE, result: ChatResult = ANSWER) -> None:
        self.cache.keep(caching, key, Operation.CHAT, QUESTION, by, result)


@pytest.fixture
def world() -> World:
    return World()


def test_what_was_kept_is_found_with_its_age_and_its_author(world: World) -> None:
    assert world.find() is None
    world.keep()
    world.clock.time += 90
    assert world.find() == Found(result=ANSWER, age_s=90, target_name="bedrock/one")


def test_a_refusal_is_kept_as_one(world: World) -> None:
    refusal = msgspec.structs.replace(ANSWER, text="", tool_calls=(), refusal="I cannot help with that.")
    world.keep(result=refusal)
    found = world.find()
    assert found is not None
    assert found.result == refusal


def test_nobody_else_finds_it(world: World) -> None:
    world.keep()
    assert world.find(key="key_2") is None
    world.keep(key="key_2", result=msgspec.structs.replace(ANSWER, text="another"))
    found = world.find()
    assert found is not None
    assert found.result == ANSWER


def test_it_is_found_for_the_target_that_gave_it_only(world: World) -> None:
    world.keep(by=TWO)
    assert world.find(by=ONE) is None
    found = world.find(by=TWO)
    assert found is not None
    assert found.target_name == "bedrock/two"


@pytest.mark.parametrize(
    ("stored_s", "wanted_s", "age_s", "found"),
    [
        (60, 3600, 59, True),
        (60, 3600, 60, False),
        (3600, 60, 59, True),
        # Stored for longer than this request wants it.
        (3600, 60, 60, False),
    ],
)
def test_it_is_found_while_it_is_as_young_as_both_want_it(
    world: World, stored_s: int, wanted_s: int, age_s: int, found: bool
) -> None:
    world.keep(caching=Caching(ttl_s=stored_s))
    world.clock.time += age_s - 0.75
    assert (world.find(caching=Caching(ttl_s=wanted_s)) is not None) is found


def test_a_refresh_finds_nothing_and_replaces_what_there_was(world: World) -> None:
    world.keep()
    world.clock.time += 60
    refresh = Caching(ttl_s=3600, read=False)
    assert world.find(caching=refresh) is None
    fresh = msgspec.structs.replace(ANSWER, text="fresh")
    world.keep(caching=refresh, result=fresh)
    assert world.find() == Found(result=fresh, age_s=0, target_name="bedrock/one")


def test_an_answer_that_was_filtered_is_not_kept(world: World) -> None:
    world.keep(result=msgspec.structs.replace(ANSWER, finish_reason=FinishReason.CONTENT_FILTER))
    assert world.store.stored == {}


def test_a_container_whose_clock_lags_behind_tells_no_negative_age(world: World) -> None:
    world.keep()
    world.clock.time -= 5
    found = world.find()
    assert found is not None
    assert found.age_s == 0


@pytest.mark.parametrize(
    ("operation", "request_", "result"),
    [
        (
            Operation.EMBED,
            EmbeddingRequest(model="embed", inputs=("a",)),
            EmbeddingResult(vectors=((0.1, -1e-17, 3.0),), usage=USAGE),
        ),
        (
            Operation.CLASSIFY,
            ClassificationRequest(model="auto", inputs=("a",), labels=(Label("x"), Label("y"))),
            ClassificationResult(
                classifications=(Classification(label="x", score=0.75, scores=(("x", 0.75), ("y", 0.25))),),
                calls=(USAGE, Usage(input_tokens=1)),
            ),
        ),
        (
            Operation.SCORE,
            ScoreRequest(model="score", rows=[[0.5] * 50]),
            ScoreResult(scores=(LeadScore.of(0.123456789),), model_version="1"),
        ),
    ],
)
def test_every_kind_of_answer_comes_back_as_it_was(
    world: World, operation: Operation, request_: msgspec.Struct, result: msgspec.Struct
) -> None:
    world.cache.keep(HOUR, "key_1", operation, request_, ONE, result)
    found = world.cache.find(HOUR, "key_1", operation, request_, ONE, type(result))
    assert found is not None
    assert found.result == result


@pytest.mark.parametrize("error", [StateError("The table is throttling."), ConfigurationError("It may not do that.")])
def test_a_cache_that_fails_is_a_cache_that_is_not_there(
    world: World, capsys: pytest.CaptureFixture[str], error: SluiceError
) -> None:
    world.store.failing = error
    assert world.find() is None
    world.keep()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(line["level"], line["step"], line["error_code"]) for line in lines if line.get("event") == "cache_failed"]
    assert told == [("error", "find", error.code), ("error", "keep", error.code)]
    assert [line["CacheFailed"] for line in lines if "CacheFailed" in line] == [1, 1]


def test_an_answer_that_cannot_be_read_is_asked_for_anew(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    place = "key_1", fingerprint_of(Operation.CHAT, QUESTION, ONE)
    for result in (b"", b"{", b'{"text": "secret words"}', b'{"text": 5}'):
        world.store.stored[place] = CachedAnswer(
            result=result, target="bedrock/one", stored_at=int(NOW), expires_at=int(NOW) + 60
        )
        assert world.find() is None
    output = capsys.readouterr().out
    assert output.count('"event":"cache_failed"') == 4
    assert "secret words" not in output
