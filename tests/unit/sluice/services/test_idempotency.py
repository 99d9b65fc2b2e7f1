import json

import pytest

from sluice.domain.errors import (
    ConfigurationError,
    IdempotencyMismatchError,
    InvalidRequestError,
    RequestInFlightError,
    SluiceError,
    StateError,
)
from sluice.domain.replay import ReplayClaim, StoredResponse, name_of
from sluice.services.idempotency import Idempotency
from sluice.testing.clock import FakeClock
from sluice.testing.replays import FakeReplays

NOW = 1_700_000_000.25
RESPONSE = StoredResponse(status=200, headers={"x": "y"}, body=b"{}")


class World:
    def __init__(self, *, ttl_s: int = 86_400) -> None:
        self.store = FakeReplays()
        self.clock = FakeClock(NOW)
        self.replays = Idempotency(self.store, ttl_s=ttl_s, now=self.clock)

    def claim(self, header: str = "order-1", *, key: str = "key_1", asked: str = "f1") -> ReplayClaim:
        return self.replays.claim(key, header, asked, alive_s=29.0)


@pytest.fixture
def world() -> World:
    return World()


def test_a_claim_outlives_its_function_and_is_forgotten_a_day_later(world: World) -> None:
    claim = world.claim()
    assert claim.until == 1_700_000_035
    assert claim.expires_at == 1_700_086_400
    assert (claim.key_id, claim.name, claim.fingerprint) == ("key_1", name_of("order-1"), "f1")


def test_a_claim_is_never_forgotten_before_it_ends() -> None:
    claim = World(ttl_s=1).claim()
    assert claim.expires_at == claim.until


def test_no_two_claims_are_the_same(world: World) -> None:
    assert len({world.claim().claim_id for _ in range(100)}) == 100


def test_what_is_no_key_is_refused_before_anything_is_claimed(world: World) -> None:
    with pytest.raises(InvalidRequestError):
        world.claim("two words")
    assert world.store.records == {}


def test_the_first_works_and_the_rest_get_what_it_left(world: World) -> None:
    first = world.claim()
    assert world.replays.begin(first) is None
    with pytest.raises(RequestInFlightError) as raised:
        world.replays.begin(world.claim('"order-1"'))
    assert raised.value.retry_after_s == 34.75
    world.replays.complete(first, RESPONSE)
    assert world.replays.begin(world.claim('"order-1"')) == RESPONSE
    with pytest.raises(IdempotencyMismatchError):
        world.replays.begin(world.claim(asked="f2"))
    assert world.replays.begin(world.claim(key="key_2")) is None


@pytest.mark.parametrize("step", ["complete", "release"])
def test_a_store_that_fails_at_the_end_is_logged_and_no_more(
    world: World, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    world.store.failing[step] = StateError("The table is throttling.")
    claim = world.claim()
    assert world.replays.begin(claim) is None
    if step == "complete":
        world.replays.complete(claim, RESPONSE)
    else:
        world.replays.release(claim)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [told] = [line for line in lines if line.get("event") == "idempotency_failed"]
    assert (told["level"], told["step"], told["error_code"]) == ("error", step, "state_unavailable")
    assert [line["IdempotencyFailed"] for line in lines if "IdempotencyFailed" in line] == [1]
    # It runs out by itself, and then the request may be made again.
    with pytest.raises(RequestInFlightError):
        world.replays.begin(world.claim())
    world.clock.time = claim.until
    assert world.replays.begin(world.claim()) is None


def test_a_store_that_fails_at_the_beginning_fails_the_request(world: World) -> None:
    world.store.failing["begin"] = StateError("The table is throttling.")
    with pytest.raises(StateError):
        world.replays.begin(world.claim())


@pytest.mark.parametrize(
    ("error", "raises"), [(StateError("It is not there."), False), (ConfigurationError("It may not."), True)]
)
def test_a_permission_that_is_missing_is_not_passed_over(world: World, error: SluiceError, raises: bool) -> None:
    claim = world.claim()
    world.replays.begin(claim)
    world.store.failing["complete"] = error
    if raises:
        with pytest.raises(ConfigurationError):
            world.replays.complete(claim, RESPONSE)
    else:
        world.replays.complete(claim, RESPONSE)


def test_giving_a_claim_back_never_hides_why(world: World) -> None:
    world.store.failing["release"] = ConfigurationError("It may not.")
    world.replays.release(world.claim())
