"""Zips whose bytes depend on their content alone."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["atomic", "digest_files", "source_files", "write_zip"]

# The first moment a zip can express.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_READABLE_FILE = 0o100644
_PROGRAM = 0o100755
_UNIX = 3
# Caches and what editors and operating systems leave behind; never content.
_JUNK_FOLDERS = frozenset({"__pycache__", "tests"})
_JUNK_SUFFIXES = (".pyc", ".pyo", ".swp", "~")


def source_files(folder: Path) -> list[Path]:
    """Files below `folder` that are content, sorted: no caches, no dot files, no tests."""
    return sorted(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _JUNK_FOLDERS and not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and not name.endswith(_JUNK_SUFFIXES):
                yield Path(parent, name)


def digest_files(root: Path, files: list[Path]) -> str:
    """SHA-256 (hex) over the contents of `files` and their names relative to `root`."""
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def write_zip(tree: Path, destination: Path) -> int:
    """Zip everything below `tree` into `destination`, whole or not at all; returns the unzipped size in bytes.

    Names are sorted, times and modes fixed, so equal content gives equal bytes in any checkout (given the same zlib).
    """
    files = sorted(
        (path for path in tree.rglob("*") if path.is_file()), key=lambda path: path.relative_to(tree).as_posix()
    )
    total = 0
    with atomic(destination) as stream, zipfile.ZipFile(stream, "w") as archive:
        for path in files:
            content = path.read_bytes()
            total += len(content)
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), _EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = _mode(path, content) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 6)
    return total


def _mode(path: Path, content: bytes) -> int:
    """By content, since a checkout may have lost the file's own mode: a script without a suffix is there to be run."""
    return _PROGRAM if not path.suffix and content.startswith(b"#!") else _READABLE_FILE


@contextmanager
def atomic(destination: Path) -> Iterator[BinaryIO]:
    """A binary stream that takes the place of `destination` when the block ends, and leaves no trace when it fails."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield cast("BinaryIO", stream)
        # mkstemp makes files that only their owner may read.
        temporary.chmod(0o644)
        temporary.replace(destination)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
