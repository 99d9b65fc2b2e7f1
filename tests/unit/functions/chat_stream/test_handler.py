"""The official ``openai`` client, validating strictly, against the streaming function's URL: no server, no socket."""

from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from functions.chat_stream import handler as module
from sluice.domain import errors
from sluice.domain.keys import ApiKey, hash_secret, new_secret
from sluice.domain.ledger import Limits
from sluice.runtime import bootstrap
from sluice.runtime.http import status_of
from sluice.services.authorize import Authorize
from sluice.services.idempotency import Idempotency
from sluice.services.infer import Inference, RetryPolicy
from sluice.testing.invocations import FakeLambdaContext, streamed_response, url_event
from sluice.testing.keys import FakeKeys
from sluice.testing.ledger import FakeLedger
from sluice.testing.providers import FakeProvider
from sluice.testing.replays import FakeReplays
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import healthy

ASK: list[Any] = [{"role": "user", "content": "hello"}]
SECRET = new_secret()
KEY = ApiKey(
    id="key_1",
    key_hash=hash_secret(SECRET),
    name="tests",
    prefix=SECRET[:14],
    created_at=1,
    allowed_models=("auto",),
)


ENVIRONMENT = {
    "TABLE_NAME": "sluice-test",
    "BUCKET_NAME": "sluice-test",
    "PROVIDER_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:providers",
    "REQUEST_LOG_TTL_DAYS": "90",
    "ATTEMPT_TIMEOUT_SECONDS": "20",
    "MAX_ATTEMPTS": "1",
}


class Url:
    """The Function URL's part: from an HTTP request to an event, and from what is sent to a response."""

    def __init__(self) -> None:
        self.provider = FakeProvider()
        self.log = FakeRequestLog()
        self.last_headers: dict[str, str] = {}
        self.inference = Inference(
            routes=FakeRoutes(target("bedrock/one"), alias("auto", "bedrock/one")),
            providers={"bedrock": self.provider},
            request_log=self.log,
            ledger=FakeLedger(self.log),
            watch=healthy(),
            policy=RetryPolicy(max_attempts=1),
            http_status=status_of,
        )

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode()
        body = request.content.decode() or None
        event = url_event(request.method, path, body=body, headers=dict(request.headers))
        prelude, sent = streamed_response(module.handler(event, FakeLambdaContext()))
        self.last_headers = prelude["headers"]
        return httpx2.Response(prelude["statusCode"], headers=prelude["headers"], text=sent)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[Url]:
    url = Url()
    service = Authorize(FakeKeys(KEY), cache_seconds=60)
    monkeypatch.setattr(module, "inference", lambda: url.inference)
    monkeypatch.setattr(module, "authorize", lambda: service)
    # The decorator holds the builder itself.
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    replays = FakeReplays()
    monkeypatch.setattr(bootstrap, "idempotency", lambda settings: Idempotency(replays, ttl_s=60))
    module.replays.cache_clear()  # type: ignore[attr-defined]
    yield url
    module.replays.cache_clear()  # type: ignore[attr-defined]


def client_of(url: Url, key: str, *, strict: bool = True) -> openai.OpenAI:
    return openai.OpenAI(
        api_key=key,
        base_url="http://url/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(url)),
        _strict_response_validation=strict,
    )


@pytest.fixture
def client(url: Url) -> Iterator[openai.OpenAI]:
    with client_of(url, SECRET) as client:
        yield client


def test_a_chat_is_streamed(client: openai.OpenAI, url: Url) -> None:
    options: Any = {"include_usage": True}
    with client.chat.completions.create(model="auto", messages=ASK, stream=True, stream_options=options) as stream:
        chunks = list(stream)
    assert (
        "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == "answer of bedrock/one"
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 15
    [entry] = url.log.entries
    assert (entry.key_id, entry.request_id) == ("key_1", "url-request-1")
    assert url.last_headers["x-sluice-attempts"] == "1"


def test_a_chat_may_come_whole(client: openai.OpenAI, url: Url) -> None:
    answer = client.chat.completions.create(model="auto", messages=ASK)
    assert answer.choices[0].message.content == "answer of bedrock/one"
    assert answer._request_id == "url-request-1"
    assert url.last_headers["x-sluice-cost-usd"] == "0.00000105"


def test_completions_come_in_both_ways(url: Url) -> None:
    # The type of a streamed completion wants a reason in every chunk, which OpenAI itself gives in the last one only.
    with client_of(url, SECRET, strict=False) as client:
        whole = client.completions.create(model="auto", prompt="hello ", echo=True)
        with client.completions.create(model="auto", prompt="hello ", echo=True, stream=True) as stream:
            streamed = "".join(chunk.choices[0].text for chunk in stream)
    assert whole.choices[0].text == streamed == "hello answer of bedrock/one"


def test_a_failure_before_the_first_output_has_its_status(client: openai.OpenAI, url: Url) -> None:
    url.provider._failures = [lambda where: errors.ProviderThrottledError("Later.", target=where.name)]
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="auto", messages=ASK, stream=True)


