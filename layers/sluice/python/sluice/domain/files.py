"""Files that callers upload, and that batches write for them.

A file belongs to a key: nobody else ever sees it, or learns that it is there. Its content is one object of the bucket.
Whoever deletes the file deletes that too; of one that expires, the bucket's lifecycle does.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

FILE_PREFIX: Final = "file"
UPLOAD_PREFIX: Final = "upload"
PART_PREFIX: Final = "part"
# Where the contents live in the bucket, whose lifecycle rules go by these names.
FILES_FOLDER: Final = "files/"
UPLOADS_FOLDER: Final = "uploads/"


class FilePurpose(StrEnum):
    """What a file is for: the input of a batch, anything else a caller keeps, or what a batch has written."""

    BATCH = "batch"
    USER_DATA = "user_data"
    BATCH_OUTPUT = "batch_output"


class NewFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says about a file. ``ttl_s`` is for how many seconds it is to be kept, if that was said."""

    filename: str
    purpose: FilePurpose
    content_type: str
    ttl_s: int | None = None


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file, complete. Times are epoch seconds, ``bytes`` is its size, ``object_key`` where its content is.

    ``expires_at`` is when it is gone for callers. The bucket deletes the content by its age alone, a day after the
    longest time for which a file may be kept.
    """

    id: str
    key_id: str
    filename: str
    bytes: int
    purpose: FilePurpose
    created_at: int
    expires_at: int
    object_key: str
    content_type: str = "application/jsonl"


def object_key_of(key_id: str, file_id: str) -> str:
    """Where the content of a file is kept."""
    return f"{FILES_FOLDER}{key_id}/{file_id}"


class FileContent(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a file: its ``text``, which is UTF-8, or else the ``url`` under which the content can be fetched."""

    file: StoredFile
    text: bytes | None = None
    url: str | None = None


def part_key_of(key_id: str, upload_id: str, part_id: str) -> str:
    """Where a part is kept that came through the API."""
    return f"{UPLOADS_FOLDER}{key_id}/{upload_id}/{part_id}"


class UploadStatus(StrEnum):
    """pending → completed | cancelled | expired."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file that comes in parts. Times are epoch seconds, ``bytes`` is the size that the file is to have.

    ``file_id`` is the id that the file will have, ``file_ttl_s`` for how long it is to be kept once it is there, where
    the caller has said so. Parts come in one of two ways: ``presigned`` ones of ``part_size`` bytes (the last has the
    rest) go straight to S3, into its multipart upload ``multipart_id``; others come through the API, and are objects of
    their own until the upload is completed. While those are put together, ``composing`` is what the composer has to be
    told to go on, and ``order`` tells which parts they are, in which order.
    """

    id: str
    key_id: str
    file_id: str
    filename: str
    bytes: int
    purpose: FilePurpose
    content_type: str
    status: UploadStatus
    created_at: int
    expires_at: int
    part_size: int
    presigned: bool = False
    file_ttl_s: int | None = None
    multipart_id: str | None = None
    composing: str | None = None
    order: str | None = None

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """How many bytes each of the file's presigned parts has, in their order."""
        full, rest = divmod(self.bytes, self.part_size)
        return (self.part_size,) * full + ((rest,) if rest else ())


class UploadPart(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a file that came through the API: ``bytes`` many of them, in the object ``object_key``."""

    id: str
    upload_id: str
    bytes: int
    created_at: int
    object_key: str


class PresignedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a file that S3 has taken itself; ``number`` counts from 1, ``tag`` is S3's name for its content."""

    number: int
    bytes: int
    tag: str


class UploadView(msgspec.Struct, frozen=True, kw_only=True):
    """An upload as its owner sees it: the ``file`` that came of it, and where its presigned parts can be put."""

    upload: Upload
    file: StoredFile | None = None
    part_urls: Sequence[str] | None = None
