"""Bodies that belong to an item: compressed, in the item itself while they are small, else in an object store.

The object is written before the item that names it, and never again: an item that is there has its body, and one that
was written half leaves nothing but an object that nobody knows, which the bucket's lifecycle rule deletes.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from sluice.domain.errors import NotFoundError
from sluice.domain.ports import ObjectStore

PREFIX: Final = "responses/"
CONTENT_TYPE: Final = "application/zlib"

_INLINE: Final = "packed"
_ELSEWHERE: Final = "packed_key"
# Of the longer of the two names, of the type and of what a number of bytes may be off.
_OVERHEAD: Final = 16
# Above this somebody would wait for it: the first level takes a third of the sixth's time or less, for 5 to 20 % more.
_LARGE: Final = 64 * 1024


class Bodies:
    """Packs bodies and unpacks them. ``objects`` is asked for the object store when a body first needs it."""

    def __init__(self, objects: Callable[[], ObjectStore]) -> None:
        self._objects = objects

    def packed(self, body: bytes, *, room: int, key: str) -> dict[str, object]:
        """The attribute that stands for ``body`` in an item that has ``room`` bytes left.

        What is larger goes to the object store, under ``responses/<key>``; no two bodies may have the same key.

        :raises StateError: the object store does not take it.
        """
        compressed = zlib.compress(body, 1 if len(body) > _LARGE else 6)
        if len(compressed) + _OVERHEAD <= room:
            return {_INLINE: compressed}
        self._objects().put(PREFIX + key, compressed)
        return {_ELSEWHERE: PREFIX + key}

    def unpacked(self, item: Mapping[str, Any]) -> bytes | None:
        """The body of an item; ``None`` when its object is not there, or is not what was put there.

        :raises StateError: the object store does not answer.
        """
        compressed = item.get(_INLINE)
        try:
            if compressed is None:
                compressed = self._objects().get(item[_ELSEWHERE])
            return zlib.decompress(compressed)
        except (NotFoundError, zlib.error):
            return None


def has_body(item: Mapping[str, Any]) -> bool:
    """Whether an item has a body, here or elsewhere."""
    return _INLINE in item or _ELSEWHERE in item


HAS_NO_BODY: Final = f"attribute_not_exists({_INLINE}) AND attribute_not_exists({_ELSEWHERE})"
"""The condition that goes with :func:`has_body`."""