def test_a_failure_after_it_is_an_event(client: openai.OpenAI, url: Url) -> None:
    url.provider.breaks = lambda where: errors.ProviderUnavailableError("It is gone.", target=where.name)
    url.provider.breaks_after = 1
    with (
        client.chat.completions.create(model="auto", messages=ASK, stream=True) as stream,
        pytest.raises(openai.APIError, match="It is gone"),
    ):
        list(stream)
    [entry] = url.log.entries
    assert (entry.outcome.value, entry.usage is not None and entry.usage.estimated) == ("failed", True)


def test_a_wrong_key_is_an_authentication_error(url: Url) -> None:
    with client_of(url, new_secret()) as stranger, pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(model="auto", messages=ASK, stream=True)
    assert url.provider.calls == []


def test_a_key_is_held_to_its_models(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="bedrock/one", messages=ASK, stream=True)


def test_other_routes_are_the_apis(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.list()
    assert raised.value.code == "unknown_url"


REPEATED = {"Idempotency-Key": "once"}


def test_a_repeated_stream_is_given_again(client: openai.OpenAI, url: Url) -> None:
    answers = []
    for _ in range(2):
        with client.chat.completions.create(model="auto", messages=ASK, stream=True, extra_headers=REPEATED) as stream:
            answers.append([chunk.model_dump_json() for chunk in stream])
    assert answers[0] == answers[1]
    assert len(url.provider.calls) == len(url.log.entries) == 1
    assert url.last_headers["idempotent-replayed"] == "true"
    assert url.last_headers["content-type"].startswith("text/event-stream")


def test_a_stream_that_broke_off_is_made_again(client: openai.OpenAI, url: Url) -> None:
    url.provider.breaks = lambda where: errors.ProviderUnavailableError("It is gone.", target=where.name)
    url.provider.breaks_after = 1
    ask: Any = {"model": "auto", "messages": ASK, "stream": True, "extra_headers": REPEATED}
    with client.chat.completions.create(**ask) as stream, pytest.raises(openai.APIError):
        list(stream)
    url.provider.breaks = None
    with client.chat.completions.create(**ask) as stream:
        assert list(stream)
    assert "idempotent-replayed" not in url.last_headers
    assert len(url.provider.calls) == 2


def test_a_stream_that_nobody_reads_on_gives_its_key_back(url: Url) -> None:
    body = {"model": "auto", "messages": ASK, "stream": True}
    event = url_event(
        "POST", "/v1/chat/completions", body=body, headers=REPEATED | {"Authorization": f"Bearer {SECRET}"}
    )
    pieces = module.handler.stream(event, FakeLambdaContext())
    for _ in range(3):
        next(pieces)
    pieces.close()
    assert len(url.log.entries) == 1
    _, again = streamed_response(module.handler(event, FakeLambdaContext()))
    assert again.endswith("data: [DONE]\n\n")
    assert len(url.provider.calls) == 2


def test_a_key_without_the_scope_is_refused(monkeypatch: pytest.MonkeyPatch, url: Url) -> None:
    service = Authorize(FakeKeys(msgspec.structs.replace(KEY, scopes=("batch",))), cache_seconds=60)
    monkeypatch.setattr(module, "authorize", lambda: service)
    with client_of(url, SECRET) as client, pytest.raises(openai.PermissionDeniedError) as refused:
        client.chat.completions.create(model="auto", messages=ASK, stream=True)
    assert refused.value.code == "insufficient_scope"


def test_a_key_is_held_to_its_limits(monkeypatch: pytest.MonkeyPatch, url: Url) -> None:
    service = Authorize(FakeKeys(msgspec.structs.replace(KEY, limits=Limits(rpm=1))), cache_seconds=60)
    monkeypatch.setattr(module, "authorize", lambda: service)
    with client_of(url, SECRET) as client:
        with client.chat.completions.create(model="auto", messages=ASK, stream=True) as stream:
            list(stream)
        assert url.last_headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="auto", messages=ASK, stream=True)
    assert refused.value.code == "rate_limit_exceeded"
    assert "retry-after" in refused.value.response.headers
