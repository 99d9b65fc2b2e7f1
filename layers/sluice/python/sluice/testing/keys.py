"""API keys in memory."""

import msgspec

from sluice.domain.errors import NotFoundError, SluiceError, StateConflictError
from sluice.domain.keys import ApiKey


class FakeKeys:
    """Implements :class:`~sluice.domain.ports.KeyStore`. ``reads`` counts look-ups; ``failing`` is raised if set."""

    def __init__(self, *keys: ApiKey) -> None:
        self.stored = {key.key_hash: key for key in keys}
        self.reads = 0
        self.failing: SluiceError | None = None

    def get(self, key_hash: str) -> ApiKey | None:
        self.reads += 1
        if self.failing is not None:
            raise self.failing
        return self.stored.get(key_hash)

    def create(self, key: ApiKey) -> None:
        if key.key_hash in self.stored:
            raise StateConflictError("The key exists already.")
        self.stored[key.key_hash] = key

    def revoke(self, key_id: str, *, now: int) -> ApiKey:
        found = next((key for key in self.stored.values() if key.id == key_id), None)
        if found is None:
            raise NotFoundError("There is no key with this id.", param="id")
        revoked = msgspec.structs.replace(found, revoked_at=found.revoked_at or now)
        self.stored[found.key_hash] = revoked
        return revoked
