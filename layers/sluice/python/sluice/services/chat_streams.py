"""Streamed answers as their readers see them: pieces first, then what they came to and what they cost."""

from collections.abc import Generator, Iterator
from typing import Protocol

import msgspec

from sluice.domain.inference import ChatDelta, ChatRequest, RefusalDelta, StreamEnd, TextDelta, ToolCallDelta
from sluice.domain.routing import Report, Target
from sluice.domain.streaming import Collector
from sluice.services.attempts import Won
from sluice.services.settle import ChatOutcome, Settlement, Work
from sluice.services.streams import ProviderStream


class ChatStream(Protocol):
    """A streamed answer whose first output is there. To be read to its end, once."""

    @property
    def target(self) -> Target:
        """Who answers."""
        ...

    def __iter__(self) -> Iterator[ChatDelta]:
        """The pieces.

        :raises ProviderError: it broke off; what was written is settled by then.
        :raises AnswerNotTakenError: likewise, because it was read too slowly.
        """
        ...

    def begun(self) -> Report:
        """How it has come about so far. The cost of what is still to come is unknown."""
        ...

    def report(self) -> Report:
        """How it came about, and what it cost. :raises RuntimeError: its end has not come yet."""
        ...

    def answer(self) -> ChatOutcome:
        """All of it. :raises RuntimeError: its end has not come yet, or it broke off."""
        ...

    def close(self) -> None:
        """Nobody reads on: what was written is settled. Changes nothing once it is over."""
        ...


class LiveStream:
    """A :class:`ChatStream` that comes from the provider."""

    def __init__(self, settlement: Settlement, work: Work[ChatRequest], won: Won[ProviderStream]) -> None:
        self._settlement = settlement
        self._work = work
        self._won = won
        self._collector = Collector()
        self._begun = False
        self._report: Report | None = None
        self._answer: ChatOutcome | None = None
        self._pieces = self._read()

    @property
    def target(self) -> Target:
        return self._won.target

    def __iter__(self) -> Iterator[ChatDelta]:
        return self._pieces

    def begun(self) -> Report:
        return self._settlement.begun(self._work)

    def report(self) -> Report:
        if self._report is None:
            raise RuntimeError("The stream has not come to its end.")
        return self._report

    def answer(self) -> ChatOutcome:
        if self._answer is None:
            raise RuntimeError("The stream has not come to its end, or broke off.")
        return self._answer

    def close(self) -> None:
        if self._begun:
            self._pieces.close()
            return
        # A generator that was never started has nothing to run when it is closed.
        self._begun = True
        self._won.result.abandon()
        self._break_off(GeneratorExit())
        self._pieces.close()

    def _read(self) -> Generator[ChatDelta, None, None]:
        # What settles the stream runs before its last piece goes out: a caller need not come back for more.
        self._begun = True
        deltas, work, collector = self._won.result, self._work, self._collector
        try:
            while True:
                delta = deltas.next(timeout_s=work.deadline.remaining_s())
                collector.add(delta)
                if isinstance(delta, StreamEnd):
                    break
                yield delta
        except BaseException as error:
            # Also when the reader stops reading: the answer has to be paid for all the same.
            deltas.abandon()
            self._break_off(error)
            raise
        yield self._settle(delta)

    def _settle(self, end: StreamEnd) -> StreamEnd:
        waited_s = self._won.result.waited_s
        self._work.progress.waited_s += waited_s
        result = self._collector.result(self._work.request)
        whole = msgspec.structs.replace(self._won, result=result, elapsed_s=self._won.elapsed_s + waited_s)
        self._settlement.attempt_succeeded(self._work, whole)
        self._answer = self._settlement.answered(self._work, self.target, result)
        self._report = self._answer.report
        # With an estimate where the provider did not count.
        return msgspec.structs.replace(end, usage=result.usage)

    def _break_off(self, error: BaseException) -> None:
        self._work.progress.waited_s += self._won.result.waited_s
        usage = self._collector.usage(self._work.request)
        self._report = self._settlement.broke_off(self._work, self.target, self._won.permit, error, usage)


class WholeStream:
    """A :class:`ChatStream` of an answer that is whole already."""

    def __init__(self, outcome: ChatOutcome) -> None:
        self._outcome = outcome

    @property
    def target(self) -> Target:
        return self._outcome.target

    def __iter__(self) -> Iterator[ChatDelta]:
        result = self._outcome.result
        if result.text:
            yield TextDelta(result.text)
        if result.refusal:
            yield RefusalDelta(result.refusal)
        for index, call in enumerate(result.tool_calls):
            yield ToolCallDelta(index=index, id=call.id, name=call.name, arguments=call.arguments)
        yield StreamEnd(finish_reason=result.finish_reason, usage=result.usage)

    def begun(self) -> Report:
        return self._outcome.report

    def report(self) -> Report:
        return self._outcome.report

    def answer(self) -> ChatOutcome:
        return self._outcome

    def close(self) -> None:
        """It was settled before it began."""
