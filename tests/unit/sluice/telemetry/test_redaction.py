import json
import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.telemetry import logs, metrics
from sluice.telemetry.redaction import redact_event, redacted

AWS_KEY = "AKIA" + "IOSFODNN7EXAMPLE"
JWT = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"

SECRETS = {
    "a key of Sluice": "sk-sluice-" + "Ab3-_" * 8 + "xyz",
    "a secret of webhooks": "whsec_" + "a1B+/" * 8 + "xyz=",
    "a key of OpenAI": "sk-proj-" + "a1B2" * 12,
    "a key of Anthropic": "sk-ant-api03-" + "a1B2_" * 10,
    "a key of OpenRouter": "sk-or-v1-" + "0af9" * 16,
    "a key of Stripe": "sk_live_" + "a1B2" * 6,
    "a token of GitHub": "ghp_" + "a1B2" * 9,
    "a fine-grained token of GitHub": "github_pat_" + "a1B2_" * 10,
    "a token of GitLab": "glpat-" + "a1B2-" * 5,
    "a token of Slack": "xoxb-" + "123456789012-abcdefGHIJ",
    "a key of Google": "AIza" + "a1B2-" * 7,
    "a token of Hugging Face": "hf_" + "a1B2" * 9,
    "a token of PyPI": "pypi-" + "AgEI" * 20,
    "an access key id of AWS": AWS_KEY,
    "a JSON Web Token": JWT,
    "a private key": PEM,
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
@pytest.mark.parametrize("around", ["{}", "before {} after", "({})", 'x="{}",', "https://host/{}?a=b", "key={}"])
def test_a_secret_is_blacked_out_wherever_it_stands(secret: str, around: str) -> None:
    shown = redacted(around.format(secret))
    assert secret not in shown
    assert "[redacted:secret]" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.DEF-123_456", "Authorization: Bearer [redacted:secret]"),
        ("authorization: basic dXNlcjpwYXNz", "authorization: basic [redacted:secret]"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAM", "aws_secret_access_key = [redacted:secret]"),
        ('{"password":"hunter2hunter2"}', '{"password":"[redacted:secret]"}'),
        ("api_key=0123456789abcdef&x=1", "api_key=[redacted:secret]&x=1"),
        ("X-Amz-Signature=0af90af90af9", "X-Amz-Signature=[redacted:secret]"),
        ("postgres://user:p4ssw0rd!!@host/db", "postgres://user:[redacted:secret]@host/db"),
    ],
)
def test_what_names_a_secret_stays_and_the_secret_goes(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ada.lovelace+test@analytical-engine.co.uk", "email"),
        ("4111 1111 1111 1111", "card"),
        ("4111111111111111", "card"),
        ("5500-0000-0000-0004", "card"),
        ("3782 822463 10005", "card"),
        ("6011111111111117", "card"),
        ("DE89 3704 0044 0532 0130 00", "iban"),
        ("GB82WEST12345698765432", "iban"),
        ("+49 (0)30 901820-00", "phone"),
        ("+14155552671", "phone"),
        ("+44 20 7946 0958", "phone"),
        ("(415) 555-2671", "phone"),
        ("415-555-2671", "phone"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "call {} now", "<{}>", "of '{}'.", "a: {}, b"])
def test_personal_data_is_blacked_out(text: str, kind: str, around: str) -> None:
    assert redacted(around.format(text)) == around.format(f"[redacted:{kind}]")


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T09:05:29.123456Z",
        "1-67890abc-1234567890abcdef12345678",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "12345678-1234-1234-1234-123456789012",
        "chatcmpl-0123456789abcdef0123456789abcdef",
        "key_4111111111111111",
        "bedrock/us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
        "https://sqs.us-east-1.amazonaws.com/123456789012/sluice-prod-async",
        "1700000000123",
        "4111111111111112",
        "1234567890123452",
        "DE89370400440532013001",
        "127.0.0.1:4577",
        "192.168.100.200",
        "version 1.44.5, 3.11.7",
        "12.345.678",
        "The request asks for 131072 tokens; 128000 fit.",
        "/opt/python/sluice/services/infer.py:210 _attempt",
        "ClientError: ThrottlingException from Converse",
        "input_tokens=1234, output_tokens=5678",
        "max_tokens: 4096",
        "a task-force of risk-takers asks for a disk-based solution",
        "ALIASES",
        "sk-short",
        "user@localhost",
        "the token is wrong",
        "expected one of secret, public",
    ],
)
def test_what_is_neither_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


