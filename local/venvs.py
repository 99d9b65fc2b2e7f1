"""The local cloud's own virtual environment: built from hash-pinned requirements, checked, rebuilt when broken.

It is not ours to share: Lambda functions run in its interpreter, and what a function forgot to package must fail here
as it would on AWS.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from local.errors import LocalError
from local.instance import Instance
from local.processes import tail

__all__ = ["ministack_python"]

_STAMP = "sluice-requirements"
# Settings for other projects, which would send the packages elsewhere.
_NOT_OURS = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PYTHONHOME", "PYTHONPATH"}


def ministack_python(instance: Instance) -> Path:
    """Interpreter of the MiniStack environment, which is built first when missing, stale or broken.

    Raises LocalError when it cannot be built. Takes about 10 s plus the download when it has to be.
    """
    folder = instance.venvs / "ministack"
    requirements = instance.root / "requirements" / "ministack.txt"
    if not requirements.is_file():
        raise LocalError(f"{requirements} is missing", "restore it: git checkout -- requirements")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Instances share the environment, and two of them may start at once.
    with (folder.parent / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_usable(folder, _digest(requirements)):
            _build(folder, requirements, instance.logs / "venv.log")
    return _python(folder)


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _digest(requirements: Path) -> str:
    content = requirements.read_bytes() + sys.version.encode()
    return hashlib.sha256(content).hexdigest()


def _is_usable(folder: Path, digest: str) -> bool:
    stamp = folder / _STAMP
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != digest:
        return False
    # An upgraded or removed base interpreter, or a half-deleted folder, shows only when it is run.
    check = "import ministack.app, hypercorn"
    try:
        result = subprocess.run([_python(folder), "-c", check], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return result.returncode == 0


def _build(folder: Path, requirements: Path, log: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    install = [str(_python(folder)), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(requirements)]
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    with log.open("wb") as output:
        for command in ([sys.executable, "-m", "venv", str(folder)], install):
            code = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False).returncode
            if code != 0:
                raise LocalError(
                    f"the local cloud's virtual environment could not be built (exit {code})",
                    f"see {log}; a package index must be reachable the first time",
                    tail(log, 6),
                )
    # Written last: a build that was interrupted has no stamp and is built again.
    (folder / _STAMP).write_text(_digest(requirements), encoding="utf-8")
