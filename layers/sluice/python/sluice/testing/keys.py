"""API keys and records of what administrators did, in memory."""

import threading
from collections.abc import Sequence

from sluice.domain.audit import AdminAction
from sluice.domain.errors import NotFoundError, SluiceError, StateConflictError
from sluice.domain.keys import ApiKey, newest_first


class FakeAudit:
    """Implements :class:`~sluice.domain.ports.AuditLog`. ``failing`` is raised while it is set."""

    def __init__(self) -> None:
        self.actions: list[AdminAction] = []
        self.failing: SluiceError | None = None

    def record(self, action: AdminAction) -> None:
        if self.failing is not None:
            raise self.failing
        self.actions.append(action)


class FakeKeys:
    """Implements :class:`~sluice.domain.ports.KeyStore`.

    ``reads`` counts look-ups by hash and by id, ``actions`` are what was stored with changes; ``failing`` is raised if
    set. ``unseen`` are hashes that look-ups by id do not find yet, as an index that lags behind its table would not.
    """

    def __init__(self, *keys: ApiKey) -> None:
        self.stored = {key.key_hash: key for key in keys}
        self.actions: list[AdminAction] = []
        self.reads = 0
        self.failing: SluiceError | None = None
        self.unseen: set[str] = set()
        self._lock = threading.Lock()

    def get(self, key_hash: str) -> ApiKey | None:
        self._read()
        return self.stored.get(key_hash)

    def by_id(self, key_id: str) -> tuple[ApiKey, ...]:
        self._read()
        with self._lock:
            return newest_first(
                [key for key in self.stored.values() if key.id == key_id and key.key_hash not in self.unseen]
            )

    def page(self, *, limit: int, after: str | None) -> tuple[tuple[ApiKey, ...], str | None]:
        self._read()
        with self._lock:
            current = [key for key in self.stored.values() if key.retires_at is None and key.id > (after or "")]
        current.sort(key=lambda key: key.id)
        page = tuple(current[:limit])
        return page, page[-1].id if len(current) > limit else None

    def create(self, key: ApiKey, action: AdminAction) -> None:
        self._fail()
        with self._lock:
            self._add(key)
            self.actions.append(action)

    def replace(self, keys: Sequence[ApiKey], action: AdminAction, *, added: ApiKey | None = None) -> None:
        self._fail()
        with self._lock:
            for key in keys:
                before = self.stored.get(key.key_hash)
                if before is None:
                    raise NotFoundError("There is no key with this id.", param="id")
                if before.version >= key.version:
                    raise StateConflictError("The table holds another state than this change needs.")
            if added is not None:
                self._add(added)
            self.stored |= {key.key_hash: key for key in keys}
            self.actions.append(action)

    def _add(self, key: ApiKey) -> None:
        if key.key_hash in self.stored:
            raise StateConflictError("The key exists already.")
        self.stored[key.key_hash] = key

    def _read(self) -> None:
        self.reads += 1
        self._fail()

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing
