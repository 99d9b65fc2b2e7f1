"""Files and uploads in OpenAI's wire format, and what Sluice adds to it: presigned parts.

https://platform.openai.com/docs/api-reference/files, https://platform.openai.com/docs/api-reference/uploads
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sluice.domain.errors import InvalidRequestError, RequestTooLargeError
from sluice.domain.files import FilePurpose, NewFile, StoredFile, UploadPart, UploadView
from sluice.wire.multipart import FormFile, parse_form
from sluice.wire.parsing import parse

# Lambda takes 6 MB, and bytes travel to it as base64, which makes four of three.
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_BYTES: Final = 4_400_000
# A page of OpenAI's.
LONGEST_PAGE: Final = 10_000
MOST_PARTS: Final = 10_000
OCTETS: Final = "application/octet-stream"
# OpenAI knows more of them, for what Sluice does not do.
PURPOSES: Final = (FilePurpose.BATCH, FilePurpose.USER_DATA)
_MEDIA_TYPE: Final = r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}$(?!\n)"
_PURPOSE: Final = "purpose"

# Python's `$` lets a line end follow, JSON Schema's does not; `(?!\n)` makes them agree.
Filename = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")]
MediaType = Annotated[str, Meta(max_length=127, pattern=_MEDIA_TYPE)]
Purpose = Literal["batch", "user_data"]


class ExpiresAfter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a file is to be gone: so many ``seconds`` after it was made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3_600, le=2_592_000)]


class FileForm(msgspec.Struct, frozen=True, kw_only=True):
    """What ``POST /files`` has besides the content."""

    purpose: Purpose
    filename: Filename
    expires_after: ExpiresAfter | None = None


class UploadRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /uploads``. With ``presigned`` the parts go straight to S3."""

    bytes: Annotated[int, Meta(ge=1)]
    filename: Filename
    mime_type: MediaType
    purpose: Purpose
    expires_after: ExpiresAfter | None = None
    presigned: bool = False

    def new_file(self) -> NewFile:
        """The file that is to come of it."""
        return NewFile(
            filename=self.filename,
            purpose=FilePurpose(self.purpose),
            content_type=self.mime_type,
            ttl_s=_seconds(self.expires_after),
        )


class UploadCompleteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /uploads/{id}/complete``. ``md5`` is that of the whole file, in hexadecimal."""

    part_ids: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=MOST_PARTS)]
    md5: Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{32}$(?!\n)")] | None = None


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file. Times are epoch seconds."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"

    @classmethod
    def of(cls, file: StoredFile) -> "FileObject":
        """``file`` as its owner sees it."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=file.created_at,
            expires_at=file.expires_at,
            filename=file.filename,
            purpose=file.purpose.value,
        )


class FileList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of files. ``last_id`` is the next page's ``after``."""

    object: Literal["list"] = "list"
    data: tuple[FileObject, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, files: Sequence[StoredFile], *, has_more: bool) -> "FileList":
        """``files`` in their order."""
        return cls(
            data=tuple(map(FileObject.of, files)),
            first_id=files[0].id if files else None,
            last_id=files[-1].id if files else None,
            has_more=has_more,
        )


class FileDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``DELETE /files/{id}``."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class PartUrl(msgspec.Struct, frozen=True, kw_only=True):
    """Where a part can be put. ``part_number`` counts from 1."""

    part_number: int
    url: str


