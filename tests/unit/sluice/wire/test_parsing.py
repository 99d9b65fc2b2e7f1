import pytest

from sluice.domain.errors import InvalidRequestError
from sluice.wire.chat import ChatCompletionRequest
from sluice.wire.parsing import parse


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"canary",
        b"[]",
        b'"canary"',
        b"5",
        b"null",
        b"\xff\xfe{}",
        b'{"model": "a\xff"}',
        b'{"model": "\\ud800"}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "canary"}]} trailing canary',
        b'{"model": "auto", "audio": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=[
        "empty",
        "cut",
        "text",
        "array",
        "string",
        "number",
        "null",
        "utf-16",
        "latin-1",
        "surrogate",
        "trailing",
        "deep",
    ],
)
def test_what_is_not_a_json_object_is_refused_without_quoting_it(body: bytes) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        parse(body, ChatCompletionRequest)
    assert raised.value.param is None
    assert "canary" not in raised.value.message
