"""The use case everything else serves: get one answer from a model, whichever of its targets can give it.

Which targets may answer is told in :mod:`sluice.domain.routing`, in which order in :mod:`sluice.domain.strategies`,
how they are attempted in :mod:`sluice.services.attempts`, and what is remembered of them in
:mod:`sluice.services.watch_targets`.

A request goes through these in turn, and whoever refuses it has cost nothing that comes after:

1. its targets are selected;
2. the cache is asked (:mod:`sluice.services.answer_cache`), if the request or its route says so;
3. the key's limits are held to what it may come to (:mod:`sluice.services.admit`);
4. providers are asked.

Streams
-------
The stream is handed over once its first output is there: until then a failure goes on to the next attempt or target
as for any other request. After it, a failure ends the stream, and what was written is settled like a whole answer,
with an estimate of the tokens when the provider did not say.

What is left of it all when it is over is told in :mod:`sluice.services.settle`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from sluice.domain import limits
from sluice.domain.classification import ClassificationRequest, ClassificationResult, unknown_intents
from sluice.domain.deadline import Deadline
from sluice.domain.errors import SluiceError
from sluice.domain.inference import (
    Caller,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    Mode,
    Operation,
)
from sluice.domain.ports import Ledger, ModelProvider, RequestLog, RouteSource
from sluice.domain.routing import NO_PREFERENCES, Preferences, ProviderName, Target
from sluice.domain.scoring import ScoreRequest, ScoreResult
from sluice.domain.strategies import Dice
from sluice.services.admit import Admit
from sluice.services.answer_cache import AnswerCache, caching_of
from sluice.services.attempts import Attempts, Call, RetryPolicy, Won, system_random
from sluice.services.chat_streams import ChatStream, LiveStream, WholeStream
from sluice.services.classify import Classifier
from sluice.services.select_targets import Selection, SelectTargets
from sluice.services.settle import Answer, ChatOutcome, EmbeddingOutcome, Request, Result, Settlement, Work
from sluice.services.streams import ProviderStream
from sluice.services.structured_output import OutputCheck, check_for, misfit
from sluice.services.watch_targets import WatchTargets
from sluice.telemetry import logs

__all__ = ["Answer", "ChatOutcome", "ChatStream", "EmbeddingOutcome", "Inference", "RetryPolicy"]

Outcome = TypeVar("Outcome")
Ask = Callable[[ModelProvider, Target, Request, float], Outcome]


class Inference:
    """Answers requests of every operation. ``http_status`` maps an error to the status that callers are told.

    Without ``answers`` nothing is cached, whatever a request asks for.
    """

    def __init__(  # noqa: PLR0913 - the last are the clocks and the dice, which only tests replace
        self,
        *,
        routes: RouteSource,
        providers: Mapping[ProviderName, ModelProvider],
        request_log: RequestLog,
        ledger: Ledger,
        watch: WatchTargets,
        policy: RetryPolicy,
        http_status: Callable[[SluiceError], int],
        answers: AnswerCache | None = None,
        max_output_tokens: int | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float, float], float] = system_random.uniform,
        dice: Dice = system_random,
    ) -> None:
        self._routes = routes
        self._providers = providers
        self._watch = watch
        self._policy = policy
        self._select = SelectTargets(routes, watch, dice=dice, now=now)
        self._admit = Admit(ledger, most_output_tokens=max_output_tokens, now=now)
        self._answers = answers
        self._settlement = Settlement(
            request_log=request_log, watch=watch, http_status=http_status, answers=answers, now=now, clock=clock
        )
        self._max_output_tokens = max_output_tokens
        self._now = now
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._classifier = Classifier()

    def chat(
        self,
        request: ChatRequest,
        caller: Caller,
        *,
        mode: Mode,
        deadline: Deadline,
        preferences: Preferences = NO_PREFERENCES,
    ) -> ChatOutcome:
        """Continue the conversation.

        :raises CallerError: the model is unknown, not allowed, or cannot do what is asked.
        :raises LimitError: the key's limits do not hold it.
        :raises ProviderError: no target answered in time.
        :raises StateError: nobody can tell whether the key's limits hold it.
        """
        check = check_for(request)
        limits.check_output(request, most=self._max_output_tokens)
        work = self._begin(request, Operation.CHAT, caller, mode, deadline, preferences)
        return self._run(work, _ask_chat, ChatResult, check=check)

    def stream(
        self,
        request: ChatRequest,
        caller: Caller,
        *,
        mode: Mode,
        deadline: Deadline,
        preferences: Preferences = NO_PREFERENCES,
    ) -> ChatStream:
        """As :meth:`chat`, piece by piece: returns once the first output is there, and raises as :meth:`chat` before.

        An answer that has to fit a form is only streamed when it is whole, as nothing that was sent can be repaired.
        """
        if check_for(request) is not None:
            return WholeStream(self.chat(request, caller, mode=mode, deadline=deadline, preferences=preferences))
        limits.check_output(request, most=self._max_output_tokens)
        work = self._begin(request, Operation.CHAT, caller, mode, deadline, preferences)
        work.streaming = True
        selection = self._choose(work)
        found = self._from_cache(work, selection, ChatResult)
        if found is not None:
            return WholeStream(found)
        self._hold(work, selection)
        try:
            won = self._attempt(work, selection, lambda target, timeout_s: self._open(work, target, timeout_s))[0]
        except Exception as error:
            self._settlement.failed(work, error)
            raise
        return LiveStream(self._settlement, work, won)

    def embed(
        self,
        request: EmbeddingRequest,
        caller: Caller,
        *,
        mode: Mode,
        deadline: Deadline,
        preferences: Preferences = NO_PREFERENCES,
    ) -> EmbeddingOutcome:
        """Embed every input; otherwise as :meth:`chat`."""
        work = self._begin(request, Operation.EMBED, caller, mode, deadline, preferences)
        return self._run(work, _ask_embed, EmbeddingResult)

    def classify(
        self,
        request: ClassificationRequest,
        caller: Caller,
        *,
        mode: Mode,
        deadline: Deadline,
        preferences: Preferences = NO_PREFERENCES,
    ) -> Answer[ClassificationResult]:
        """Classify every input; otherwise as :meth:`chat`. :raises NotFoundError: also: no such intent set."""
        if request.intents is not None:
            known = self._routes.load().intent_sets.get(request.intents)
            if known is None:
                raise unknown_intents(request.intents)
            request = msgspec.structs.replace(request, labels=known.labels)
        work = self._begin(request, Operation.CLASSIFY, caller, mode, deadline, preferences)
        return self._run(work, self._ask_classify, ClassificationResult)

    def score(
        self,
        request: ScoreRequest,
        caller: Caller,
        *,
        mode: Mode,
        deadline: Deadline,
        preferences: Preferences = NO_PREFERENCES,
    ) -> Answer[ScoreResult]:
        """Score every row; otherwise as :meth:`chat`."""
        work = self._begin(request, Operation.SCORE, caller, mode, deadline, preferences)
        return self._run(work, _ask_score, ScoreResult)

    def _ask_classify(
        self, provider: ModelProvider, target: Target, request: ClassificationRequest, timeout_s: float
    ) -> ClassificationResult:
        return self._classifier.classify(provider, target, request, timeout_s=timeout_s)

    def _open(self, work: Work[ChatRequest], target: Target, timeout_s: float) -> ProviderStream:
        provider = self._providers[target.provider]
        sent = work.admitted.sent(work.request, target)
        # The attempt's time is for the first output; what follows has the rest of the request's.
        whole_s = work.deadline.remaining_s()
        return ProviderStream.begun(
            target, lambda: provider.stream(target, sent, timeout_s=whole_s), timeout_s=timeout_s
        )

    def _begin(
        self,
        request: Request,
        operation: Operation,
        caller: Caller,
        mode: Mode,
        deadline: Deadline,
        preferences: Preferences,
    ) -> Work[Request]:
        logs.canonical(model=request.model, operation=operation.value, mode=mode.value)
        return Work(
            request=request,
            operation=operation,
            caller=caller,
            mode=mode,
            deadline=deadline,
            started_at=self._now(),
            clock_start=self._clock(),
            preferences=preferences,
        )

    def _run(
        self,
        work: Work[Request],
        ask: Ask[Request, Result],
        kind: type[Result],
        *,
        check: OutputCheck | None = None,
    ) -> Answer[Result]:
        def call(target: Target, timeout_s: float) -> Result:
            return ask(self._providers[target.provider], target, work.admitted.sent(work.request, target), timeout_s)

        selection = self._choose(work)
        found = self._from_cache(work, selection, kind)
        if found is not None:
            return found
        self._hold(work, selection)
        try:
            won, attempts = self._attempt(work, selection, call)
            self._settlement.attempt_succeeded(work, won)
            if check is not None:
                won = self._checked(work, won, attempts, ask, check)
        except Exception as error:
            self._settlement.failed(work, error)
            raise
        return self._settlement.answered(work, won.target, won.result)

    def _choose(self, work: Work[Any]) -> Selection:
        selection = self._select(
            work.request,
            work.operation,
            work.caller,
            work.preferences,
            streaming=work.streaming,
            batch=work.is_batch,
        )
        work.demand, work.measured = selection.demand, selection.measured
        work.caching = caching_of(work.preferences, selection.cache_ttl_s)
        return selection

    def _from_cache(self, work: Work[Any], selection: Selection, kind: type[Result]) -> Answer[Result] | None:
        """The answer that was given before, once it is admitted and recorded; ``None`` where there is none."""
        if work.caching is None or self._answers is None:
            return None
        target = self._first(selection)
        key_id = work.caller.key_id
        found = self._answers.find(work.caching, key_id, work.operation, work.request, target, kind)
        if found is None:
            work.cache = "miss" if work.caching.read else "refresh"
            return None
        work.admission = self._admit.cached(work.caller, work.deadline)
        return self._settlement.found(work, target, found)

    def _hold(self, work: Work[Any], selection: Selection) -> None:
        target = self._first(selection)
        work.admission = self._admit.request(
            work.caller, work.request, target, work.deadline, work.charges, batch=work.is_batch
        )

    def _first(self, selection: Selection) -> Target:
        """The target that will probably be asked first."""
        askable = (target for target in selection.targets if self._watch.may_ask(target.name))
        return next(askable, selection.targets[0])

    def _attempt(
        self, work: Work[Any], selection: Selection, call: Call[Outcome]
    ) -> tuple[Won[Outcome], Attempts[Outcome]]:
        policy = self._policy
        # Nobody waits for the line of a batch, and a hedge may cost a second answer.
        if selection.hedge_after_ms is not None and work.mode is not Mode.BATCH:
            policy = msgspec.structs.replace(policy, hedge_after_s=selection.hedge_after_ms / 1000)
        attempts = Attempts(
            call,
            operation=work.operation.value,
            watch=self._watch,
            policy=policy,
            deadline=work.deadline,
            observer=lambda target, error, elapsed_s: self._settlement.attempt_lost(work, target, error, elapsed_s),
            purse=work.admitted.purse(work.request),
            streaming=work.streaming,
            clock=self._clock,
            sleep=self._sleep,
            jitter=self._jitter,
        )
        work.progress = attempts.progress
        return attempts.run(selection.targets), attempts

    def _checked(
        self, work: Work[Any], won: Won[Any], attempts: Attempts[Any], ask: Ask[Any, Any], check: OutputCheck
    ) -> Won[Any]:
        """The answer in the form asked for, after one repair if need be.

        :raises InvalidModelOutputError: it still is not.
        """
        won = _tidied(check, won)
        problem = check.problem(won.result)
        if problem is None:
            return won
        logs.canonical(repaired=True)
        repair = check.repair(work.request, won.result, problem)

        def call(target: Target, timeout_s: float) -> Any:
            return ask(self._providers[target.provider], target, work.admitted.sent(repair, target), timeout_s)

        won = attempts.again(won, call, purse=work.admitted.purse(repair))
        self._settlement.attempt_succeeded(work, won)
        won = _tidied(check, won)
        if check.problem(won.result) is not None:
            raise misfit(won.target.name)
        return won


def _tidied(check: OutputCheck, won: Won[ChatResult]) -> Won[ChatResult]:
    return msgspec.structs.replace(won, result=check.tidied(won.result))


def _ask_chat(provider: ModelProvider, target: Target, request: ChatRequest, timeout_s: float) -> ChatResult:
    return provider.chat(target, request, timeout_s=timeout_s)


def _ask_embed(provider: ModelProvider, target: Target, request: EmbeddingRequest, timeout_s: float) -> EmbeddingResult:
    return provider.embed(target, request, timeout_s=timeout_s)


def _ask_score(provider: ModelProvider, target: Target, request: ScoreRequest, timeout_s: float) -> ScoreResult:
    return provider.score(target, request, timeout_s=timeout_s)