class UploadObject(msgspec.Struct, frozen=True, kw_only=True):
    """An upload. Each of its presigned parts has ``part_size`` bytes, the last has the rest."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    file: FileObject | None
    part_size: int | UnsetType = UNSET
    part_urls: tuple[PartUrl, ...] | UnsetType = UNSET

    @classmethod
    def of(cls, view: UploadView) -> "UploadObject":
        """An upload as its owner sees it."""
        upload = view.upload
        urls = tuple(PartUrl(part_number=index + 1, url=url) for index, url in enumerate(view.part_urls or ()))
        return cls(
            id=upload.id,
            bytes=upload.bytes,
            created_at=upload.created_at,
            expires_at=upload.expires_at,
            filename=upload.filename,
            purpose=upload.purpose.value,
            status=upload.status.value,
            file=None if view.file is None else FileObject.of(view.file),
            part_size=upload.part_size if upload.presigned else UNSET,
            part_urls=urls or UNSET,
        )


class UploadPartObject(msgspec.Struct, frozen=True, kw_only=True):
    """A part that has come."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str

    @classmethod
    def of(cls, part: UploadPart) -> "UploadPartObject":
        """``part`` as its owner sees it."""
        return cls(id=part.id, created_at=part.created_at, upload_id=part.upload_id)


def file_of(content_type: str, body: bytes) -> tuple[NewFile, bytes]:
    """What the form of ``POST /files`` says, and the content.

    :raises RequestTooLargeError: the content is more than a request carries.
    :raises InvalidRequestError: the form is not what it should be.
    """
    form = parse_form(content_type, body)
    anchor, seconds = "expires_after[anchor]", "expires_after[seconds]"
    form.only(files=frozenset({"file"}), fields=frozenset({_PURPOSE, anchor, seconds}))
    file = form.file("file")
    _check_size(file)
    asked: dict[str, object] = {"filename": file.filename}
    if _PURPOSE in form.fields:
        asked[_PURPOSE] = form.fields[_PURPOSE]
    if {anchor, seconds} & form.fields.keys():
        asked["expires_after"] = _expires_after(form.fields.get(anchor), form.fields.get(seconds))
    said, kind = parse(msgspec.json.encode(asked), FileForm), file.content_type or ""
    return NewFile(
        filename=said.filename,
        purpose=FilePurpose(said.purpose),
        content_type=kind if re.match(_MEDIA_TYPE, kind) else OCTETS,
        ttl_s=_seconds(said.expires_after),
    ), file.content


def part_of(content_type: str, body: bytes) -> bytes:
    """The content of the form of ``POST /uploads/{id}/parts``.

    :raises RequestTooLargeError: it is more than a request carries.
    :raises InvalidRequestError: the form is not what it should be.
    """
    form = parse_form(content_type, body)
    form.only(files=frozenset({"data"}), fields=frozenset())
    file = form.file("data")
    _check_size(file)
    return file.content


def purpose_asked(query: Mapping[str, str]) -> str | None:
    """The purpose that a list is to be about, if any. :raises InvalidRequestError: there is no such purpose."""
    purpose = query.get(_PURPOSE)
    if purpose is not None and purpose not in list(FilePurpose):
        known = ", ".join(f"'{each.value}'" for each in FilePurpose)
        raise InvalidRequestError(f"'purpose' must be one of {known}.", code="invalid_value", param=_PURPOSE)
    return purpose


def download_headers(file: StoredFile) -> dict[str, str]:
    """The headers of a content that goes out itself: to be saved, whatever it is."""
    return {
        "content-type": OCTETS,
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
        "x-content-type-options": "nosniff",
    }


def _check_size(file: FormFile) -> None:
    if len(file.content) > MOST_BYTES:
        raise RequestTooLargeError(
            f"A request carries at most {MOST_BYTES:,} bytes of a file; this one has {len(file.content):,}. Larger"
            " files come in parts: POST /v1/uploads, or client.uploads.upload_file_chunked(..., part_size=4_000_000)."
        )


def _expires_after(anchor: str | None, seconds: str | None) -> dict[str, object]:
    """The two fields of a form as the object that JSON would have had."""
    is_number = seconds is not None and seconds.isascii() and seconds.isdigit() and len(seconds) < 12
    given = {"anchor": anchor, "seconds": int(seconds) if seconds is not None and is_number else seconds}
    return {name: value for name, value in given.items() if value is not None}


def _seconds(expires_after: ExpiresAfter | None) -> int | None:
    return None if expires_after is None else expires_after.seconds
