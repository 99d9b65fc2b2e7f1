"""The results of an attempt at a chunk, in the form in which they are stored, until they are."""

import threading
from typing import Protocol

from sluice.domain.batches import Batch
from sluice.domain.tasks import TaskAnswer
from sluice.services.line_queue import Line, LineName


class PartOutput(Protocol):
    """The answers of a part, growing. Used by one thread at a time."""

    @property
    def suffix(self) -> str:
        """How the names of such objects end, without the dot."""
        ...

    @property
    def size(self) -> int:
        """Bytes so far, more or less."""
        ...

    def finish(self) -> bytes:
        """The object. Nothing may be added after that."""
        ...


class PartForms(Protocol):
    """How results are written down."""

    def request_id(self, batch_id: str, number: int) -> str:
        """The id of a line's request: the same whenever, and however often, it is asked for."""
        ...

    def output(self, batch: Batch) -> "Rows":
        """A new, empty output of the form that the batch wants."""
        ...

    def failed(self, batch_id: str, line: LineName, error: Exception) -> bytes:
        """The line of the error file for a line that was run, and failed."""
        ...

    def unanswered(self, batch_id: str, line: LineName, *, code: str, message: str) -> bytes:
        """The line of the error file for a line that was never run."""
        ...


class Rows(PartOutput, Protocol):
    """An output that takes answers in two steps, so that the costly one can be taken by many threads at once."""

    def row(self, line: Line, answer: TaskAnswer) -> object:
        """The answer as it will be written. Safe to use from several threads."""
        ...

    def add(self, row: object) -> None:
        """Write what :meth:`row` has made."""
        ...


class PartResults:
    """Implements :class:`~sluice.services.run_lines.Results`. It is full with ``most_bytes`` of results."""

    def __init__(self, batch: Batch, forms: PartForms, *, most_bytes: int) -> None:
        self._batch_id = batch.id
        self._forms = forms
        self._most_bytes = most_bytes
        self._rows = forms.output(batch)
        self._errors: list[bytes] = []
        self._error_bytes = 0
        self._places: set[int] = set()
        self._lock = threading.Lock()
        self.completed = 0
        self.errors = 0

    def answered(self, line: Line, answer: TaskAnswer) -> None:
        row = self._rows.row(line, answer)
        with self._lock:
            self._note(line)
            self._rows.add(row)
            self.completed += 1

    def failed(self, line: LineName, error: Exception) -> None:
        self._add_error(line, self._forms.failed(self._batch_id, line, error))

    def unanswered(self, line: LineName, *, code: str, message: str) -> None:
        """The line is not run, and its error says why."""
        self._add_error(line, self._forms.unanswered(self._batch_id, line, code=code, message=message))

    @property
    def full(self) -> bool:
        return self._rows.size + self._error_bytes >= self._most_bytes

    @property
    def places(self) -> tuple[int, ...]:
        """The places of the lines that have their results here."""
        return tuple(self._places)

    def has(self, place: int) -> bool:
        """Whether the line at this place has its result here."""
        return place in self._places

    @property
    def suffix(self) -> str:
        """How the name of the output object ends."""
        return self._rows.suffix

    def output(self) -> bytes | None:
        """The object with the answers; ``None`` where there are none."""
        return self._rows.finish() if self.completed else None

    def error_lines(self) -> bytes | None:
        """The object with the errors; ``None`` where there are none."""
        return b"".join(self._errors) if self._errors else None

    def _add_error(self, line: LineName, written: bytes) -> None:
        with self._lock:
            self._note(line)
            self._errors.append(written)
            self._error_bytes += len(written)
            self.errors += 1

    def _note(self, line: LineName) -> None:
        if line.place in self._places:
            raise RuntimeError("A line has two results.")
        self._places.add(line.place)
