"""Lays the packaged zips out as Lambda does, and the handlers they are compared with beside them.

Below ``.local/bench``: ``opt`` (both layers, unpacked) and ``tasks/<name>`` (/var/task of each handler). Below
``.local/cache/bench``, made once: ``opt-plain`` (the same locked packages by ``pip install -t`` alone: whole, without
bytecode) and ``runtime`` (what Lambda has in /var/runtime).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.packaging import archive, dependencies, targets
from infra.packaging.build import build
from infra.packaging.bytecode import compile_tree
from infra.packaging.errors import PackagingError

__all__ = ["FUNCTIONS", "OURS", "PLAIN", "Layout", "Size", "add_build", "lay_out", "write_floor"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_HERE: Final = Path(__file__).resolve().parent
_CACHE: Final = _ROOT / ".local" / "cache" / "bench"
# The route that is measured, and the two functions without which it is never reached.
FUNCTIONS: Final = ("chat_completions", "authorizer", "admin_keys")
# Layers by name: as packaged here, by pip alone, or of another checkout (`add_build`).
OURS: Final = "opt"
PLAIN: Final = "plain"
_LAYERS: Final = ("dependencies", "sluice")


@dataclass(frozen=True)
class Size:
    """Of a zip: as it is uploaded and as it lies on disk, in bytes."""

    zipped: int
    unzipped: int


@dataclass(frozen=True)
class Layout:
    """Where everything lies. ``runtime`` says which runtime calls the handlers."""

    folder: Path
    runtime: str
    sizes: Mapping[str, Size]

    def task(self, name: str) -> Path:
        """What is /var/task in Lambda."""
        return self.folder / "tasks" / name

    def path(self, name: str, layers_of: str) -> str:
        """PYTHONPATH in Lambda's order: the function, its layers, the runtime."""
        layers = _CACHE / "opt-plain" if layers_of == PLAIN else self.folder / layers_of / "python"
        return ":".join(map(str, (self.task(name), layers, _CACHE / "runtime")))

    def command(self, handler: str) -> list[str]:
        """Starts the runtime with ``handler``: without site-packages, and with a file system that takes no bytecode."""
        python = [sys.executable, "-S", "-s", "-B"]
        if self.runtime == "awslambdaric":
            return [*python, "-m", "awslambdaric", handler]
        return [*python, str(_HERE / "runtime_loop.py"), handler]


def lay_out(folder: Path = _ROOT / ".local" / "bench") -> Layout:
    """Bring ``build/local`` and everything below ``folder`` up to date.

    :raises PackagingError: something cannot be built or installed.
    """
    build(targets.local(), _ROOT)
    package = _ROOT / "build" / "local"
    shutil.rmtree(folder / OURS, ignore_errors=True)
    shutil.rmtree(folder / "tasks", ignore_errors=True)
    for layer in _LAYERS:
        _unzip(package / "layers" / f"{layer}.zip", folder / OURS)
    for function in FUNCTIONS:
        _unzip(package / "functions" / f"{function}.zip", folder / "tasks" / function)
    for name in ("sleeper", "profiler"):
        _unzip(package / "functions" / "chat_completions.zip", folder / "tasks" / name)
    for name in ("sleeper", "profiler", "empty"):
        _add_module(name, folder / "tasks" / name)
    return Layout(folder, _runtime(), {**_packaged_sizes(package), "plain": _plain_layer()})


def add_build(layout: Layout, name: str, package: Path) -> None:
    """Lay out the ``build/local`` of another checkout as the task ``name`` with layers of the same name."""
    if not (package / "manifest.json").is_file():
        raise PackagingError(f"{package} is no finished build: run `make package` in that checkout")
    shutil.rmtree(layout.folder / name, ignore_errors=True)
    for layer in _LAYERS:
        _unzip(package / "layers" / f"{layer}.zip", layout.folder / name)
    _unzip(package / "functions" / "chat_completions.zip", layout.task(name))


def write_floor(layout: Layout, calls: Mapping[str, Sequence[Mapping[str, Any]]]) -> Size:
    """Package the floor handler with the calls it has to make; the size of its zip."""
    task = layout.task("floor")
    _add_module("floor", task)
    (task / "floor" / "calls.json").write_text(json.dumps(calls, indent=1))
    # Packaged the plain way, a function has no bytecode either.
    shutil.copytree(task, layout.task("floor-plain"), ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    destination = layout.folder / "floor.zip"
    return Size(unzipped=archive.write_zip(task, destination), zipped=destination.stat().st_size)


def _unzip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as content:
        content.extractall(folder)


def _add_module(name: str, task: Path) -> None:
    (task / name).mkdir(parents=True, exist_ok=True)
    for source in (_HERE / name).glob("*.py"):
        shutil.copyfile(source, task / name / source.name)
    compile_tree(task, "/var/task", Path(sys.executable))


def _packaged_sizes(package: Path) -> dict[str, Size]:
    artifacts = json.loads((package / "manifest.json").read_text())["artifacts"]
    names = ("functions/chat_completions.zip", *(f"layers/{layer}.zip" for layer in _LAYERS))
    return {name: Size(artifacts[name]["bytes"], artifacts[name]["unzipped_bytes"]) for name in names}


def _runtime() -> str:
    """Lambda's own runtime where there is a wheel of it, else ours."""
    destination = _CACHE / "runtime"
    try:
        if _install(_ROOT / "requirements" / "bench.txt", destination):
            compile_tree(destination, "/var/runtime", Path(sys.executable))
    except PackagingError as problem:
        print(f"note: {problem}; a loop of ours takes the place of Lambda's own runtime client")
        return "runtime_loop.py"
    return "awslambdaric"


def _plain_layer() -> Size:
    """The layer's packages as ``pip install -t`` leaves them, and their size in a zip."""
    destination, sizes = _CACHE / "opt-plain", _CACHE / "opt-plain.json"
    if _install(_ROOT / "layers" / "dependencies" / "requirements.txt", destination) or not sizes.is_file():
        zipped = _CACHE / "opt-plain.zip"
        unzipped = archive.write_zip(destination, zipped)
        sizes.write_text(json.dumps({"zipped": zipped.stat().st_size, "unzipped": unzipped}))
    return Size(**json.loads(sizes.read_text()))


def _install(requirements: Path, destination: Path) -> bool:
    """Install locked packages, unless they are there; whether that was needed.

    :raises PackagingError: it failed. Nothing half-made is left.
    """
    stamp = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    record = destination.with_suffix(".stamp")
    if destination.is_dir() and record.is_file() and record.read_text() == stamp:
        return False
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as made:
        dependencies.install(requirements, Path(made) / "packages", targets.local())
        record.unlink(missing_ok=True)
        shutil.rmtree(destination, ignore_errors=True)
        (Path(made) / "packages").rename(destination)
    record.write_text(stamp)
    return True
