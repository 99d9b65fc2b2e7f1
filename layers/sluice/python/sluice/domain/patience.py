"""How long durable work waits for room within its key's limits. Nobody sits and waits for it, so it is not refused."""

import math
from collections.abc import Callable
from typing import Final

from sluice.domain.errors import LimitError

LONGEST_WAIT_S: Final = 900
FIRST_SPREAD_S: Final = 5


def passes(error: LimitError) -> bool:
    """Whether there will be room before long."""
    return error.retry_after_s is not None and error.retry_after_s <= LONGEST_WAIT_S


def wait_s(error: LimitError, *, waits: int, jitter: Callable[[float, float], float]) -> int | None:
    """Seconds until it is worth asking again; ``None`` when no waiting helps, or when this was not only about room.

    A request that had been admitted, and then had no money for another call, has been paid for in part: to start it all
    over is an attempt like any other.

    Whatever waits for the same minute would come back in the same second, a long queue all of it. So each of the
    ``waits`` before this one doubles the time over which they come back.
    """
    admitted = error.report is not None and error.report.attempts > 0
    if error.retry_after_s is None or admitted or not passes(error):
        return None
    spread = min(FIRST_SPREAD_S * (2 ** min(waits, 10) - 1), LONGEST_WAIT_S)
    return min(max(1, math.ceil(error.retry_after_s + jitter(0, spread))), LONGEST_WAIT_S)
