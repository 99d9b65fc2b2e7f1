"""A worker that is killed at any step, before or after it took effect: every line still has one result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sluice.domain.batches import BatchStatus, ChunkStatus
from sluice.domain.errors import ProviderUnavailableError
from sluice.domain.routing import Target
from tests.unit.sluice.services.chunks import World, chat_line

LINES = [chat_line(f"line-{number}") for number in range(6)]
LEASE_IS_OVER_S = 1_000


class Killed(BaseException):
    """What a process that is gone does not handle."""


class Death:
    """Comes at the step numbered ``at``, and only then."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Killed


class Mortal:
    """Calls go through, unless the caller dies just before or just after."""

    def __init__(self, inner: Any, death: Death) -> None:
        self._inner = inner
        self._death = death

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._death.step()
            result = method(*args, **kwargs)
            self._death.step()
            return result

        return call


def mortal(world: World, death: Death) -> None:
    world.run_chunk._batches = Mortal(world.batches, death)
    world.run_chunk._objects = Mortal(world.objects, death)
    world.run_chunk._chunks = Mortal(world.chunks, death)
    world.run_chunk._assembly = Mortal(world.assembly, death)


def immortal(world: World) -> None:
    world.run_chunk._batches = world.batches
    world.run_chunk._objects = world.objects
    world.run_chunk._chunks = world.chunks
    world.run_chunk._assembly = world.assembly


def run_all(world: World) -> None:
    """What the queue and the watch see to: chunks that are out come again until they have ended."""
    for _ in range(20):
        waiting = world.batches.chunks_out(world.batch)
        if not waiting:
            return
        for chunk in waiting:
            world.deliver(chunk.number)
        world.now += LEASE_IS_OVER_S


def deliver_all(world: World) -> None:
    for number in range(3):
        world.deliver(number)


def check(world: World) -> None:
    assert all(chunk.status is ChunkStatus.ENDED for chunk in world.batches.stored_chunks.values())
    found = sorted(each["custom_id"] for each in (*world.outputs(), *world.errors()))
    assert found == [f"line-{number}" for number in range(6)]
    assert (world.batch.completed, world.batch.failed) == (len(world.outputs()), len(world.errors()))
    assert world.batch.is_drained
    assert world.batch.held_micro_usd == 0
    assert sum(entry.requests for entry in world.log.entries) == 6
    world.check_money()


def scenario(world: World) -> None:
    """Two chunks end, and one leaves a line that fails, and is called again."""
    failures = iter([True, True])

    def before(text: str, where: Target) -> None:
        if text == "line-2" and next(failures, False):
            raise ProviderUnavailableError("Away.", target=where.name)

    world.model.before = before
    for number in (0, 1, 1, 2, 2):
        world.deliver(number)
    world.model.before = lambda *_: None


def steps() -> int:
    world, death = World(LINES, per_chunk=2), Death(at=0)
    mortal(world, death)
    scenario(world)
    immortal(world)
    check(world)
    return death.steps


@pytest.mark.parametrize("at", range(1, steps() + 1))
def test_killed_at_any_step_the_batch_still_ends_as_it_should(at: int) -> None:
    world = World(LINES, per_chunk=2)
    mortal(world, Death(at))
    with pytest.raises(Killed):
        scenario(world)
    immortal(world)
    world.model.before = lambda *_: None
    world.now += LEASE_IS_OVER_S
    run_all(world)
    check(world)
    # Whatever was left in the queue comes twice more: then the assembler has been told, and nothing else has changed.
    deliver_all(world)
    before = (dict(world.objects.bodies), world.batches.stored_chunks.copy(), world.log.entries, world.batch)
    deliver_all(world)
    assert (dict(world.objects.bodies), world.batches.stored_chunks, world.log.entries, world.batch) == before
    assert world.batch.status is BatchStatus.FINALIZING
    assert world.assembly.receive()
