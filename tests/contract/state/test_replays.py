"""What a store of replayed responses does, in memory and in DynamoDB and S3."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from local import cloud as local_cloud
from local.instance import Instance
from sluice.adapters.dynamodb import Table, from_item, size_of
from sluice.adapters.dynamodb_replays import DynamoDBReplays
from sluice.adapters.packed import CONTENT_TYPE, Bodies
from sluice.adapters.s3_objects import S3Objects
from sluice.domain.errors import ConfigurationError, IdempotencyMismatchError, RequestInFlightError, StateError
from sluice.domain.ids import new_id
from sluice.domain.ports import ReplayStore
from sluice.domain.replay import ReplayClaim, StoredResponse, name_of
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.idempotency import idempotent
from sluice.services.idempotency import Idempotency
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.objects import FakeObjects
from sluice.testing.replays import FakeReplays
from tests.contract.state.conftest import Aws

NOW = 1_700_000_000
DAY = 86_400
HEADERS = {
    "x-sluice-target": "bedrock/extractive-v1",
    "x-sluice-attempts": "1",
    "x-sluice-fallbacks": "0",
    "x-sluice-cost-usd": "0.00000105",
    "x-sluice-overhead-ms": "12.3",
    "x-sluice-cache": "miss",
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-remaining-requests": "599",
    "x-ratelimit-reset-requests": "12s",
}
SMALL = StoredResponse(status=202, headers=HEADERS, body=b'{"id":"async_1","status":"queued"}')
# Bytes that no compression makes smaller.
LARGE = StoredResponse(status=200, headers={}, body=random.Random(4).randbytes(200_000))
_claims = itertools.count()


class Real:
    """The adapter, and what is behind it."""

    def __init__(self, aws: Aws) -> None:
        self.table, _ = aws.table()
        self.bucket = aws.bucket()
        self.s3 = aws.client("s3")
        objects = S3Objects(self.s3, self.bucket, content_type=CONTENT_TYPE, denied_is_missing=True)
        self.store = DynamoDBReplays(self.table, Bodies(lambda: objects))

    def item(self, claim: ReplayClaim) -> dict[str, Any] | None:
        return self.table.get(f"IDEM#{claim.key_id}#{claim.name}", "V1", consistent=True)

    def objects(self, claim: ReplayClaim) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"responses/{claim.key_id}/")
        return [each["Key"] for each in found.get("Contents", [])]


@pytest.fixture(scope="module")
def real(aws: Aws) -> Real:
    return Real(aws)


@pytest.fixture(params=["fake", "real"])
def replays(request: pytest.FixtureRequest) -> ReplayStore:
    return FakeReplays() if request.param == "fake" else request.getfixturevalue("real").store


def new_claim(**changes: Any) -> ReplayClaim:
    claim = ReplayClaim(
        key_id=new_id("key"),
        name=name_of("order-1"),
        fingerprint=name_of("the request"),
        claim_id=f"claim-{next(_claims)}",
        until=NOW + 35,
        expires_at=NOW + DAY,
    )
    return msgspec.structs.replace(claim, **changes)


def repeated(claim: ReplayClaim, **changes: Any) -> ReplayClaim:
    """Another request's claim on the same place."""
    return msgspec.structs.replace(claim, claim_id=f"claim-{next(_claims)}", **changes)


def begun(replays: ReplayStore, claim: ReplayClaim, *, now: float = NOW) -> ReplayClaim:
    assert replays.begin(claim, now=now) is None
    return claim


def test_the_first_gets_the_claim_and_the_next_has_to_wait(replays: ReplayStore) -> None:
    claim = begun(replays, new_claim())
    with pytest.raises(RequestInFlightError) as raised:
        replays.begin(repeated(claim), now=NOW + 5.5)
    assert raised.value.retry_after_s == 29.5


@pytest.mark.parametrize("response", [SMALL, LARGE, StoredResponse(status=204, headers={}, body=b"")])
def test_a_response_is_given_again_as_it_was(replays: ReplayStore, response: StoredResponse) -> None:
    claim = begun(replays, new_claim())
    replays.complete(claim, response)
    for _ in range(2):
        assert replays.begin(repeated(claim), now=NOW + 40) == response


def test_another_request_is_refused_before_and_after_the_response(replays: ReplayStore) -> None:
    claim = begun(replays, new_claim())
    other = repeated(claim, fingerprint=name_of("another request"))
    with pytest.raises(IdempotencyMismatchError):
        replays.begin(other, now=NOW)
    replays.complete(claim, SMALL)
    with pytest.raises(IdempotencyMismatchError):
        replays.begin(other, now=NOW)
    assert replays.begin(repeated(claim), now=NOW) == SMALL


