import pytest

from sluice.telemetry import logs, tracing


def test_without_a_trace_header_tracing_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tracing.TRACE_HEADER_VARIABLE, raising=False)
    tracing.begin()
    with tracing.subsegment("provider", target="a/one") as span:
        span.annotate("tokens", 5)
        span.status(200)
    assert tracing.trace_id() is None


def test_outside_lambda_tracing_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracing.TRACE_HEADER_VARIABLE, "Root=1-abc-def;Parent=123;Sampled=1")
    monkeypatch.delenv(tracing.LAMBDA_VARIABLE)
    assert tracing._backend() is None


@pytest.mark.parametrize(
    ("header", "trace_id"),
    [("Root=1-abc-def;Parent=123;Sampled=1", "1-abc-def"), ("Self=1;Root=1-a-b", "1-a-b"), ("", None), ("junk", None)],
)
def test_the_trace_id_is_the_root_of_the_header(
    monkeypatch: pytest.MonkeyPatch, header: str, trace_id: str | None
) -> None:
    monkeypatch.setenv(tracing.TRACE_HEADER_VARIABLE, header)
    assert tracing.trace_id() == trace_id


def test_another_thread_sees_the_log_context_it_was_given() -> None:
    logs.begin(request_id="r")
    carried = tracing.carried(lambda: logs.bound("request_id"))
    logs.begin(request_id="other")
    assert carried() == "r"
    assert logs.bound("request_id") == "other"
