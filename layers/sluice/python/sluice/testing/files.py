"""Files, uploads and what is in them, in memory."""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

import msgspec

from sluice.domain.errors import NotFoundError, SluiceError, StateConflictError
from sluice.domain.files import PresignedPart, StoredFile, Upload, UploadPart, UploadStatus


class FakeFiles:
    """Implements :class:`~sluice.domain.ports.FileStore`. ``failing`` is raised by every call while it is set."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.files: dict[str, StoredFile] = {}
        self.uploads: dict[str, Upload] = {}
        self.stored_parts: dict[str, UploadPart] = {}
        self.failing: SluiceError | None = None
        self._clock = clock
        self._lock = threading.RLock()

    def create(self, file: StoredFile) -> None:
        with self._lock:
            self._fail()
            if self.files.setdefault(file.id, file) != file:
                raise StateConflictError("The file exists already.")

    def get(self, key_id: str, file_id: str) -> StoredFile | None:
        with self._lock:
            self._fail()
            file = self.files.get(file_id)
        return file if file and file.key_id == key_id and file.expires_at > self._clock() else None

    def page(
        self, key_id: str, *, limit: int, after: str | None, newest_first: bool, purpose: str | None
    ) -> tuple[tuple[StoredFile, ...], bool]:
        with self._lock:
            own = [file for file_id in self.files if (file := self.get(key_id, file_id))]
        own.sort(key=_place, reverse=newest_first)
        if after is not None:
            last = next((file for file in own if file.id == after), None)
            if last is None:
                raise NotFoundError("There is no such file.", param="after")
            own = own[own.index(last) + 1 :]
        chosen = [file for file in own if purpose in (None, file.purpose.value)]
        return tuple(chosen[:limit]), len(chosen) > limit

    def delete(self, key_id: str, file_id: str) -> None:
        with self._lock:
            self._fail()
            if file_id in self.files and self.files[file_id].key_id == key_id:
                del self.files[file_id]

    def create_upload(self, upload: Upload) -> None:
        with self._lock:
            self._fail()
            if self.uploads.setdefault(upload.id, upload) != upload:
                raise StateConflictError("The upload exists already.")

    def get_upload(self, key_id: str, upload_id: str) -> Upload | None:
        with self._lock:
            self._fail()
            upload = self.uploads.get(upload_id)
        return upload if upload and upload.key_id == key_id else None

    def add_part(self, upload: Upload, part: UploadPart) -> None:
        with self._lock:
            self._fail()
            if self.stored_parts.setdefault(part.id, part) != part:
                raise StateConflictError("The part exists already.")

    def parts(self, upload: Upload) -> Mapping[str, UploadPart]:
        with self._lock:
            self._fail()
            return {part.id: part for part in self.stored_parts.values() if part.upload_id == upload.id}

    def compose(self, upload: Upload, *, composing: str, order: str) -> Upload:
        with self._lock:
            self._fail()
            stored = self.uploads[upload.id]
            theirs = stored.composing is not None and (stored.composing, stored.order) != (composing, order)
            if stored.status is not UploadStatus.PENDING or theirs:
                raise StateConflictError("The upload is put together otherwise.")
            self.uploads[upload.id] = msgspec.structs.replace(stored, composing=composing, order=order)
            return self.uploads[upload.id]

    def end_upload(self, upload: Upload, status: UploadStatus, *, file: StoredFile | None = None) -> None:
        with self._lock:
            self._fail()
            stored = self.uploads[upload.id]
            if stored.status is status:
                return
            if stored.status is not UploadStatus.PENDING:
                raise StateConflictError("The upload has ended otherwise.")
            if file is not None:
                self.create(file)
            self.uploads[upload.id] = msgspec.structs.replace(stored, status=status)

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing


def _place(file: StoredFile) -> tuple[int, str]:
    return file.created_at, file.id


class FakeFileContents:
    """Implements :class:`~sluice.domain.ports.FileContents`, over the ``bodies`` of an object store if given one's.

    ``failing`` is raised by every call while it is set. :meth:`put_part` is what a holder of a part's URL does.
    """

    def __init__(self, bodies: dict[str, bytes] | None = None) -> None:
        self.bodies = {} if bodies is None else bodies
        self.content_types: dict[str, str] = {}
        self.multiparts: dict[str, dict[int, bytes]] = {}
        self.failing: SluiceError | None = None

    def put(self, key: str, body: bytes, *, content_type: str) -> None:
        self._fail()
        self.bodies[key] = body
        self.content_types[key] = content_type

    def get(self, key: str) -> bytes:
        self._fail()
        if key not in self.bodies:
            raise NotFoundError("There is no such object.")
        return self.bodies[key]

    def size(self, key: str) -> int:
        return len(self.get(key))

    def delete(self, key: str) -> None:
        self._fail()
        self.bodies.pop(key, None)

    def download_url(self, file: StoredFile) -> str:
        self._fail()
        return f"https://objects/{file.object_key}"

    def begin_parts(self, key: str, *, content_type: str) -> str:
        self._fail()
        multipart_id = f"multipart-{len(self.multiparts)}"
        self.multiparts[multipart_id] = {}
        self.content_types[key] = content_type
        return multipart_id

    def part_urls(self, key: str, multipart_id: str, sizes: Sequence[int]) -> Sequence[str]:
        self._fail()
        base = f"https://objects/{key}?uploadId={multipart_id}"
        return [f"{base}&partNumber={number}&length={size}" for number, size in enumerate(sizes, start=1)]

    def put_part(self, url: str, body: bytes) -> None:
        """Put a part to its URL. :raises PermissionError: it has another length than was signed."""
        query = dict(parse_qsl(urlsplit(url).query))
        if len(body) != int(query["length"]):
            raise PermissionError
        self.multiparts[query["uploadId"]][int(query["partNumber"])] = body

    def parts(self, key: str, multipart_id: str) -> Sequence[PresignedPart]:
        self._fail()
        return [
            PresignedPart(number=number, bytes=len(body), tag=_tag(body))
            for number, body in sorted(self._multipart(multipart_id).items())
        ]

    def join_parts(self, key: str, multipart_id: str, parts: Sequence[PresignedPart]) -> None:
        self._fail()
        stored = self._multipart(multipart_id)
        if any(_tag(stored[part.number]) != part.tag for part in parts):
            raise StateConflictError("A part is another than it was.")
        self.bodies[key] = b"".join(stored[part.number] for part in parts)
        del self.multiparts[multipart_id]

    def abort_parts(self, key: str, multipart_id: str) -> None:
        self._fail()
        self.multiparts.pop(multipart_id, None)

    def _multipart(self, multipart_id: str) -> dict[int, bytes]:
        if multipart_id not in self.multiparts:
            raise NotFoundError("There is no such upload.")
        return self.multiparts[multipart_id]

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing


def _tag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
