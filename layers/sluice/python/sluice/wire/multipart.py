"""Forms as browsers and the official clients send files: multipart/form-data, https://www.rfc-editor.org/rfc/rfc7578."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from sluice.domain.errors import InvalidRequestError

MEDIA_TYPE: Final = "multipart/form-data"
MOST_FIELDS: Final = 16
# A field that is no file holds a word or a number.
LONGEST_FIELD: Final = 1_024
_BOUNDARY: Final = re.compile(r'\bboundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))')


class FormFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a form. ``content_type`` is what its sender takes it for, if anything."""

    filename: str
    content_type: str | None
    content: bytes


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A form: its files and its other fields, by name."""

    fields: Mapping[str, str]
    files: Mapping[str, FormFile]

    def file(self, name: str) -> FormFile:
        """The file of this name. :raises InvalidRequestError: there is none."""
        if name in self.fields:
            raise InvalidRequestError(
                f"'{name}' must be a file: it needs a file name.", code="invalid_value", param=name
            )
        if name not in self.files:
            raise _missing(name)
        return self.files[name]

    def only(self, *, files: frozenset[str], fields: frozenset[str]) -> None:
        """See that the form has no others than these. :raises InvalidRequestError: it has."""
        for name in (self.files.keys() - files - fields) | (self.fields.keys() - fields - files):
            raise InvalidRequestError(
                "The form has a field that is not known here. It may have: " + ", ".join(sorted(files | fields)) + ".",
                code="unknown_parameter",
                param=name if name.isprintable() and len(name) <= 64 else None,
            )


def parse_form(content_type: str, body: bytes) -> Form:
    """The form in a body with this ``content-type`` header.

    :raises InvalidRequestError: it is none, or has a field twice.
    """
    boundary = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith(MEDIA_TYPE) or boundary is None:
        raise InvalidRequestError(
            f"The body must be a form ({MEDIA_TYPE}), as 'curl -F' and the official clients send files.",
            code="invalid_form",
        )
    # Loaded by the few functions that take files, when the first one comes.
    from multipart import MultipartError

    try:
        return _collected(boundary[1] or boundary[2], body)
    except (MultipartError, UnicodeDecodeError) as exc:
        raise InvalidRequestError("The form cannot be read: its parts are not complete.", code="invalid_form") from exc


def _collected(boundary: str, body: bytes) -> Form:
    from multipart import MultipartSegment, PushMultipartParser

    fields: dict[str, str] = {}
    files: dict[str, FormFile] = {}
    segment, chunks = None, list[bytes]()
    with PushMultipartParser(boundary, max_segment_count=MOST_FIELDS) as parser:
        # The whole body at once, then its end.
        for event in (event for chunk in (body, b"") if not parser.closed for event in parser.parse(chunk)):
            if isinstance(event, MultipartSegment):
                segment, chunks = event, []
            elif event is not None:
                chunks.append(event)
            elif segment is not None:
                _add(segment.name or "", segment.filename, segment.content_type, b"".join(chunks), fields, files)
    return Form(fields=fields, files=files)


def _add(
    name: str,
    filename: str | None,
    content_type: str | None,
    content: bytes,
    fields: dict[str, str],
    files: dict[str, FormFile],
) -> None:
    if name in fields or name in files:
        raise InvalidRequestError("The form has a field twice.", code="invalid_value", param=name)
    if filename is not None:
        files[name] = FormFile(filename=filename, content_type=content_type, content=content)
    elif len(content) > LONGEST_FIELD:
        raise InvalidRequestError(
            "A field of the form is too long. What is to be a file needs a file name.", code="invalid_value", param=name
        )
    else:
        fields[name] = content.decode()


def _missing(name: str) -> InvalidRequestError:
    return InvalidRequestError(f"'{name}' is required.", code="missing_required_parameter", param=name)
