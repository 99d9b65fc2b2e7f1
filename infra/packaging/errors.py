"""The one error of this package."""

__all__ = ["PackagingError"]


class PackagingError(Exception):
    """The build cannot go on; the message is one line that says what is wrong and what to do about it."""
