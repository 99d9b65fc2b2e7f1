"""Which lines of a chunk go together in one call, and which models they may ask.

Texts for a model inside this function are embedded many at a time: a call costs as much as a hundred texts. Everything
else is asked line by line.
"""

from collections.abc import Sequence
from typing import Final

from sluice.domain.errors import CallerError
from sluice.domain.inference import EmbeddingRequest, Operation
from sluice.domain.routing import RouteTable, Target
from sluice.domain.tasks import Task
from sluice.services.line_queue import Line, Unit

GROUP_TEXTS: Final = 512
GROUP_CHARACTERS: Final = 256 * 1024
# A group keeps a core busy, and functions have one: two at once take twice the time each, and memory of their own.
GROUPS_AT_ONCE: Final = 1

_Key = tuple[str, int | None]


class ModelsBehind:
    """What the names of models stand for, looked up once."""

    def __init__(self, routes: RouteTable, allowed_models: tuple[str, ...] | None) -> None:
        self._routes = routes
        self._allowed_models = allowed_models
        self._known: dict[tuple[str, Operation], tuple[Target, ...]] = {}

    def of(self, task: Task) -> tuple[Target, ...]:
        """The targets that may answer; none where the model may not be used, which running the line will tell."""
        place = (task.model, task.operation)
        if place not in self._known:
            try:
                self._known[place] = self._routes.resolve(*place, self._allowed_models)
            except CallerError:
                self._known[place] = ()
        return self._known[place]

    def outside(self, tasks: Sequence[Task]) -> list[str]:
        """The names of the targets outside this function that any of the tasks may ask, each once."""
        return sorted({target.name for target in self._outside(tasks)})

    def providers(self, tasks: Sequence[Task]) -> list[str]:
        """The providers behind :meth:`outside`, each once, by names that no target can have."""
        return sorted({_provider_of(target) for target in self._outside(tasks)})

    def group(self, task: Task) -> _Key | None:
        """What tasks have to have in common to be done by one call; ``None``: this one is done by itself."""
        request, targets = task.request, self.of(task)
        if not isinstance(request, EmbeddingRequest) or len(request.inputs) > GROUP_TEXTS:
            return None
        inside = bool(targets) and all(target.provider == "in_process" for target in targets)
        return (request.model, request.dimensions) if inside else None

    def most_at_once(self, unit: Unit, line_concurrency: int) -> int:
        """How many such units may be under way at once."""
        return GROUPS_AT_ONCE if self.group(unit.lines[0].task) else line_concurrency

    def _outside(self, tasks: Sequence[Task]) -> list[Target]:
        found = {(task.model, task.operation): task for task in tasks}
        targets = [target for task in found.values() for target in self.of(task)]
        return [target for target in targets if target.provider != "in_process"]


def _provider_of(target: Target) -> str:
    """Two endpoints that speak the same protocol are two providers, and so are two regions: each has its own quota."""
    where = target.base_url.rstrip("/") if target.base_url else target.region
    return "#".join(["provider", target.provider, *([where] if where else [])])


def units_of(lines: Sequence[Line], models: ModelsBehind) -> list[Unit]:
    """The lines as they are to be run, each in one unit."""
    units: list[Unit] = []
    open_groups: dict[_Key, _Group] = {}
    for line in lines:
        key = models.group(line.task)
        if key is None:
            units.append(Unit(lines=(line,)))
            continue
        group = open_groups.setdefault(key, _Group())
        if not group.takes(line):
            units.append(group.unit)
            group = open_groups[key] = _Group()
        group.add(line)
    return [*units, *(group.unit for group in open_groups.values())]


class _Group:
    """Lines that are done by one call."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._texts = 0
        self._characters = 0

    @property
    def unit(self) -> Unit:
        return Unit(lines=tuple(self._lines))

    def takes(self, line: Line) -> bool:
        texts = _texts(line)
        fits = self._texts + len(texts) <= GROUP_TEXTS
        return not self._lines or (fits and self._characters + sum(map(len, texts)) <= GROUP_CHARACTERS)

    def add(self, line: Line) -> None:
        texts = _texts(line)
        self._lines.append(line)
        self._texts += len(texts)
        self._characters += sum(map(len, texts))


def _texts(line: Line) -> tuple[str, ...]:
    request = line.task.request
    return request.inputs if isinstance(request, EmbeddingRequest) else ()
