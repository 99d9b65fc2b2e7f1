"""Move dead letters back to their queue, as many as the time of one request allows."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sluice.domain.audit import Administrator, AdminVerb
from sluice.domain.deadline import Deadline
from sluice.domain.errors import NotFoundError
from sluice.domain.ports import AuditLog, DeadLetterReasons, DeadLetters
from sluice.domain.redrive import DeadLetter, Redriven

# Enough for what was received to be moved or released, and for the record and the answer.
MARGIN_S: Final = 5.0


@dataclass(frozen=True)
class Redrive:
    """Redrives the queues of the platform, by name. The reasons for what is moved are forgotten."""

    queues: Mapping[str, DeadLetters]
    audit: AuditLog
    reasons: DeadLetterReasons
    now: Callable[[], float] = time.time

    def redrive(self, name: str, by: Administrator, *, before_ms: int | None, deadline: Deadline) -> Redriven:
        """Move what was sent before ``before_ms`` (by default now, in milliseconds since 1970).

        So what fails again and comes back meanwhile stays, also when the rest of a large queue is moved by a later
        call, which is told the ``before_ms`` of the first.

        :raises NotFoundError: there is no such queue.
        """
        letters = self.queues.get(name)
        if letters is None:
            raise NotFoundError(f"There is no queue of this name; there is: {', '.join(self.queues)}.", param="name")
        before_ms = letters.now_ms() if before_ms is None else before_ms
        run = _Run(letters, before_ms, deadline, forget=lambda letter: self.reasons.forget(name, letter.message_id))
        try:
            run.move()
        finally:
            # Whatever became of the rest, what was moved is moved.
            if run.moved:
                changes = {"moved": str(run.moved)}
                self.audit.record(by.did(AdminVerb.QUEUE_REDRIVEN, name, at=self.now(), changes=changes))
        return Redriven(queue=name, moved=run.moved, done=run.done, before_ms=before_ms)


class _Run:
    """One request's share of a redrive."""

    def __init__(
        self, letters: DeadLetters, before_ms: int, deadline: Deadline, *, forget: Callable[[DeadLetter], None]
    ) -> None:
        self._letters = letters
        self._before_ms = before_ms
        self._deadline = deadline
        self._forget = forget
        self.moved = 0
        self.done = False

    def move(self) -> None:
        """Move what can be moved in time."""
        held: list[DeadLetter] = []
        try:
            for letter in self._received():
                if letter.sent_ms >= self._before_ms or self._is_late():
                    # Held until the end: released at once, it would be received again and again.
                    held.append(letter)
                else:
                    self._letters.move(letter)
                    self.moved += 1
                    self._forget(letter)
        finally:
            for letter in held:
                self._letters.release(letter)

    def _received(self) -> Iterator[DeadLetter]:
        while not self._is_late():
            batch = self._letters.receive()
            if not batch:
                self.done = True
                return
            yield from batch

    def _is_late(self) -> bool:
        return self._deadline.remaining_s() < MARGIN_S
