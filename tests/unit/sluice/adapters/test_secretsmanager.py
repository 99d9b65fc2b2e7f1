from collections.abc import Iterator

import boto3
import pytest
from botocore.stub import Stubber

from sluice.adapters.secretsmanager import Secret
from sluice.domain.errors import ConfigurationError, StateError
from sluice.testing.clock import FakeClock

CANARY = "canary-that-must-not-be-told"


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        client = boto3.client("secretsmanager", region_name="us-east-1")
        self.stub = Stubber(client)
        self.stub.activate()
        self.secret = Secret(client, "arn", self.clock)

    def holds(self, text: str) -> None:
        self.stub.add_response("get_secret_value", {"SecretString": text}, {"SecretId": "arn"})


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.stub.assert_no_pending_responses()


def test_a_secret_is_read_once_in_five_minutes(world: World) -> None:
    world.holds('{"local": "one"}')
    assert world.secret.field("local") == "one"
    world.clock.advance(299)
    assert world.secret.field("local") == "one"
    world.holds('{"local": "two"}')
    world.clock.advance(2)
    assert world.secret.field("local") == "two"


def test_what_a_provider_refused_is_read_again(world: World) -> None:
    world.holds('{"local": "one"}')
    world.secret.field("local")
    world.secret.forget()
    world.holds('{"local": "two"}')
    assert world.secret.field("local") == "two"


@pytest.mark.parametrize(
    "text", [CANARY, f'["{CANARY}"]', f'{{"local": {{"a": "{CANARY}"}}}}', f'{{"other": "{CANARY}"}}']
)
def test_a_secret_of_the_wrong_form_is_misconfigured_and_not_told(world: World, text: str) -> None:
    world.holds(text)
    with pytest.raises(ConfigurationError) as raised:
        world.secret.field("local")
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDeniedException", ConfigurationError),
        ("ResourceNotFoundException", ConfigurationError),
        ("InternalServiceError", StateError),
    ],
)
def test_a_secret_that_cannot_be_read_has_its_error(world: World, code: str, kind: type[Exception]) -> None:
    world.stub.add_client_error("get_secret_value", code, CANARY)
    with pytest.raises(kind) as raised:
        world.secret.field("local")
    assert CANARY not in str(raised.value)