def test_several_of_them_in_one_text_are_all_blacked_out() -> None:
    text = f"{AWS_KEY} wrote to ada@example.com about 4111 1111 1111 1111 and ada@example.org"
    assert redacted(text) == ("[redacted:secret] wrote to [redacted:email] about [redacted:card] and [redacted:email]")


def test_fields_that_hold_secrets_are_blacked_out_whatever_is_in_them() -> None:
    event = redact_event(None, "", {"event": "x", "Authorization": "any", "password": 5.5, "token": None})
    assert event == {"event": "x", "Authorization": "[redacted:secret]", "password": 5.5, "token": None}


def test_nothing_hides_in_lists_mappings_structs_or_bytes() -> None:
    class Holder(msgspec.Struct):
        address: str

    nested: dict[str, Any] = {
        "list": ["ada@example.com", {"deep": ("4111111111111111",)}],
        "ada@example.com": 1,
        "struct": Holder("ada@example.com"),
        "bytes": b"ada@example.com",
        "inner": {"api_key": "anything"},
    }
    shown = logs.encode(redact_event(None, "", {"event": "x", "nested": nested}))
    assert "ada" not in shown
    assert "4111" not in shown
    assert "anything" not in shown
    assert "YWRh" not in shown


def test_numbers_keep_their_value_and_decimals_their_digits() -> None:
    event = {"event": "x", "cost_micro_usd": Decimal("4111111111111111.5"), "count": 4111111111111111, "flag": True}
    assert redact_event(None, "", dict(event)) == event


def test_an_id_may_have_any_digits_but_no_secret() -> None:
    event = redact_event(None, "", {"request_id": "4111111111111111", "trace_id": SECRETS["a key of Sluice"]})
    assert event == {"request_id": "4111111111111111", "trace_id": "[redacted:secret]"}


def test_every_line_is_redacted_even_one_that_an_exception_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin(request_id="request-1", note="of ada@example.com")
    logs.get_logger().warning("heard from ada@example.com", error_message=f"key {AWS_KEY} is not valid")
    line = json.loads(capsys.readouterr().out)
    assert line["event"] == "heard from [redacted:email]"
    assert line["note"] == "of [redacted:email]"
    assert line["error_message"] == "key [redacted:secret] is not valid"


def test_metric_lines_are_redacted_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin(request_id=AWS_KEY)
    metrics.emit({"Operation": "chat", "Target": "ada@example.com/model"}, Requests=1)
    line = json.loads(capsys.readouterr().out)
    assert (line["request_id"], line["Target"]) == ("[redacted:secret]", "[redacted:email]/model")


CANONICAL: dict[str, Any] = {
    "timestamp": "2026-11-21T09:05:29.123456Z",
    "level": "info",
    "event": "request",
    "function": "chat_completions",
    "environment": "prod",
    "request_id": "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "trace_id": "1-67890abc-1234567890abcdef12345678",
    "key_id": "key_0123456789abcdef",
    "method": "POST",
    "route": "/v1/chat/completions",
    "model": "auto",
    "operation": "chat",
    "mode": "sync",
    "target": "bedrock/us.anthropic.claude-3-5-sonnet-20241022-v2:0",
    "outcome": "failed",
    "attempts": 3,
    "fallbacks": 1,
    "input_tokens": 1234,
    "cost_micro_usd": Decimal("1234.5"),
    "error_message": "The model provider answered with HTTP 502.",
    "error_causes": ["ClientError: ThrottlingException from Converse", "ReadTimeoutError"],
    "duration_ms": 1234.5,
    "status": 502,
}


def seconds_per_call(value: dict[str, Any], rounds: int) -> float:
    def once() -> float:
        start = time.perf_counter()
        for _ in range(rounds):
            redact_event(None, "", value)
        return (time.perf_counter() - start) / rounds

    return min(once() for _ in range(5))


def test_a_line_costs_microseconds() -> None:
    """32 µs on a 2-core machine; the bound leaves room for one that is busy."""
    assert seconds_per_call(CANONICAL, 200) < 500e-6


@pytest.mark.parametrize(
    "piece", ["a", "a@", "a.", "1", "1 ", "+1", "A", "AB12", "sk-", "eyJa.", "secret=", "://a:", "-----BEGIN ", "4111-"]
)
def test_the_time_grows_with_the_length_and_no_faster(piece: str) -> None:
    text = (piece * 60_000)[:60_000]
    assert seconds_per_call({"event": text}, 1) < 1.0
