"""What the terminal shows: one line per phase with its time, a moving line while it lasts."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from local.errors import LocalError

__all__ = ["Phase", "phase", "say", "show_error"]


class Phase:
    """A step in progress. `result` is what its finished line adds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.result = ""
        self.started = time.monotonic()

    def progress(self, text: str) -> None:
        """Show how far the step is; on a terminal only, where the line can be overwritten."""
        if sys.stdout.isatty():
            line = f"    {self.title}: {text}, {self.seconds:.0f} s"
            print(f"\r\033[K{line[:110]}", end="", flush=True)

    def note(self, text: str) -> None:
        """Print a line that stays: something was found and is being repaired."""
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}      {text}", flush=True)

    @property
    def seconds(self) -> float:
        """Time since the step began."""
        return time.monotonic() - self.started

    def finish(self, mark: str) -> None:
        """Print the step's final line."""
        if sys.stdout.isatty():
            print("\r\033[K", end="")
        text = f"{self.title}: {self.result}" if self.result else self.title
        print(f"{mark:>4}  {text}  ({self.seconds:.1f} s)", flush=True)


@contextlib.contextmanager
def phase(title: str) -> Iterator[Phase]:
    """Show a step: its title while it lasts, then its result and time, or that it failed."""
    step = Phase(title)
    step.progress("…")
    try:
        yield step
    except BaseException:
        step.result = ""
        step.finish("FAIL")
        raise
    step.finish("ok")


def say(text: str = "") -> None:
    """Print a line."""
    print(text, flush=True)


def show_error(error: LocalError) -> None:
    """Print an error: details first, so that what is wrong and what to do stand last."""
    sys.stdout.flush()
    for line in error.details:
        print(f"    | {line}", file=sys.stderr)
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr, flush=True)
