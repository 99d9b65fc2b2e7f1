"""The one exception of `local/`: something a person has to know about, in one line, and what to do about it."""

__all__ = ["LocalError"]


class LocalError(Exception):
    """Raised when the local platform cannot go on; shown without a traceback.

    `message` says what is wrong and names it (port, process, file). `hint` is the next thing to type or do.
    `details` are lines from somewhere else (a log, Terraform) that explain the message.
    """

    def __init__(self, message: str, hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
