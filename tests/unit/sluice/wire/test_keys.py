import json
from typing import Any

import pytest

from sluice.domain.errors import InvalidRequestError
from sluice.wire.keys import AdminKeyRequest
from sluice.wire.parsing import parse


def ask(**fields: object) -> Any:
    return parse(json.dumps(fields).encode(), AdminKeyRequest)


def test_a_name_is_all_it_takes() -> None:
    request = ask(name="Büro")
    assert (request.name, request.scopes, request.allowed_models, request.expires_at) == ("Büro", None, None, None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": "x", "allowed_models": []}, "allowed_models"),
        ({"name": "x", "allowed_models": "auto"}, "allowed_models"),
        ({"name": "x", "allowed_models": ["a,b"]}, "allowed_models[0]"),
        ({"name": "x", "allowed_models": ["auto", ""]}, "allowed_models[1]"),
        ({"name": "x", "scopes": ["Chat"]}, "scopes[0]"),
        ({"name": "x", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "x", "expires_at": 0}, "expires_at"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        ask(**fields)
    assert raised.value.param == param
