"""What a store of cached answers does, in memory and in DynamoDB and S3."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from sluice.adapters.dynamodb import size_of
from sluice.adapters.dynamodb_answers import DynamoDBAnswers
from sluice.adapters.packed import CONTENT_TYPE, Bodies
from sluice.adapters.s3_objects import S3Objects
from sluice.domain.caching import CachedAnswer
from sluice.domain.errors import ConfigurationError, StateError
from sluice.domain.ids import new_id
from sluice.domain.ports import AnswerStore
from sluice.testing.answers import FakeAnswers
from sluice.testing.objects import FakeObjects
from tests.contract.state.conftest import Aws

NOW = 1_700_000_000
PRINT = "ab" * 32
SMALL = CachedAnswer(
    result=b'{"text":"42","finish_reason":"stop"}', target="bedrock/one", stored_at=NOW, expires_at=NOW + 60
)
# Bytes that no compression makes smaller.
LARGE = msgspec.structs.replace(SMALL, result=random.Random(5).randbytes(200_000))


class Real:
    """The adapter, and what is behind it."""

    def __init__(self, aws: Aws) -> None:
        self.table, _ = aws.table()
        self.bucket = aws.bucket()
        self.s3 = aws.client("s3")
        objects = S3Objects(self.s3, self.bucket, content_type=CONTENT_TYPE, denied_is_missing=True)
        self.store = DynamoDBAnswers(self.table, Bodies(lambda: objects))

    def item(self, key_id: str) -> dict[str, Any] | None:
        return self.table.get(f"CACHE#{key_id}#{PRINT}", "V1", consistent=True)

    def objects(self, key_id: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"responses/{key_id}/")
        return [each["Key"] for each in found.get("Contents", [])]


@pytest.fixture(scope="module")
def real(aws: Aws) -> Real:
    return Real(aws)


@pytest.fixture(params=["fake", "real"])
def answers(request: pytest.FixtureRequest) -> AnswerStore:
    return FakeAnswers() if request.param == "fake" else request.getfixturevalue("real").store


@pytest.fixture
def key_id() -> str:
    return new_id("key")


def test_what_was_never_put_is_not_there(answers: AnswerStore, key_id: str) -> None:
    assert answers.get(key_id, PRINT, now=NOW) is None


@pytest.mark.parametrize("answer", [SMALL, LARGE, msgspec.structs.replace(SMALL, result=b"")])
def test_what_was_put_is_got(answers: AnswerStore, key_id: str, answer: CachedAnswer) -> None:
    answers.put(key_id, PRINT, answer)
    assert answers.get(key_id, PRINT, now=NOW) == answer


def test_another_key_and_another_question_have_their_own(answers: AnswerStore, key_id: str) -> None:
    answers.put(key_id, PRINT, SMALL)
    assert answers.get(new_id("key"), PRINT, now=NOW) is None
    assert answers.get(key_id, "cd" * 32, now=NOW) is None


@pytest.mark.parametrize("answer", [SMALL, LARGE])
def test_what_has_expired_is_not_there(answers: AnswerStore, key_id: str, answer: CachedAnswer) -> None:
    answers.put(key_id, PRINT, answer)
    assert answers.get(key_id, PRINT, now=NOW + 59.9) == answer
    assert answers.get(key_id, PRINT, now=NOW + 60) is None


@pytest.mark.parametrize(("first", "second"), [(SMALL, LARGE), (LARGE, SMALL)])
def test_a_later_answer_replaces_an_earlier_one(
    answers: AnswerStore, key_id: str, first: CachedAnswer, second: CachedAnswer
) -> None:
    answers.put(key_id, PRINT, first)
    second = msgspec.structs.replace(second, target="bedrock/two", stored_at=NOW + 5, expires_at=NOW + 10)
    answers.put(key_id, PRINT, second)
    assert answers.get(key_id, PRINT, now=NOW + 5) == second


def test_whoever_reads_while_others_write_gets_one_whole_answer(answers: AnswerStore, key_id: str) -> None:
    written = [
        msgspec.structs.replace(
            LARGE, result=random.Random(number).randbytes(20_000), target=str(number), stored_at=NOW + number
        )
        for number in range(12)
    ]
    answers.put(key_id, PRINT, written[0])
    with ThreadPoolExecutor(16) as pool:
        writing = [pool.submit(answers.put, key_id, PRINT, answer) for answer in written]
        found = list(pool.map(lambda _: answers.get(key_id, PRINT, now=NOW), range(40)))
        for write in writing:
            write.result()
    assert all(answer in written for answer in found)


# ---- What only the real store has: two places that may disagree ----


def test_an_answer_of_everyday_length_is_in_the_item_itself(real: Real, key_id: str) -> None:
    vowels = random.Random(1)
    text = " ".join("".join(vowels.choices("aeioustrnl", k=5)) for _ in range(900))
    real.store.put(key_id, PRINT, msgspec.structs.replace(SMALL, result=text.encode()))
    assert len(text) > 5_000
    assert real.objects(key_id) == []
    item = real.item(key_id)
    assert item is not None
    assert size_of(item) <= 4096 + 512
    assert item["expires_at"] == NOW + 60


def test_what_is_larger_goes_below_the_keys_own_prefix(real: Real, key_id: str) -> None:
    real.store.put(key_id, PRINT, LARGE)
    [key] = real.objects(key_id)
    assert key.startswith(f"responses/{key_id}/cache/{PRINT}/")
    item = real.item(key_id)
    assert item is not None
    assert size_of(item) <= 1024


def test_an_answer_whose_object_is_gone_is_not_there(real: Real, key_id: str) -> None:
    real.store.put(key_id, PRINT, LARGE)
    [key] = real.objects(key_id)
    real.s3.delete_object(Bucket=real.bucket, Key=key)
    assert real.store.get(key_id, PRINT, now=NOW) is None


def test_an_answer_whose_object_is_something_else_is_not_there(real: Real, key_id: str) -> None:
    real.store.put(key_id, PRINT, LARGE)
    [key] = real.objects(key_id)
    real.s3.put_object(Bucket=real.bucket, Key=key, Body=b"something else")
    assert real.store.get(key_id, PRINT, now=NOW) is None


def test_an_object_without_its_record_is_no_answer(real: Real, key_id: str) -> None:
    """A function that was killed after the one and before the other."""

    class NoTable:
        def put(self, item: object) -> None:
            raise StateError("Killed.")

    objects = S3Objects(real.s3, real.bucket)
    real.store.put(key_id, PRINT, SMALL)
    with pytest.raises(StateError):
        DynamoDBAnswers(NoTable(), Bodies(lambda: objects)).put(key_id, PRINT, LARGE)  # type: ignore[arg-type]
    assert len(real.objects(key_id)) == 1
    assert real.store.get(key_id, PRINT, now=NOW) == SMALL


def test_an_object_store_that_is_not_there_is_told(real: Real, key_id: str) -> None:
    down = FakeObjects()
    down.failing = StateError("It is not there.")
    store = DynamoDBAnswers(real.table, Bodies(lambda: down))
    with pytest.raises(StateError):
        store.put(key_id, PRINT, LARGE)
    assert real.item(key_id) is None
    real.store.put(key_id, PRINT, LARGE)
    with pytest.raises(StateError):
        store.get(key_id, PRINT, now=NOW)


def test_the_object_store_is_not_even_made_for_a_small_answer(real: Real, key_id: str) -> None:
    def make() -> FakeObjects:
        raise AssertionError("Nobody needs it.")

    store = DynamoDBAnswers(real.table, Bodies(make))
    store.put(key_id, PRINT, SMALL)
    assert store.get(key_id, PRINT, now=NOW) == SMALL


def test_nothing_of_an_answer_is_stored_in_the_clear(real: Real, key_id: str) -> None:
    real.store.put(key_id, PRINT, msgspec.structs.replace(SMALL, result=b'{"text":"the answer of the model"}'))
    assert "answer of the model" not in repr(real.item(key_id))


def test_a_malformed_item_is_named(real: Real, key_id: str) -> None:
    real.table.put({"pk": f"CACHE#{key_id}#{PRINT}", "sk": "V1", "expires_at": NOW + 5})
    with pytest.raises(ConfigurationError, match="CACHE#"):
        real.store.get(key_id, PRINT, now=NOW)
