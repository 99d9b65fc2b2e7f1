"""What the sync routes do, for requests that no connection waits for: asynchronous ones, and the lines of batches.

The body is parsed by the same code as the route's, and the answer is the same document. Two things differ: nothing is
streamed, and there are no request headers, so vectors come in the form that the body asks for.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from sluice.domain.classification import ClassificationRequest
from sluice.domain.deadline import Deadline
from sluice.domain.errors import InvalidRequestError, ProviderProtocolError
from sluice.domain.inference import Caller, ChatRequest, EmbeddingRequest, EmbeddingResult, Mode, Operation, Usage
from sluice.domain.scoring import ScoreRequest
from sluice.domain.tasks import Task, TaskAnswer, TaskRequest
from sluice.runtime import inference_headers
from sluice.services.infer import Answer, Inference
from sluice.services.structured_output import check_schema
from sluice.wire.chat import ChatCompletionResponse, decode_chat_request
from sluice.wire.classify import ClassifyResponse, parse_classify
from sluice.wire.completions import CompletionResponse, parse_completion_request
from sluice.wire.embeddings import EmbeddingResponse, parse_embedding_request
from sluice.wire.parsing import unsupported
from sluice.wire.score import ScoreLatency, ScoreResponse, parse_score
from sluice.wire.simple_chat import SimpleChatResponse, parse_simple_chat
from sluice.wire.summarize import SummarizeResponse, parse_summarize

CHAT_COMPLETIONS: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
CHAT: Final = "/v1/chat"
EMBEDDINGS: Final = "/v1/embeddings"
CLASSIFY: Final = "/v1/classify"
SCORE: Final = "/v1/score"
SUMMARIZE: Final = "/v1/summarize"

# What a body says: to the model, and (what only the endpoint looks into) about the form of the answer.
Parsed = tuple[TaskRequest, Any]
# The document that answers: of the request, of the answer, and of the milliseconds that it took.
Render = Callable[[Any, Answer[Any], float], msgspec.Struct]
_encoder: Final = msgspec.json.Encoder()


class _Endpoint(msgspec.Struct, frozen=True):
    """One route: the operation it needs, how its body is read, and how its answer is written."""

    operation: Operation
    parse: Callable[[bytes], Parsed]
    render: Render


class InferenceEndpoints:
    """Implements :class:`~sluice.domain.ports.Endpoints`. Without ``inference`` it can parse, but not answer.

    With ``as_vectors`` embeddings are answered with their numbers instead of a document.
    """

    def __init__(
        self,
        inference: Inference | None = None,
        *,
        as_vectors: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inference = inference
        self._as_vectors = as_vectors
        self._clock = clock

    def parse(self, endpoint: str, body: bytes) -> Task:
        known = _ENDPOINTS.get(endpoint)
        if known is None:
            raise InvalidRequestError(
                f"There is no such endpoint here. Served are: {', '.join(_ENDPOINTS)}.",
                code="unknown_endpoint",
                param="endpoint",
            )
        request, asked = known.parse(body)
        # To answer is to compile the schema: those who can check it then. Those who cannot must not let it through.
        if self._inference is None and isinstance(request, ChatRequest):
            check_schema(request)
        return Task(endpoint=endpoint, operation=known.operation, request=request, asked=asked)

    def answer(self, task: Task, caller: Caller, *, mode: Mode, deadline: Deadline) -> TaskAnswer:
        began = self._clock()
        outcome = self._asked(task.request, caller, mode, deadline)
        if self._as_vectors and isinstance(outcome.result, EmbeddingResult):
            return _answer(outcome, b"", outcome.result)
        elapsed_ms = (self._clock() - began) * 1000
        return _answer(outcome, _encoder.encode(_ENDPOINTS[task.endpoint].render(task.asked, outcome, elapsed_ms)))

    def answer_together(
        self, tasks: Sequence[Task], caller: Caller, *, mode: Mode, deadline: Deadline
    ) -> Sequence[TaskAnswer]:
        """The answers to embedding tasks that ask the same of the same model, by one call for all of them.

        What the call cost is told of the first answer. Raises what :meth:`answer` raises; then none is answered.
        """
        requests = [task.request for task in tasks if isinstance(task.request, EmbeddingRequest)]
        whole = msgspec.structs.replace(requests[0], inputs=tuple(text for each in requests for text in each.inputs))
        outcome = self._ready.embed(whole, caller, mode=mode, deadline=deadline)
        results = _split(outcome.result, [len(each.inputs) for each in requests], outcome.target.name)
        answers = [self._part(task, outcome, result) for task, result in zip(tasks, results, strict=True)]
        return [answers[0], *(msgspec.structs.replace(answer, cost_micro_usd=None) for answer in answers[1:])]

    def _part(self, task: Task, outcome: Answer[Any], result: EmbeddingResult) -> TaskAnswer:
        if self._as_vectors:
            return _answer(outcome, b"", result)
        body = _encoder.encode(_embeddings(task.asked, result, outcome.target.name))
        return msgspec.structs.replace(_answer(outcome, body), usage=result.usage)

    def _asked(self, request: TaskRequest, caller: Caller, mode: Mode, deadline: Deadline) -> Answer[Any]:
        inference = self._ready
        match request:
            case ChatRequest():
                return inference.chat(request, caller, mode=mode, deadline=deadline)
            case EmbeddingRequest():
                return inference.embed(request, caller, mode=mode, deadline=deadline)
            case ClassificationRequest():
                return inference.classify(request, caller, mode=mode, deadline=deadline)
            case ScoreRequest():
                return inference.score(request, caller, mode=mode, deadline=deadline)

    @property
    def _ready(self) -> Inference:
        if self._inference is None:
            raise RuntimeError("These endpoints were made without anything to answer with.")
        return self._inference


def _answer(outcome: Answer[Any], body: bytes, vectors: EmbeddingResult | None = None) -> TaskAnswer:
    return TaskAnswer(
        status_code=200,
        body=body,
        target=outcome.target.name,
        usage=vectors.usage if vectors else outcome.result.usage,
        cost_micro_usd=outcome.report.cost_micro_usd,
        headers=inference_headers.of(outcome),
        vectors=vectors.vectors if vectors else (),
        tokens_by_input=vectors.tokens_by_input if vectors else (),
    )


def _parse_chat_completion(body: bytes) -> Parsed:
    asked = decode_chat_request(body)
    if asked.stream:
        raise _streamed()
    return asked.to_domain(), None


def _parse_completion(body: bytes) -> Parsed:
    asked = parse_completion_request(body)
    if asked.stream:
        raise _streamed()
    return asked.to_domain(), asked


def _parse_chat(body: bytes) -> Parsed:
    return parse_simple_chat(body), None


def _parse_embeddings(body: bytes) -> Parsed:
    asked = parse_embedding_request(body)
    # Of the body only the encoding is needed again; the texts are in the request.
    return asked.to_domain(), asked.encoding({})


def _parse_classify(body: bytes) -> Parsed:
    asked = parse_classify(body)
    return asked.to_domain(), isinstance(asked.input, str)


def _parse_score(body: bytes) -> Parsed:
    asked = parse_score(body)
    return asked.request, asked.single


def _parse_summarize(body: bytes) -> Parsed:
    return parse_summarize(body).to_domain(), None


def _streamed() -> InvalidRequestError:
    return unsupported("stream", "Leave it out or send false: the answer comes in one piece.")


def _chat_completion(_: Any, outcome: Answer[Any], __: float) -> msgspec.Struct:
    return ChatCompletionResponse.of(outcome.result, model=outcome.target.name, created=int(time.time()))


def _completion(asked: Any, outcome: Answer[Any], _: float) -> msgspec.Struct:
    return CompletionResponse.of(
        outcome.result, model=outcome.target.name, created=int(time.time()), echoed=asked.echoed
    )


def _chat(_: Any, outcome: Answer[Any], __: float) -> msgspec.Struct:
    return SimpleChatResponse.of(outcome.result, model=outcome.target.name)


def _embedding(asked: Any, outcome: Answer[Any], _: float) -> msgspec.Struct:
    return _embeddings(asked, outcome.result, outcome.target.name)


def _embeddings(asked: Any, result: EmbeddingResult, target: str) -> EmbeddingResponse:
    return EmbeddingResponse.of(result, model=target, encoding=asked)


def _classification(asked: Any, outcome: Answer[Any], _: float) -> msgspec.Struct:
    return ClassifyResponse.of(outcome.result, model=outcome.target.name, single=asked)


def _score(asked: Any, outcome: Answer[Any], elapsed_ms: float) -> msgspec.Struct:
    model_ms = max(elapsed_ms - outcome.report.overhead_ms, 0.0)
    latency = ScoreLatency(total=round(elapsed_ms, 1), model=round(model_ms, 1))
    return ScoreResponse.of(outcome.result, model=outcome.target.name, latency=latency, single=asked)


def _summary(_: Any, outcome: Answer[Any], __: float) -> msgspec.Struct:
    return SummarizeResponse.of(outcome.result, model=outcome.target.name)


_ENDPOINTS: Final[Mapping[str, _Endpoint]] = {
    CHAT_COMPLETIONS: _Endpoint(Operation.CHAT, _parse_chat_completion, _chat_completion),
    COMPLETIONS: _Endpoint(Operation.CHAT, _parse_completion, _completion),
    CHAT: _Endpoint(Operation.CHAT, _parse_chat, _chat),
    EMBEDDINGS: _Endpoint(Operation.EMBED, _parse_embeddings, _embedding),
    CLASSIFY: _Endpoint(Operation.CLASSIFY, _parse_classify, _classification),
    SCORE: _Endpoint(Operation.SCORE, _parse_score, _score),
    SUMMARIZE: _Endpoint(Operation.CHAT, _parse_summarize, _summary),
}


def _split(result: EmbeddingResult, counts: Sequence[int], target: str) -> list[EmbeddingResult]:
    """The result of one call for the inputs of several, in so many parts, each with the tokens of its own inputs.

    :raises ProviderProtocolError: the provider did not say which input had how many tokens.
    """
    if len(result.tokens_by_input) != len(result.vectors):
        raise ProviderProtocolError("The model did not say how many tokens each text has.", target=target)
    vectors, tokens = iter(result.vectors), iter(result.tokens_by_input)
    return [_taken(vectors, tokens, count) for count in counts]


def _taken(vectors: Iterator[tuple[float, ...]], tokens: Iterator[int], count: int) -> EmbeddingResult:
    own = tuple(islice(tokens, count))
    return EmbeddingResult(
        vectors=tuple(islice(vectors, count)), usage=Usage(input_tokens=sum(own)), tokens_by_input=own
    )