def test_a_claim_that_was_given_back_is_anybodys(replays: ReplayStore) -> None:
    claim = begun(replays, new_claim())
    replays.release(claim)
    begun(replays, repeated(claim, fingerprint=name_of("another request")))


def test_a_claim_falls_to_the_next_once_its_function_cannot_be_alive(replays: ReplayStore) -> None:
    claim = begun(replays, new_claim())
    with pytest.raises(RequestInFlightError):
        replays.begin(repeated(claim), now=NOW + 34.9)
    second = begun(replays, repeated(claim, until=NOW + 70), now=NOW + 35)
    # Whoever lost it changes nothing any more.
    replays.complete(claim, LARGE)
    replays.release(claim)
    with pytest.raises(RequestInFlightError):
        replays.begin(repeated(claim), now=NOW + 36)
    replays.complete(second, SMALL)
    assert replays.begin(repeated(claim), now=NOW + 36) == SMALL
    replays.release(claim)
    assert replays.begin(repeated(claim), now=NOW + 36) == SMALL


def test_a_claim_that_was_not_taken_over_is_completed_late(replays: ReplayStore) -> None:
    claim = begun(replays, new_claim())
    replays.complete(claim, SMALL)
    assert replays.begin(repeated(claim), now=NOW + 1000) == SMALL


def test_a_response_is_forgotten_when_it_expires(replays: ReplayStore) -> None:
    claim = begun(replays, new_claim())
    replays.complete(claim, SMALL)
    assert replays.begin(repeated(claim), now=NOW + DAY - 0.1) == SMALL
    again = repeated(claim, fingerprint=name_of("another request"), until=NOW + DAY + 35, expires_at=NOW + 2 * DAY)
    begun(replays, again, now=NOW + DAY)
    with pytest.raises(RequestInFlightError):
        replays.begin(repeated(again), now=NOW + DAY)


def test_api_keys_do_not_share(replays: ReplayStore) -> None:
    one = begun(replays, new_claim())
    replays.complete(one, SMALL)
    other = repeated(one, key_id=new_id("key"), fingerprint=name_of("another request"))
    begun(replays, other)
    replays.release(other)
    assert replays.begin(repeated(one), now=NOW) == SMALL


def test_completing_and_releasing_what_is_not_there_changes_nothing(replays: ReplayStore) -> None:
    claim = new_claim()
    replays.complete(claim, SMALL)
    replays.release(claim)
    begun(replays, claim)


def test_of_fifty_at_once_one_gets_the_claim(replays: ReplayStore) -> None:
    first = new_claim()
    everybody = threading.Barrier(50)

    def begin(claim: ReplayClaim) -> str:
        everybody.wait()
        try:
            return "claimed" if replays.begin(claim, now=NOW) is None else "replayed"
        except RequestInFlightError:
            return "in flight"

    with ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(begin, [repeated(first) for _ in range(50)]))
    assert sorted(outcomes) == ["claimed"] + ["in flight"] * 49


def test_of_fifty_who_find_an_abandoned_claim_one_gets_it(replays: ReplayStore) -> None:
    abandoned = begun(replays, new_claim())
    everybody = threading.Barrier(50)

    def begin(claim: ReplayClaim) -> bool:
        everybody.wait()
        try:
            return replays.begin(claim, now=NOW + 35) is None
        except RequestInFlightError:
            return False

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(begin, [repeated(abandoned, until=NOW + 70) for _ in range(50)])) == 1


