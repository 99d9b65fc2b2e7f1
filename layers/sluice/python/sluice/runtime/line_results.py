"""How the results of lines are written down: as the lines of OpenAI's output and error files, or as Parquet."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sluice.domain.batches import Batch, OutputFormat
from sluice.domain.errors import SluiceError
from sluice.domain.tasks import TaskAnswer
from sluice.runtime import http
from sluice.services.line_queue import Line, LineName
from sluice.services.part_results import Rows
from sluice.wire.batch_lines import RESULT_PREFIX, answered_line, result_id, unanswered_line

if TYPE_CHECKING:
    from sluice.adapters.parquet import PartWriter

_REQUEST_PREFIX: Final = "req"


class LineResults:
    """Implements :class:`~sluice.services.part_results.PartForms`."""

    def request_id(self, batch_id: str, number: int) -> str:
        return result_id(batch_id, number).replace(RESULT_PREFIX, _REQUEST_PREFIX, 1)

    def output(self, batch: Batch) -> Rows:
        if batch.output_format is OutputFormat.PARQUET:
            from sluice.adapters.parquet import PartWriter

            return _ParquetRows(PartWriter())
        return _JsonRows(batch.id, self)

    def failed(self, batch_id: str, line: LineName, error: Exception) -> bytes:
        """As OpenAI's error files have it: the response is there, and is the error that the route would answer."""
        status, body = 500, http.unexpected_body()
        if isinstance(error, SluiceError):
            status, body = http.status_of(error), http.error_body(error)
        return answered_line(
            batch_id,
            line.number,
            line.custom_id,
            status_code=status,
            request_id=self.request_id(batch_id, line.number),
            body=msgspec.json.encode(body),
        )

    def unanswered(self, batch_id: str, line: LineName, *, code: str, message: str) -> bytes:
        return unanswered_line(batch_id, line.number, line.custom_id, code=code, message=message)


class _JsonRows:
    """Lines of JSON, in the order in which they come."""

    suffix = "jsonl"

    def __init__(self, batch_id: str, forms: LineResults) -> None:
        self._batch_id = batch_id
        self._forms = forms
        self._lines: list[bytes] = []
        self.size = 0

    def row(self, line: Line, answer: TaskAnswer) -> bytes:
        return answered_line(
            self._batch_id,
            line.number,
            line.custom_id,
            status_code=answer.status_code,
            request_id=self._forms.request_id(self._batch_id, line.number),
            body=answer.body,
        )

    def add(self, row: Any) -> None:
        self._lines.append(row)
        self.size += len(row)

    def finish(self) -> bytes:
        return b"".join(self._lines)


class _Vector(msgspec.Struct, frozen=True):
    """One row of a Parquet file."""

    index: int
    numbers: Sequence[float]
    tokens: int | None


class _ParquetRows:
    """A row for each input of each line."""

    suffix = "parquet"

    def __init__(self, writer: "PartWriter") -> None:
        self._writer = writer

    @property
    def size(self) -> int:
        return self._writer.size

    def row(self, line: Line, answer: TaskAnswer) -> tuple[str, str, list[_Vector]]:
        tokens: Sequence[int | None] = answer.tokens_by_input or [None] * len(answer.vectors)
        if len(answer.vectors) == 1:
            # The tokens of the only input are those of the answer.
            tokens = [answer.usage.input_tokens]
        pairs = zip(answer.vectors, tokens, strict=True)
        return line.custom_id, answer.target, [_Vector(index, *pair) for index, pair in enumerate(pairs)]

    def add(self, row: Any) -> None:
        custom_id, model, vectors = row
        for vector in vectors:
            self._writer.add(
                custom_id=custom_id,
                index=vector.index,
                embedding=vector.numbers,
                prompt_tokens=vector.tokens,
                model=model,
            )

    def finish(self) -> bytes:
        return self._writer.finish()
