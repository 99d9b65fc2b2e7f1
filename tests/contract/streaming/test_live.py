"""Answers leave the function while they are made; whatever breaks off, tokens and cost are settled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from decimal import Decimal

from tests.contract.streaming.conftest import Function
from tests.contract.streaming.runtime_api import eventually
from tests.contract.streaming.upstream import Cut

# 11 tokens in at 3, 7 out at 15 USD per million.
COST = Decimal(11 * 3 + 7 * 15)
LONG = "x" * 50_000


def test_the_first_token_leaves_while_the_provider_is_still_producing(function: Function) -> None:
    told = threading.Event()

    def script() -> Iterator[str]:
        yield "first"
        # The provider says nothing more before the first token is seen on the other side.
        assert told.wait(20)
        yield " last"

    function.upstream.script = script
    asked = function.chat(headers={"x-request-id": "request-first"})
    first_at = asked.wait_for(b'"first"')
    assert not asked.over.is_set()
    told.set()
    asked.wait()
    assert function.upstream.ended_at is not None
    first_said_at, last_said_at = function.upstream.said
    assert first_said_at < first_at < last_said_at < function.upstream.ended_at
    assert asked.text == "first last"


def test_every_piece_leaves_as_it_comes(function: Function) -> None:
    def script() -> Iterator[str]:
        for word in ("one", "two", "three", "four", "five"):
            time.sleep(0.1)
            yield word

    function.upstream.script = script
    asked = function.chat().wait()
    arrived = [asked.wait_for(f'"{word}"'.encode()) for word in ("one", "two", "three", "four", "five")]
    late = [at - said for said, at in zip(function.upstream.said, arrived, strict=True)]
    # Neither gathered into larger pieces nor held back by the network's delayed acknowledgements, which are 40 ms.
    assert sorted(late)[2] < 0.03, late
    # Far from the half second that the whole answer takes, however busy the machine is.
    assert max(late) < 0.3, late


def test_a_stream_is_what_an_openai_client_expects(function: Function) -> None:
    asked = function.chat(headers={"x-request-id": "request-whole"}).wait()
    assert asked.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert asked.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    assert asked.prelude["statusCode"] == 200
    headers = asked.prelude["headers"]
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (headers["x-request-id"], headers["x-sluice-target"]) == ("request-whole", "test/one")
    # What it costs is not known when the headers go out.
    assert "x-sluice-cost-usd" not in headers
    *_, usage, done = asked.events
    assert usage["usage"]["total_tokens"] == 18
    assert done == "[DONE]"
    assert asked.trailers == {}


def test_tokens_and_cost_are_settled_before_the_end_is_told(function: Function) -> None:
    asked = function.chat(headers={"x-request-id": "request-settled"})
    asked.wait_for(b"[DONE]")
    entry = function.settled("request-settled")
    assert (entry["status"], entry["key_id"], entry["mode"]) == ("completed", function.key_id, "sync")
    assert (entry["input_tokens"], entry["output_tokens"]) == ("11", "7")
    assert Decimal(entry["cost_micro_usd"]) == COST
    asked.wait()


def test_an_answer_that_is_not_streamed_comes_by_the_same_way(function: Function) -> None:
    asked = function.chat(stream=False, headers={"x-request-id": "request-plain"}).wait()
    assert asked.prelude["statusCode"] == 200
    assert asked.prelude["headers"]["content-type"] == "application/json"
    assert asked.prelude["headers"]["x-sluice-cost-usd"] == "0.000138"
    assert b'"Hello there."' in asked.body


def test_completions_are_streamed_too(function: Function) -> None:
    body = {"model": "auto", "prompt": "Say it.", "stream": True}
    asked = function.api.invoke(function.event("/v1/completions", body)).wait()
    chunks = [each for each in asked.events if each != "[DONE]"]
    assert {each["object"] for each in chunks} == {"text_completion"}
    assert "".join(choice["text"] for each in chunks for choice in each["choices"]) == "Hello there."


def test_invocations_follow_each_other_on_one_connection(function: Function) -> None:
    first = function.chat(headers={"x-request-id": "request-one"}).wait()
    second = function.chat(headers={"x-request-id": "request-two"}).wait()
    assert first.text == second.text == "Hello there."
    assert first.connection == second.connection
    assert second.prelude["headers"]["x-request-id"] == "request-two"


def test_an_answer_may_be_larger_than_a_buffered_function_can_send(function: Function) -> None:
    function.upstream.script = lambda: iter([LONG] * 200)
    asked = function.chat().wait()
    assert asked.text == LONG * 200
    assert len(asked.body) > 6 * 1024 * 1024
    assert asked.events[-1] == "[DONE]"


def test_a_large_answer_that_is_not_streamed_is_sent_whole(function: Function) -> None:
    function.upstream.script = lambda: iter([LONG] * 150)
    asked = function.chat(stream=False).wait()
    assert (LONG * 150).encode() in asked.body
    assert len(asked.chunks) > 100


def test_when_the_client_goes_the_provider_is_read_to_its_usage(function: Function) -> None:
    def script() -> Iterator[str]:
        for _ in range(30):
            time.sleep(0.02)
            yield "word "

    function.upstream.script = script
    gone = function.chat(headers={"x-request-id": "request-gone"}, hang_up_after=5).wait()
    line = function.summed_up("request-gone")
    assert len(gone.chunks) == 5
    assert len(function.upstream.said) == 30
    assert not function.upstream.gone.is_set()
    assert (line["client_gone"], line["outcome"], line["output_tokens"]) == (True, "completed", 7)
    entry = function.settled("request-gone")
    assert (entry["status"], entry["output_tokens"]) == ("completed", "7")
    assert "usage_estimated" not in entry
    assert Decimal(entry["cost_micro_usd"]) == COST
    # And the next one is served, on a connection that is good.
    function.upstream.reset()
    after = function.chat().wait()
    assert after.text == "Hello there."
    assert after.connection != gone.connection


def test_when_the_client_has_gone_the_deadline_still_holds(function: Function) -> None:
    stop = threading.Event()

    def script() -> Iterator[str]:
        while not stop.wait(0.05):
            yield "word "

    function.upstream.script = script
    began = time.monotonic()
    function.chat(headers={"x-request-id": "request-endless"}, hang_up_after=5, deadline_s=4.0).wait()
    line = function.summed_up("request-endless")
    took_s = time.monotonic() - began
    stop.set()
    # One second before Lambda would have ended the process, and with it all memory of what is owed.
    assert 2.5 < took_s < 4.0
    assert line["client_gone"]
    entry = function.settled("request-endless")
    assert (entry["usage_estimated"], entry["output_tokens"]) == (True, str(line["output_tokens"]))
    assert 40 < int(entry["output_tokens"]) < 90
    assert Decimal(entry["cost_micro_usd"]) > 0


def test_when_the_provider_breaks_off_the_client_is_told_and_all_is_settled(function: Function) -> None:
    def script() -> Iterator[str]:
        yield "eight ch"
        yield "aracters and eight more."
        raise Cut

    function.upstream.script = script
    asked = function.chat(headers={"x-request-id": "request-cut"}).wait()
    assert asked.text == "eight characters and eight more."
    error = asked.events[-1]["error"]
    assert (error["code"], error["type"]) == ("provider_unavailable", "server_error")
    assert asked.trailers == {}
    entry = function.settled("request-cut")
    assert (entry["status"], entry["usage_estimated"]) == ("failed", True)
    # Four characters are a token.
    assert entry["output_tokens"] == "8"
    assert Decimal(entry["cost_micro_usd"]) > 0


def test_a_slow_reader_holds_no_more_than_a_bounded_buffer(function: Function) -> None:
    function.chat().wait()
    before_mb = function.memory_mb()
    pieces, piece = 4_000, "y" * 16_384
    function.upstream.script = lambda: iter([piece] * pieces)
    asked = function.chat(headers={"x-request-id": "request-slow"}, reading=threading.Event(), deadline_s=60.0)
    eventually(lambda: function.upstream.sent_bytes, within_s=10, what="the provider has begun")
    taken = -1
    while taken != function.upstream.sent_bytes:
        taken = function.upstream.sent_bytes
        time.sleep(1.0)
    # 64 MB are on offer. What has been taken lies in the sockets of this machine (a few MB at most) and our buffer.
    assert taken < 16 * 1024 * 1024
    assert function.memory_mb() - before_mb < 8
    # Then it reads on, and misses nothing.
    asked.reading.set()
    asked.wait(within_s=50)
    assert len(asked.text) == pieces * len(piece)
    assert function.settled("request-slow")["status"] == "completed"


def test_a_reader_that_takes_nothing_is_given_up_in_time_to_settle(function: Function) -> None:
    piece = "z" * 16_384
    function.upstream.script = lambda: iter([piece] * 4_000)
    asked = function.chat(headers={"x-request-id": "request-stuck"}, reading=threading.Event(), deadline_s=8.0)
    line = function.summed_up("request-stuck")
    assert (line["client_gone"], line["client_gone_by"], line["outcome"]) == (True, "TimeoutError", "completed")
    # Half of the time went on waiting for the reader; the rest was enough to read the provider to its count.
    entry = function.settled("request-stuck")
    assert (entry["output_tokens"], Decimal(entry["cost_micro_usd"])) == ("7", COST)
    asked.reading.set()
