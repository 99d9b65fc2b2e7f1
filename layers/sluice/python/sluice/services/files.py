"""Files that callers keep: what they upload, and what batches write for them."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sluice.domain.errors import InvalidRequestError, NotFoundError
from sluice.domain.files import FILE_PREFIX, FileContent, NewFile, StoredFile, object_key_of
from sluice.domain.ids import is_id, new_id
from sluice.domain.inference import Caller
from sluice.domain.ports import FileContents, FileStore

SECONDS_PER_DAY: Final = 86_400
# What goes out through the function, as text in JSON, whose bytes may become three times as many on the way. Lambda
# takes 6 MB: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_INLINE_BYTES: Final = 1_000_000
# A list goes the same way. Of a file it takes about 300 bytes, and its name, of which a byte becomes up to four.
MOST_LISTED_BYTES: Final = 5_500_000
LISTED_BYTES: Final = 300
LISTED_BYTES_OF_NAME: Final = 4


@dataclass(frozen=True)
class Files:
    """Creates, shows, lists and deletes the files of the caller's own key. ``ttl_days`` is how long one may be kept."""

    store: FileStore
    contents: FileContents
    ttl_days: int
    clock: Callable[[], float] = time.time

    def create(self, new: NewFile, content: bytes, caller: Caller) -> StoredFile:
        """Store the content, then the file: a file that is known has its content.

        :raises InvalidRequestError: it is to be kept for too long.
        """
        now = int(self.clock())
        file_id = new_id(FILE_PREFIX)
        file = StoredFile(
            id=file_id,
            key_id=caller.key_id,
            filename=new.filename,
            bytes=len(content),
            purpose=new.purpose,
            created_at=now,
            expires_at=now + ttl_of(new.ttl_s, most_days=self.ttl_days, param="expires_after.seconds"),
            object_key=object_key_of(caller.key_id, file_id),
            content_type=new.content_type,
        )
        self.contents.put(file.object_key, content, content_type=file.content_type)
        self.store.create(file)
        return file

    def get(self, file_id: str, caller: Caller) -> StoredFile:
        """The caller's own file. :raises NotFoundError: there is none."""
        file = self.store.get(caller.key_id, file_id) if is_id(FILE_PREFIX, file_id) else None
        if file is None:
            raise NotFoundError("There is no such file.", code="file_not_found")
        return file

    def page(
        self, caller: Caller, *, limit: int, after: str | None, newest_first: bool, purpose: str | None
    ) -> tuple[tuple[StoredFile, ...], bool]:
        """The caller's files behind the file ``after``, and whether there are more.

        Of files with long names it may be fewer than ``limit`` although there are more.

        :raises NotFoundError: there is no such file ``after``.
        """
        if after is not None and not is_id(FILE_PREFIX, after):
            raise NotFoundError("There is no such file.", param="after")
        found, more = self.store.page(
            caller.key_id, limit=limit, after=after, newest_first=newest_first, purpose=purpose
        )
        fitting = _fitting(found)
        return found[:fitting], more or fitting < len(found)

    def delete(self, file_id: str, caller: Caller) -> None:
        """Forget the file, then delete its content, also that of one which an interrupted call had only forgotten.

        A batch that reads it ends as failed, as what is gone is gone for everybody.

        :raises NotFoundError: there is no such file (any more).
        """
        if is_id(FILE_PREFIX, file_id):
            known = self.store.get(caller.key_id, file_id) is not None
            self.store.delete(caller.key_id, file_id)
            # By the caller's own key, whatever the id: nobody else's content can be meant.
            self.contents.delete(object_key_of(caller.key_id, file_id))
            if known:
                return
        raise NotFoundError("There is no such file.", code="file_not_found")

    def content(self, file_id: str, caller: Caller) -> FileContent:
        """What is in the file: a small text itself, all else by a URL. :raises NotFoundError: there is no such file."""
        file = self.get(file_id, caller)
        if file.bytes <= MOST_INLINE_BYTES:
            body = self.contents.get(file.object_key)
            if _is_text(body):
                return FileContent(file=file, text=body)
        return FileContent(file=file, url=self.contents.download_url(file))


def ttl_of(asked_s: int | None, *, most_days: int, param: str) -> int:
    """For how many seconds a file is kept.

    :raises InvalidRequestError: that is longer than this deployment keeps files; ``param`` is the field to blame.
    """
    most_s = most_days * SECONDS_PER_DAY
    if asked_s is None:
        return most_s
    if asked_s > most_s:
        raise InvalidRequestError(
            f"'{param}' may be at most {most_s}: files are kept for {most_days} days here.",
            code="invalid_value",
            param=param,
        )
    return asked_s


def _fitting(files: Sequence[StoredFile]) -> int:
    """How many of the files fit into one answer."""
    listed = itertools.accumulate(LISTED_BYTES + LISTED_BYTES_OF_NAME * len(file.filename.encode()) for file in files)
    return sum(1 for size in listed if size <= MOST_LISTED_BYTES)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
