"""Putting objects together, in memory."""

from collections.abc import Callable, Sequence

from sluice.domain.deadline import Deadline
from sluice.domain.errors import SluiceError
from sluice.domain.ports import Piece
from sluice.testing.objects import FakeObjects


class FakeComposer:
    """Implements :class:`~sluice.domain.ports.Composer` over the ``objects`` of a fake object store.

    ``at_once`` is how many pieces a call copies before it says that its time is over (``None``: all of them).
    ``uploads`` has what was begun and which pieces of it are copied, ``types`` the content type of what is done.
    ``on_piece`` is called with each piece before it is copied; ``failing`` is raised by every call while it is set.
    """

    def __init__(self, objects: FakeObjects | None = None, *, at_once: int | None = None) -> None:
        self.objects = objects or FakeObjects()
        self.at_once = at_once
        self.uploads: dict[str, list[bytes]] = {}
        self.types: dict[str, str] = {}
        self.on_piece: Callable[[Piece], None] = lambda _: None
        self.failing: SluiceError | None = None
        self._begun = 0

    def compose(
        self,
        key: str,
        pieces: Sequence[Piece],
        *,
        content_type: str,
        begun: str | None,
        on_begun: Callable[[str], None],
        deadline: Deadline,
        look: Callable[[], None] = lambda: None,
    ) -> bool:
        if self.failing is not None:
            raise self.failing
        if begun is None or begun not in self.uploads:
            self._begun += 1
            begun = f"upload-{self._begun}"
            self.uploads[begun] = []
            on_begun(begun)
        copied = self.uploads[begun]
        missing = [piece for piece in pieces if piece.size][len(copied) :]
        for number, piece in enumerate(missing):
            if deadline.expired or number == self.at_once:
                return False
            look()
            self.on_piece(piece)
            copied.append(self._content(piece))
        self.objects.put(key, b"".join(copied))
        self.types[key] = content_type
        return True

    def _content(self, piece: Piece) -> bytes:
        if piece.key is None:
            return piece.literal
        return self.objects.get(piece.key)[piece.start : piece.start + piece.size]