def test_of_fifty_identical_requests_one_is_worked_on(replays: ReplayStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way that a POST takes through a function."""
    monkeypatch.setenv("SLUICE_ENVIRONMENT", "test")
    monkeypatch.setenv("SLUICE_SERVICE", "function-under-test")
    calls: list[str] = []
    caller = CALLER | {"key_id": new_id("key")}

    @api_function
    @idempotent(lambda: Idempotency(replays, ttl_s=DAY))
    def handler(request: ApiRequest) -> ApiResponse:
        calls.append(request.request_id)
        time.sleep(0.2)
        return ApiResponse(200, {"call": len(calls)})

    def post(number: int) -> dict[str, Any]:
        headers = {"idempotency-key": "order-1" if number % 2 else '"order-1"', "x-request-id": f"request-{number}"}
        event = api_event("POST", "/v1/chat", body={"prompt": "Hello"}, headers=headers, authorizer=caller)
        everybody.wait()
        return handler(event, FakeLambdaContext())

    everybody = threading.Barrier(50)
    with ThreadPoolExecutor(50) as pool:
        responses = list(pool.map(post, range(50)))
    everybody = threading.Barrier(1)
    responses.append(post(50))
    assert len(calls) == 1
    answered = [response for response in responses if response["statusCode"] == 200]
    refused = [response for response in responses if response["statusCode"] == 409]
    assert len(answered) + len(refused) == 51
    assert {response["body"] for response in answered} == {'{"call":1}'}
    assert [response["headers"].get("idempotent-replayed") for response in answered].count(None) == 1
    assert {response["headers"]["x-should-retry"] for response in refused} <= {"false"}
    assert responses[50]["headers"]["idempotent-replayed"] == "true"


# ---- What only the real store has: two places that may disagree ----


def test_a_call_whose_answer_was_lost_may_be_made_twice(real: Real) -> None:
    """As botocore does."""
    claim = begun(real.store, new_claim())
    begun(real.store, claim)
    real.store.complete(claim, SMALL)
    real.store.complete(claim, SMALL)
    assert real.store.begin(repeated(claim), now=NOW) == SMALL
    real.store.release(claim)
    real.store.release(claim)
    begun(real.store, repeated(claim))


def test_a_small_response_stays_within_one_write_unit(real: Real) -> None:
    claim = begun(real.store, new_claim())
    real.store.complete(claim, SMALL)
    item = real.item(claim)
    assert item is not None
    assert size_of(item) <= 1024
    assert real.objects(claim) == []
    assert item["expires_at"] == claim.expires_at


@pytest.mark.parametrize("size", range(640, 1040, 20))
def test_whatever_its_size_an_item_is_one_write_unit(real: Real, size: int) -> None:
    claim = begun(real.store, new_claim())
    response = StoredResponse(status=200, headers={}, body=random.Random(size).randbytes(size))
    real.store.complete(claim, response)
    item = real.item(claim)
    assert item is not None
    assert size_of(item) <= 1024
    assert len(real.objects(claim)) == (0 if "packed" in item else 1)
    assert real.store.begin(repeated(claim), now=NOW) == response


def test_what_is_larger_goes_below_the_keys_own_prefix(real: Real) -> None:
    claim = begun(real.store, new_claim())
    real.store.complete(claim, LARGE)
    [key] = real.objects(claim)
    assert key == f"responses/{claim.key_id}/replay/{claim.name}/{claim.claim_id}"
    assert real.s3.head_object(Bucket=real.bucket, Key=key)["ContentType"] == "application/zlib"


def test_nothing_of_the_key_or_the_request_is_stored_in_the_clear(real: Real) -> None:
    claim = begun(real.store, new_claim(name=name_of("order-of-ada")))
    real.store.complete(claim, msgspec.structs.replace(SMALL, body=b'{"text":"the answer of the model"}'))
    item = real.item(claim)
    assert "order-of-ada" not in repr(item)
    assert "answer of the model" not in repr(item)


def test_a_response_whose_object_is_gone_counts_as_given_back(real: Real) -> None:
    claim = begun(real.store, new_claim())
    real.store.complete(claim, LARGE)
    [key] = real.objects(claim)
    real.s3.delete_object(Bucket=real.bucket, Key=key)
    second = begun(real.store, repeated(claim))
    with pytest.raises(RequestInFlightError):
        real.store.begin(repeated(claim), now=NOW)
    real.store.complete(second, LARGE)
    assert real.store.begin(repeated(claim), now=NOW) == LARGE


def test_a_response_whose_object_is_something_else_counts_as_given_back(real: Real) -> None:
    claim = begun(real.store, new_claim())
    real.store.complete(claim, LARGE)
    [key] = real.objects(claim)
    real.s3.put_object(Bucket=real.bucket, Key=key, Body=b"something else")
    begun(real.store, repeated(claim))


def test_of_fifty_who_find_the_object_gone_one_gets_the_claim(real: Real) -> None:
    first = begun(real.store, new_claim())
    real.store.complete(first, LARGE)
    [key] = real.objects(first)
    real.s3.delete_object(Bucket=real.bucket, Key=key)
    everybody = threading.Barrier(50)

    def begin(claim: ReplayClaim) -> bool:
        everybody.wait()
        try:
            return real.store.begin(claim, now=NOW) is None
        except RequestInFlightError:
            return False

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(begin, [repeated(first) for _ in range(50)])) == 1


def test_a_function_that_is_killed_between_object_and_record_leaves_a_claim(real: Real) -> None:
    objects = S3Objects(real.s3, real.bucket)

    class Killed(BaseException):
        """Nothing of ours catches it."""

    class KilledAfterwards(FakeObjects):
        def put(self, key: str, body: bytes) -> None:
            objects.put(key, body)
            raise Killed

    claim = begun(real.store, new_claim())
    with pytest.raises(Killed):
        DynamoDBReplays(real.table, Bodies(KilledAfterwards)).complete(claim, LARGE)
    assert len(real.objects(claim)) == 1
    with pytest.raises(RequestInFlightError):
        real.store.begin(repeated(claim), now=NOW)
    second = begun(real.store, repeated(claim), now=NOW + 35)
    real.store.complete(second, SMALL)
    assert real.store.begin(repeated(claim), now=NOW + 36) == SMALL


def test_a_body_that_cannot_be_stored_leaves_the_claim_as_it_was(real: Real) -> None:
    down = FakeObjects()
    down.failing = StateError("It is not there.")
    claim = begun(real.store, new_claim())
    with pytest.raises(StateError):
        DynamoDBReplays(real.table, Bodies(lambda: down)).complete(claim, LARGE)
    with pytest.raises(RequestInFlightError):
        real.store.begin(repeated(claim), now=NOW)


def test_an_object_store_that_is_not_there_is_no_reason_to_do_it_again(real: Real) -> None:
    down = FakeObjects()
    down.failing = StateError("It is not there.")
    claim = begun(real.store, new_claim())
    real.store.complete(claim, LARGE)
    with pytest.raises(StateError):
        DynamoDBReplays(real.table, Bodies(lambda: down)).begin(repeated(claim), now=NOW)
    assert real.store.begin(repeated(claim), now=NOW) == LARGE


def test_a_late_writer_does_not_touch_the_object_of_whoever_took_over(real: Real) -> None:
    claim = begun(real.store, new_claim())
    second = begun(real.store, repeated(claim, until=NOW + 70), now=NOW + 35)
    real.store.complete(second, LARGE)
    real.store.complete(claim, msgspec.structs.replace(LARGE, body=LARGE.body[::-1]))
    assert real.store.begin(repeated(claim), now=NOW + 36) == LARGE


def test_a_malformed_item_is_named(real: Real) -> None:
    claim = new_claim()
    real.table.put(
        {"pk": f"IDEM#{claim.key_id}#{claim.name}", "sk": "V1", "lives_until": NOW + 5, "expires_at": NOW + 5}
    )
    with pytest.raises(ConfigurationError, match="IDEM#"):
        real.store.begin(claim, now=NOW)


class Wire:
    """The calls that leave, with the sizes of the items they write."""

    def __init__(self, client: Any) -> None:
        self.calls: list[str] = []
        self.sizes: list[int] = []
        client.meta.events.register("before-parameter-build.dynamodb", self._note)

    def _note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.calls.append(model.name)
        if "Item" in params:
            self.sizes.append(size_of(from_item(params["Item"])))


@pytest.fixture
def wired(cloud: Instance, real: Real) -> Iterator[tuple[DynamoDBReplays, Wire]]:
    client = local_cloud.client(cloud, "dynamodb")
    wire = Wire(client)
    objects = S3Objects(real.s3, real.bucket)
    yield DynamoDBReplays(Table(client, real.table._name), Bodies(lambda: objects)), wire
    client.close()


@pytest.mark.parametrize("response", [SMALL, LARGE])
def test_a_request_costs_two_round_trips_more_and_a_replay_one(
    wired: tuple[DynamoDBReplays, Wire], real: Real, response: StoredResponse
) -> None:
    replays, wire = wired
    claim = begun(replays, new_claim())
    replays.complete(claim, response)
    assert wire.calls == ["PutItem", "UpdateItem"]
    item = real.item(claim)
    assert item is not None
    # One write unit each: the claim, and the item with the response.
    assert wire.sizes[0] <= 1024
    assert size_of(item) <= 1024
    assert replays.begin(repeated(claim), now=NOW) == response
    assert wire.calls == ["PutItem", "UpdateItem", "PutItem"]


def test_a_request_that_fails_costs_two_as_well(wired: tuple[DynamoDBReplays, Wire]) -> None:
    replays, wire = wired
    replays.release(begun(replays, new_claim()))
    assert wire.calls == ["PutItem", "DeleteItem"]
