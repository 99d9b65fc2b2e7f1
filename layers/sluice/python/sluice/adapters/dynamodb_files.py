"""Files and uploads in the table. A file is one item, listed by its key's id in the order of creation.

An upload is one item, and another for each part that came through the API: parts come side by side, and an item that
all of them change would make them wait for each other.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from sluice.adapters.dynamodb import (
    ABSENT,
    PRESENT,
    ConditionFailedError,
    Item,
    Put,
    Table,
    Update,
    to_struct,
    to_values,
)
from sluice.domain.errors import NotFoundError, StateConflictError
from sluice.domain.files import StoredFile, Upload, UploadPart, UploadStatus

INDEX: Final = "gsi1"
FILE: Final = "FILE#"
LIST: Final = "FILES#"
UPLOAD: Final = "UPLOAD#"
PART: Final = "PART#"
SORT_KEY: Final = "META"
# How long one can still see what became of an upload after its time.
UPLOAD_KEPT_S: Final = 86_400
_PAGE: Final = 1_000
_PENDING: Final = f"{PRESENT} AND #status = :pending"


class DynamoDBFiles:
    """Implements :class:`~sluice.domain.ports.FileStore`. Lists follow the changes with a short delay."""

    def __init__(self, table: Table, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock

    def create(self, file: StoredFile) -> None:
        self._put_new(to_item(file), lambda item: from_item(item) == file)

    def get(self, key_id: str, file_id: str) -> StoredFile | None:
        item = self._table.get(f"{FILE}{file_id}", SORT_KEY, consistent=True)
        return self._visible(item, key_id)

    def page(
        self, key_id: str, *, limit: int, after: str | None, newest_first: bool, purpose: str | None
    ) -> tuple[tuple[StoredFile, ...], bool]:
        place = None if after is None else self._place(key_id, after)
        found = self._table.iterate_index(
            INDEX, f"{LIST}{key_id}", after=place, page_size=min(limit + 1, _PAGE), newest_first=newest_first
        )
        files = tuple(itertools.islice(self._chosen(found, key_id, purpose), limit + 1))
        return files[:limit], len(files) > limit

    def delete(self, key_id: str, file_id: str) -> None:
        try:
            self._table.delete(f"{FILE}{file_id}", SORT_KEY, condition="key_id = :key", values={":key": key_id})
        except ConditionFailedError:
            return

    def create_upload(self, upload: Upload) -> None:
        self._put_new(_upload_item(upload), lambda item: _to_upload(item) == upload)

    def get_upload(self, key_id: str, upload_id: str) -> Upload | None:
        item = self._table.get(f"{UPLOAD}{upload_id}", SORT_KEY, consistent=True)
        upload = None if item is None else _to_upload(item)
        return upload if upload is not None and upload.key_id == key_id else None

    def add_part(self, upload: Upload, part: UploadPart) -> None:
        item = {
            "pk": f"{UPLOAD}{upload.id}",
            "sk": f"{PART}{part.id}",
            **to_values(part),
            "expires_at": upload.expires_at + UPLOAD_KEPT_S,
        }
        self._put_new(item, lambda item: to_struct(item, UploadPart) == part)

    def parts(self, upload: Upload) -> Mapping[str, UploadPart]:
        items = self._table.query(f"{UPLOAD}{upload.id}", prefix=PART, consistent=True)
        parts = [to_struct(item, UploadPart) for item in items]
        return {part.id: part for part in parts}

    def compose(self, upload: Upload, *, composing: str, order: str) -> Upload:
        ours = "(attribute_not_exists(composing) OR (composing = :composing AND #order = :order))"
        item = self._table.update(
            f"{UPLOAD}{upload.id}",
            SORT_KEY,
            "SET composing = :composing, #order = :order",
            condition=f"{_PENDING} AND {ours}",
            values={":composing": composing, ":order": order, ":pending": UploadStatus.PENDING.value},
            names={"#status": "status", "#order": "order"},
        )
        return _to_upload(item)

    def end_upload(self, upload: Upload, status: UploadStatus, *, file: StoredFile | None = None) -> None:
        ending = Update(
            f"{UPLOAD}{upload.id}",
            SORT_KEY,
            "SET #status = :status",
            {":status": status.value, ":pending": UploadStatus.PENDING.value},
            _PENDING,
            {"#status": "status"},
        )
        try:
            self._table.transact(ending, *([Put(to_item(file), ABSENT)] if file else []))
        except StateConflictError:
            # Our own write, whose answer was lost, or another's that came to the same.
            stored = self.get_upload(upload.key_id, upload.id)
            if stored is None or stored.status is not status:
                raise

    def _put_new(self, item: Item, is_same: Callable[[Item], bool]) -> None:
        """Store a new item, unless our own write got there before: botocore repeats a call whose answer was lost."""
        try:
            self._table.put(item, condition=ABSENT)
        except ConditionFailedError as exc:
            if exc.item is None or not is_same(exc.item):
                raise

    def _visible(self, item: Item | None, key_id: str) -> StoredFile | None:
        file = None if item is None else from_item(item)
        # The table deletes what has expired within days, not at once.
        return file if file and file.key_id == key_id and file.expires_at > self._clock() else None

    def _chosen(self, items: Iterator[dict[str, Any]], key_id: str, purpose: str | None) -> Iterator[StoredFile]:
        for item in items:
            file = self._visible(item, key_id)
            if file and purpose in (None, file.purpose.value):
                yield file

    def _place(self, key_id: str, file_id: str) -> str:
        file = self.get(key_id, file_id)
        if file is None:
            raise NotFoundError("There is no such file.", param="after")
        return _place_of(file)


def to_item(file: StoredFile) -> Item:
    """The whole item of a file."""
    return {
        "pk": f"{FILE}{file.id}",
        "sk": SORT_KEY,
        "gsi1pk": f"{LIST}{file.key_id}",
        "gsi1sk": _place_of(file),
        **to_values(file),
    }


def from_item(item: Item) -> StoredFile:
    """The file that an item holds. :raises ConfigurationError: it is malformed."""
    return to_struct(item, StoredFile)


def _place_of(file: StoredFile) -> str:
    return f"{file.created_at:012d}#{file.id}"


def _upload_item(upload: Upload) -> Item:
    return {
        "pk": f"{UPLOAD}{upload.id}",
        "sk": SORT_KEY,
        **to_values(upload),
        # `expires_at` is when the table forgets an item.
        "expires_at_s": upload.expires_at,
        "expires_at": upload.expires_at + UPLOAD_KEPT_S,
    }


def _to_upload(item: Item) -> Upload:
    return to_struct({**item, "expires_at": item.get("expires_at_s")}, Upload)
