"""How fast the work of batches goes at one target: slots, pauses, and a limit that follows what the provider takes.

Batches use what nobody else needs. Chunks that ask a target hold a *slot* each, of which there are so many at most,
whichever batches they belong to; and one at its provider, which has a record of its own with slots and nothing else, so
that many models are no way around the limit. A target that throttles is left alone until the moment it named, by all
of them; and its limit is halved, to grow by one with every chunk that is not throttled, as TCP does it. None of this is
known to requests that somebody waits for: they go by the circuits alone, and throttled batches never open one.

A record only changes by compare-and-swap of the whole of it, so every rule here is a plain function from one record to
the next.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

# One wave of throttles, which all chunks at work report, halves the limit once.
WAVE_S: Final = 5.0
# A provider that asks for more is asked again all the same: nobody pays for it, and it may have been a mistake.
LONGEST_PAUSE_S: Final = 600.0
_ATTEMPT: Final = "#"


def holder_of(chunk: str, attempt: int) -> str:
    """The name by which an attempt at a chunk holds its slots."""
    return f"{chunk}{_ATTEMPT}{attempt}"


def _chunk_of(holder: str) -> str:
    return holder.partition(_ATTEMPT)[0]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """One target's pace, or a provider's slots. Times are epoch seconds.

    ``slots`` are the chunks at work, by the name of their holder (:func:`holder_of`), each with the time at which its
    slot lapses. ``limit`` is how many there may be, ``None`` as many as the deployment allows. Nobody is to ask the
    target before ``paused_until``; ``throttled_at`` is when it last throttled.
    """

    slots: Mapping[str, int] = {}
    limit: int | None = None
    paused_until: float = 0.0
    throttled_at: float = 0.0

    def paused_s(self, now: float) -> float:
        """Seconds until the target may be asked, 0 when that is now."""
        return max(0.0, self.paused_until - now)

    def taken_by(self, holder: str, *, until: int, now: float, most: int) -> "Pace | None":
        """With a slot for ``holder``, which has it until then at most; ``None`` when all are taken.

        A slot that an earlier attempt at the same chunk has becomes this one's.
        """
        chunk = _chunk_of(holder)
        others = {name: lapses for name, lapses in self.slots.items() if lapses > now and _chunk_of(name) != chunk}
        if len(others) >= self._limit(most):
            return None
        return msgspec.structs.replace(self, slots={**others, holder: until})

    def left_by(self, holder: str, *, clean: bool, now: float, most: int) -> "Pace | None":
        """Without the slot of ``holder``; ``clean``: its chunk was not throttled, so there may be room for more.

        ``None`` when it has none: it has lapsed, or a later attempt at the chunk has taken it over.
        """
        if holder not in self.slots:
            return None
        others = {name: lapses for name, lapses in self.slots.items() if lapses > now and name != holder}
        limit = self.limit
        if clean and limit is not None:
            limit = limit + 1 if limit + 1 < most else None
        return msgspec.structs.replace(self, slots=others, limit=limit)

    def throttled(self, *, until: float, now: float, most: int) -> "Pace | None":
        """After a throttle; nobody asks again before ``until``. ``None`` when that is known already."""
        until = min(until, now + LONGEST_PAUSE_S)
        first = now - self.throttled_at >= WAVE_S
        if not first and until <= self.paused_until:
            return None
        return msgspec.structs.replace(
            self,
            limit=max(1, self._limit(most) // 2) if first else self.limit,
            paused_until=max(until, self.paused_until),
            throttled_at=now if first else self.throttled_at,
        )

    def _limit(self, most: int) -> int:
        return most if self.limit is None else min(self.limit, most)


FREE: Final = Pace()


class PaceState(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of one target. ``version`` names exactly what was read; ``None``: nothing is stored."""

    pace: Pace = FREE
    version: str | None = None
