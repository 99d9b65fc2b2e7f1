"""What an instance remembers: who is changing it, what was applied to which cloud, and whether an apply finished."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local.errors import LocalError
from local.files import read_json, write_json
from local.instance import Instance

__all__ = ["Applied", "applying", "fingerprint", "forget", "half_finished", "holder", "locked"]

# Files of the Terraform root that an apply reads.
_TERRAFORM_SUFFIXES = (".tf", ".tfvars", ".tftpl", ".json", ".hcl")
_IGNORED_FOLDERS = {".terraform", "tests", "packaging"}


@dataclass(frozen=True)
class Applied:
    """The last finished apply: of what (`fingerprint`), to which run of the local cloud, and Terraform's outputs."""

    fingerprint: str
    cloud_run: str
    outputs: dict[str, Any]

    @classmethod
    def load(cls, instance: Instance) -> Applied | None:
        """The last finished apply; None when there was none or its file is broken."""
        value = read_json(instance.applied_file)
        if value is None:
            return None
        match value:
            case {"fingerprint": str() as digest, "cloud_run": str() as run, "outputs": dict() as outputs}:
                return cls(digest, run, outputs)
        return None

    def save(self, instance: Instance) -> None:
        """Remember this apply."""
        write_json(instance.applied_file, asdict(self))


def forget(instance: Instance) -> None:
    """Forget what was applied (the cloud it was applied to is gone or about to go)."""
    instance.applied_file.unlink(missing_ok=True)


@contextlib.contextmanager
def applying(instance: Instance) -> Iterator[None]:
    """Mark the cloud as being changed. The mark stays when the change fails or this process dies."""
    write_json(instance.applying_file, {"pid": os.getpid(), "since": _now()})
    yield
    instance.applying_file.unlink(missing_ok=True)


def half_finished(instance: Instance) -> bool:
    """True when an earlier apply or destroy did not get to its end."""
    return instance.applying_file.exists()


@contextlib.contextmanager
def locked(instance: Instance, verb: str) -> Iterator[None]:
    """Hold the instance for `verb`. Raises LocalError, saying who holds it, when somebody else does.

    The kernel drops the lock when its holder dies, so it can never be stale.
    """
    instance.state.mkdir(parents=True, exist_ok=True)
    with instance.lock_file.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as taken:
            message = f"{_describe_holder(instance)} is already working on the {instance.name} instance"
            raise LocalError(message, "wait for it to finish, or stop it with Ctrl-C in its terminal") from taken
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "verb": verb, "since": _now()}))
        file.flush()
        yield


def holder(instance: Instance) -> str:
    """Who is changing the instance at this moment, in words; empty when nobody is."""
    try:
        with instance.lock_file.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return ""
    except OSError:
        return _describe_holder(instance)
    return ""


def _describe_holder(instance: Instance) -> str:
    found = read_json(instance.lock_file) or {}
    verb, pid, since = (found.get(name, "unknown") for name in ("verb", "pid", "since"))
    return f"`{verb}` (pid {pid}, since {since})"


def _now() -> str:
    return time.strftime("%H:%M:%S")


def fingerprint(infra: Path, packages: Iterable[Path], variables: Mapping[str, str]) -> str:
    """SHA-256 over everything an apply depends on: Terraform files, built packages and variables.

    Content and relative names only, so that a fresh checkout or a touched file makes no difference.
    """
    digest = hashlib.sha256()
    for name, path in sorted([*_terraform_files(infra), *((f"package:{path.name}", path) for path in packages)]):
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    digest.update(json.dumps(dict(variables), sort_keys=True).encode())
    return digest.hexdigest()


def _terraform_files(infra: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, files in os.walk(infra):
        folders[:] = sorted(set(folders) - _IGNORED_FOLDERS)
        for file in files:
            if file.endswith(_TERRAFORM_SUFFIXES):
                path = Path(folder, file)
                yield path.relative_to(infra).as_posix(), path
