"""Terraform without an account, a backend or a trace: its data goes below `.local/check`, never beside the sources.

`python -m tests.infra.terraform validate` is the Terraform part of `make check`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from local.plugins import find_plugin_folder, usual_places
from local.prerequisites import find_terraform

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
_SCRATCH = ROOT / ".local" / "check"
_LOCK = ".terraform.lock.hcl"


def compositions() -> list[Path]:
    """Folders that are applied on their own."""
    return [INFRA, INFRA / "bootstrap"]


def modules() -> list[Path]:
    """First-party modules."""
    return sorted(path.parent for path in (INFRA / "modules").glob("*/main.tf"))


def title(folder: Path) -> str:
    """The folder's name below the repository."""
    return folder.relative_to(ROOT).as_posix()


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`terraform <arguments>` in `folder`, which is initialised first; the output has stderr in it."""
    # Checks and tests may run side by side, so each has its own data.
    data = _SCRATCH / arguments[0] / title(folder).replace("/", "-")
    with _alone():
        begun = _terraform(folder, data, "init", "-backend=false", "-input=false", *_plugin_folder())
    return begun if begun.returncode else _terraform(folder, data, *arguments)


def _terraform(folder: Path, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if not (folder / _LOCK).exists():
        # A module is pinned by whoever calls it; on its own it is tested with the root's pins (git ignores the copy).
        shutil.copy(INFRA / _LOCK, folder / _LOCK)
    verb, *rest = arguments
    command = ["terraform", f"-chdir={folder}", verb, "-no-color", *rest]
    return subprocess.run(
        command,
        env=_environment() | {"TF_DATA_DIR": str(data)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@contextmanager
def _alone() -> Iterator[None]:
    """Terraform's plugin cache does not bear two downloads at once."""
    _SCRATCH.mkdir(parents=True, exist_ok=True)
    with (_SCRATCH / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@cache
def _environment() -> dict[str, str]:
    """Ours without anything that could reach an account or another configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
    config = os.environ.get("TF_CLI_CONFIG_FILE", "")
    if Path(config).is_file():
        kept["TF_CLI_CONFIG_FILE"] = config
    cache_folder = Path(os.environ.get("TF_PLUGIN_CACHE_DIR") or ROOT / ".local" / "cache" / "terraform")
    cache_folder.mkdir(parents=True, exist_ok=True)
    return kept | {
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        # The provider is 700 MB: downloaded once, not once for each module.
        "TF_PLUGIN_CACHE_DIR": str(cache_folder),
    }


@cache
def _plugin_folder() -> tuple[str, ...]:
    terraform = find_terraform(dict(os.environ))
    folder = find_plugin_folder(os.environ, usual_places(Path.home()), terraform.platform)
    return (f"-plugin-dir={folder}",) if folder else ()


def _validate() -> int:
    failed = 0
    for folder in compositions():
        result = run(folder, "validate")
        if result.returncode:
            failed = 1
            print(f"{title(folder)}:\n{result.stdout}")
        else:
            print(f"{title(folder)}: valid")
    return failed


if __name__ == "__main__":
    sys.exit(_validate())
