"""The scorer inside the function: the packaged model, and every way in which it can fail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from local.models import leads
from local.models.lead_scorer import ARTEFACT, LeadScorer, fifth
from sluice.adapters.in_process import InProcess
from sluice.domain import errors
from sluice.domain.inference import ChatRequest, EmbeddingRequest, Message, Operation
from sluice.domain.routing import Target
from sluice.domain.scoring import ScoreRequest, ScoreResult

TARGET = Target(
    name="in-process/lead-scorer", provider="in_process", model="lead-scorer", operations=(Operation.SCORE,)
)
ROWS = leads.draw(300, seed=11).features.astype(float).tolist()


def score(provider: InProcess, rows: list[list[float]] = ROWS, *, timeout_s: float = 10.0) -> ScoreResult:
    return provider.score(TARGET, ScoreRequest(model="score", rows=rows), timeout_s=timeout_s)


def refusal(provider: InProcess, target: Target = TARGET, *, rows: list[list[float]] = ROWS) -> errors.ProviderError:
    with pytest.raises(errors.ProviderError) as raised:
        provider.score(target, ScoreRequest(model="score", rows=rows), timeout_s=10)
    assert raised.value.target == target.name
    return raised.value


def test_it_scores_as_the_endpoint_does() -> None:
    result = score(InProcess())
    endpoint = LeadScorer.load()
    theirs = endpoint.score(ROWS)
    assert [one.probability for one in result.scores] == pytest.approx([one.probability for one in theirs], abs=1e-7)
    assert [one.score for one in result.scores] == [one.score for one in theirs]
    assert {one.score for one in result.scores} == {1, 2, 3, 4, 5}
    assert result.model_version == endpoint.version


def test_the_version_is_that_of_the_content() -> None:
    assert score(InProcess(), ROWS[:1]).model_version == hashlib.sha256(ARTEFACT.read_bytes()).hexdigest()[:16]


def test_the_two_definitions_of_a_score_are_one() -> None:
    for one in score(InProcess()).scores:
        assert one.score == fifth(one.probability)


def test_the_model_is_read_once() -> None:
    read: list[Path] = []

    def reading(path: Path) -> bytes:
        read.append(path)
        return path.read_bytes()

    provider = InProcess(reading)
    assert read == []
    score(provider)
    score(provider)
    assert len(read) == 1


def test_what_is_not_packaged_is_told_to_the_operator() -> None:
    error = refusal(InProcess(), msgspec.structs.replace(TARGET, model="../../etc/passwd"))
    assert type(error) is errors.ProviderAuthError
    assert error.code == "provider_model_not_found"


def test_a_file_that_cannot_be_read_leaves_it_to_the_next_target() -> None:
    def failing(path: Path) -> bytes:
        raise PermissionError(13, "denied", str(path))

    error = refusal(InProcess(failing))
    assert type(error) is errors.ProviderUnavailableError
    assert "/" not in error.message


def test_so_does_one_that_is_damaged() -> None:
    assert type(refusal(InProcess(lambda path: path.read_bytes()[:1000]))) is errors.ProviderProtocolError


def test_a_failure_is_not_remembered() -> None:
    contents = [b"damaged", ARTEFACT.read_bytes()]
    provider = InProcess(lambda path: contents.pop(0))
    refusal(provider)
    assert len(score(provider).scores) == len(ROWS)


@pytest.mark.parametrize("row", [[1.0] * 49, [1.0] * 51, []])
def test_rows_of_another_length_are_refused(row: list[float]) -> None:
    error = refusal(InProcess(), rows=[ROWS[0], row])
    assert type(error) is errors.ProviderRejectedError
    assert "50" in error.message


def test_it_gives_up_when_its_time_is_over() -> None:
    with pytest.raises(errors.ProviderTimeoutError):
        score(InProcess(), timeout_s=0.0)


CHAT = ChatRequest(model="m", messages=(Message("user", "x"),))
OTHERS: dict[str, Callable[[InProcess], object]] = {
    "chat": lambda provider: provider.chat(TARGET, CHAT, timeout_s=1),
    "stream": lambda provider: provider.stream(TARGET, CHAT, timeout_s=1),
    "embed": lambda provider: provider.embed(TARGET, EmbeddingRequest(model="m", inputs=("x",)), timeout_s=1),
}


@pytest.mark.parametrize("operation", OTHERS)
def test_it_says_so_when_a_route_asks_it_for_anything_else(operation: str) -> None:
    with pytest.raises(errors.ProviderAuthError) as raised:
        OTHERS[operation](InProcess())
    assert raised.value.code == "provider_operation_unsupported"
