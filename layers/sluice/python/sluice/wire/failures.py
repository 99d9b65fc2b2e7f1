"""Why durable work failed, in the shape of OpenAI's errors."""

import msgspec

from sluice.domain.jobs import Failure


class WorkError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``step`` is the index of the workflow's step that failed."""

    message: str
    type: str
    code: str
    step: int | None = None

    @classmethod
    def of(cls, failure: Failure | None) -> "WorkError | None":
        """``failure`` as callers see it."""
        if failure is None:
            return None
        return cls(message=failure.message, type=failure.type, code=failure.code, step=failure.step)
