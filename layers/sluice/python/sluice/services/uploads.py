"""Files that are too large for one request, and come in parts.

Parts that come through the API are objects, which the composer puts together. Presigned parts go straight to S3, as
parts of a multipart upload that S3 puts together itself. Either way the file is there with one transaction, at the very
end, and whatever was interrupted before that is gone on with by asking for it again.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sluice.domain.deadline import Deadline
from sluice.domain.errors import ConflictError, InvalidRequestError, NotFoundError, StateError
from sluice.domain.files import (
    FILE_PREFIX,
    PART_PREFIX,
    UPLOAD_PREFIX,
    NewFile,
    PresignedPart,
    StoredFile,
    Upload,
    UploadPart,
    UploadStatus,
    UploadView,
    object_key_of,
    part_key_of,
)
from sluice.domain.ids import is_id, new_id
from sluice.domain.inference import Caller
from sluice.domain.ports import Composer, FileContents, FileStore, Piece, RangeStore
from sluice.services.files import ttl_of

# Far above S3's least, and 5 GB are 75 of them.
PART_BYTES: Final = 67_108_864
# Who asks for more would wait for longer than the gateway does.
MOST_CHECKED_BYTES: Final = 200_000_000
# Of a request's time, for what comes after its parts are together.
END_NEEDS_S: Final = 3.0


@dataclass(frozen=True)
class Uploads:
    """Takes files of the caller's own key in parts.

    ``most_bytes`` is the largest file, ``ttl_s`` for how long parts are taken, ``file_ttl_days`` how long a file may be
    kept.
    """

    store: FileStore
    contents: FileContents
    ranges: RangeStore
    composer: Composer
    most_bytes: int
    ttl_s: int
    file_ttl_days: int
    clock: Callable[[], float] = time.time

    def create(self, new: NewFile, caller: Caller, *, size: int, presigned: bool) -> UploadView:
        """Begin an upload of a file of ``size`` bytes.

        :raises InvalidRequestError: it is too large, or is to be kept for too long.
        """
        if size > self.most_bytes:
            raise InvalidRequestError(
                f"A file may have at most {self.most_bytes} bytes.", code="invalid_value", param="bytes"
            )
        ttl_of(new.ttl_s, most_days=self.file_ttl_days, param="expires_after.seconds")
        upload = self._new(new, caller, size, presigned=presigned)
        self.store.create_upload(upload)
        return self._view(upload)

    def get(self, upload_id: str, caller: Caller) -> UploadView:
        """How the upload stands; of a pending one, with new URLs for its presigned parts.

        :raises NotFoundError: there is no such upload.
        """
        return self._view(self._own(upload_id, caller))

    def add_part(self, upload_id: str, content: bytes, caller: Caller) -> UploadPart:
        """Take one part: its content first, so that a part that is known has its content.

        :raises NotFoundError: there is no such upload.
        :raises ConflictError: it has ended.
        :raises InvalidRequestError: the part is empty, or the upload's parts are presigned.
        """
        upload = _pending(self._own(upload_id, caller))
        if upload.presigned:
            raise InvalidRequestError("The parts of this upload go to its 'part_urls'.", code="upload_is_presigned")
        if not content:
            raise InvalidRequestError("The part is empty.", code="invalid_value", param="data")
        part_id = new_id(PART_PREFIX)
        part = UploadPart(
            id=part_id,
            upload_id=upload.id,
            bytes=len(content),
            created_at=int(self.clock()),
            object_key=part_key_of(caller.key_id, upload.id, part_id),
        )
        self.contents.put(part.object_key, content, content_type="application/octet-stream")
        self.store.add_part(upload, part)
        return part

    def complete(
        self, upload_id: str, caller: Caller, *, part_ids: Sequence[str], md5: str | None, deadline: Deadline
    ) -> UploadView:
        """Put the parts together, in this order, and make them a file. A repeat is told the same.

        Without ``part_ids`` the presigned parts are meant. ``md5`` is that of the whole file in hexadecimal.

        :raises NotFoundError: there is no such upload.
        :raises ConflictError: it has ended otherwise.
        :raises InvalidRequestError: parts are missing or unknown, or the whole is not what it was said to be.
        :raises StateError: it takes longer than one request may; the next one goes on from there.
        """
        upload = self._own(upload_id, caller)
        if upload.status is not UploadStatus.COMPLETED:
            _pending(upload)
            _refuse_md5_of_large(upload, md5)
            self._put_together(upload, part_ids, deadline)
            self._check_md5(upload, md5, deadline)
            self.store.end_upload(upload, UploadStatus.COMPLETED, file=self._file(upload))
        return self._view(msgspec.structs.replace(upload, status=UploadStatus.COMPLETED))

    def cancel(self, upload_id: str, caller: Caller) -> UploadView:
        """Take no more parts, and make nothing of those that have come, which the bucket's lifecycle deletes.

        A repeat is told the same.

        :raises NotFoundError: there is no such upload.
        :raises ConflictError: it has ended otherwise.
        """
        upload = self._own(upload_id, caller)
        if upload.status is not UploadStatus.CANCELLED:
            self._cancel(_pending(upload))
        return self._view(msgspec.structs.replace(upload, status=UploadStatus.CANCELLED))

    # ---- Uploads ----

    def _new(self, new: NewFile, caller: Caller, size: int, *, presigned: bool) -> Upload:
        now = int(self.clock())
        file_id = new_id(FILE_PREFIX)
        key = object_key_of(caller.key_id, file_id)
        return Upload(
            id=new_id(UPLOAD_PREFIX),
            key_id=caller.key_id,
            file_id=file_id,
            filename=new.filename,
            bytes=size,
            purpose=new.purpose,
            content_type=new.content_type,
            status=UploadStatus.PENDING,
            created_at=now,
            expires_at=now + self.ttl_s,
            part_size=PART_BYTES,
            presigned=presigned,
            file_ttl_s=new.ttl_s,
            multipart_id=self.contents.begin_parts(key, content_type=new.content_type) if presigned else None,
        )

    def _own(self, upload_id: str, caller: Caller) -> Upload:
        upload = self.store.get_upload(caller.key_id, upload_id) if is_id(UPLOAD_PREFIX, upload_id) else None
        if upload is None:
            raise NotFoundError("There is no such upload.", code="upload_not_found")
        if upload.status is UploadStatus.PENDING and upload.expires_at <= self.clock():
            return msgspec.structs.replace(upload, status=UploadStatus.EXPIRED)
        return upload

    def _view(self, upload: Upload) -> UploadView:
        if upload.status is UploadStatus.COMPLETED:
            return UploadView(upload=upload, file=self.store.get(upload.key_id, upload.file_id))
        if upload.status is not UploadStatus.PENDING or not upload.presigned or upload.multipart_id is None:
            return UploadView(upload=upload)
        urls = self.contents.part_urls(_key_of(upload), upload.multipart_id, upload.part_sizes)
        return UploadView(upload=upload, part_urls=urls)

    def _cancel(self, upload: Upload) -> None:
        self.store.end_upload(upload, UploadStatus.CANCELLED)
        if upload.multipart_id is not None:
            self.contents.abort_parts(_key_of(upload), upload.multipart_id)

    def _file(self, upload: Upload) -> StoredFile:
        now = int(self.clock())
        return StoredFile(
            id=upload.file_id,
            key_id=upload.key_id,
            filename=upload.filename,
            bytes=upload.bytes,
            purpose=upload.purpose,
            created_at=now,
            expires_at=now + ttl_of(upload.file_ttl_s, most_days=self.file_ttl_days, param="expires_after.seconds"),
            object_key=_key_of(upload),
            content_type=upload.content_type,
        )

    # ---- Parts ----

    def _put_together(self, upload: Upload, part_ids: Sequence[str], deadline: Deadline) -> None:
        if upload.presigned:
            self._join(upload, part_ids)
        else:
            self._compose(upload, part_ids, deadline)

    def _join(self, upload: Upload, part_ids: Sequence[str]) -> None:
        """Make the file of the parts that S3 has."""
        if part_ids:
            raise InvalidRequestError(
                "The parts of this upload are presigned: 'part_ids' must be empty.",
                code="invalid_value",
                param="part_ids",
            )
        key, multipart_id = _key_of(upload), upload.multipart_id or ""
        try:
            parts = self.contents.parts(key, multipart_id)
            _check_presigned(upload, parts)
            self.contents.join_parts(key, multipart_id, parts)
        except NotFoundError as exc:
            # Another call has come so far, or this one in an earlier life.
            if not self._is_there(upload):
                raise ConflictError("The parts of this upload are gone. Begin a new one.", code="upload_ended") from exc

    def _compose(self, upload: Upload, part_ids: Sequence[str], deadline: Deadline) -> None:
        """Make the file of the parts that came through the API."""
        pieces = _pieces(upload, self._chosen(upload, part_ids))
        order = hashlib.sha256("\n".join(part_ids).encode()).hexdigest()
        if upload.order not in (None, order):
            raise ConflictError(
                "This upload is being completed with other parts, or in another order. Repeat that, or cancel it.",
                code="upload_ended",
            )
        done = self.composer.compose(
            _key_of(upload),
            pieces,
            content_type=upload.content_type,
            begun=upload.composing,
            on_begun=lambda composing: self._note(upload, composing, order),
            deadline=Deadline.after(max(0.0, deadline.remaining_s() - END_NEEDS_S)),
        )
        if not done:
            raise _still_busy()

    def _note(self, upload: Upload, composing: str, order: str) -> None:
        self.store.compose(upload, composing=composing, order=order)

    def _chosen(self, upload: Upload, part_ids: Sequence[str]) -> list[UploadPart]:
        if not part_ids:
            raise InvalidRequestError("'part_ids' names no part.", code="invalid_value", param="part_ids")
        known = self.store.parts(upload)
        for index, part_id in enumerate(part_ids):
            if part_id not in known:
                raise InvalidRequestError(
                    "The upload has no such part.", code="part_not_found", param=f"part_ids[{index}]"
                )
        return [known[part_id] for part_id in part_ids]

    def _is_there(self, upload: Upload) -> bool:
        try:
            return self.contents.size(_key_of(upload)) == upload.bytes
        except NotFoundError:
            return False

    # ---- Checksum ----

    def _check_md5(self, upload: Upload, md5: str | None, deadline: Deadline) -> None:
        if md5 is None:
            return
        digest = hashlib.md5(usedforsecurity=False)
        for block in self.ranges.stream(_key_of(upload)):
            digest.update(block)
            if deadline.remaining_s() < END_NEEDS_S / 2:
                raise _still_busy()
        if digest.hexdigest() != md5.lower():
            self._cancel(upload)
            self.contents.delete(_key_of(upload))
            raise InvalidRequestError(
                "The file is another than 'md5' says. Its upload is cancelled: begin a new one.",
                code="md5_mismatch",
                param="md5",
            )


def _pending(upload: Upload) -> Upload:
    if upload.status is not UploadStatus.PENDING:
        raise ConflictError(f"The upload is over: it is {upload.status.value}.", code="upload_ended")
    return upload


def _key_of(upload: Upload) -> str:
    return object_key_of(upload.key_id, upload.file_id)


def _pieces(upload: Upload, parts: Sequence[UploadPart]) -> list[Piece]:
    _check_size(upload, sum(part.bytes for part in parts))
    return [Piece(part.object_key, part.bytes) for part in parts]


def _check_presigned(upload: Upload, parts: Sequence[PresignedPart]) -> None:
    """See that every part is there and has the size that it must have. :raises InvalidRequestError: not so."""
    wanted = dict(enumerate(upload.part_sizes, start=1))
    found = {part.number: part.bytes for part in parts}
    wrong = [number for number in sorted(wanted | found) if wanted.get(number) != found.get(number)]
    if wrong:
        number = wrong[0]
        raise InvalidRequestError(
            f"Part {number} must have {wanted.get(number, 0)} bytes; it has {found.get(number, 0)}. ({len(wrong)} of"
            f" {len(wanted)} parts are not as they must be.)",
            code="invalid_parts",
            param="part_ids",
        )


def _check_size(upload: Upload, size: int) -> None:
    if size != upload.bytes:
        raise InvalidRequestError(
            f"The parts have {size} bytes together; the upload was to have {upload.bytes}.",
            code="invalid_parts",
            param="part_ids",
        )


def _refuse_md5_of_large(upload: Upload, md5: str | None) -> None:
    if md5 is not None and upload.bytes > MOST_CHECKED_BYTES:
        raise InvalidRequestError(
            f"'md5' is checked for files of up to {MOST_CHECKED_BYTES} bytes. Leave it out.",
            code="unsupported_parameter",
            param="md5",
        )


def _still_busy() -> StateError:
    return StateError("The file is still being put together. Ask for it again.", code="upload_in_progress")
