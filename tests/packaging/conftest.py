"""The zips of this checkout, built when they are not up to date, and unpacked the way Lambda lays them out."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.packaging import targets
from infra.packaging.build import build
from infra.packaging.targets import Target

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/handler.py"))
_SOURCES = ("functions", "infra/packaging", "layers")


@dataclass(frozen=True)
class Package:
    """A finished build: its target, its folder, and every zip in it by its name below that folder."""

    target: Target
    folder: Path

    @property
    def zips(self) -> dict[str, Path]:
        return {path.relative_to(self.folder).as_posix(): path for path in sorted(self.folder.glob("*/*.zip"))}

    def members(self) -> list[tuple[str, str, bytes]]:
        """Every file in every zip: the zip, the file's name in it, its content."""
        return [
            (name, member, archive.read(member))
            for name, path in self.zips.items()
            for archive in [zipfile.ZipFile(path)]
            for member in archive.namelist()
        ]


@dataclass(frozen=True)
class Deployed:
    """Where Lambda would unpack things: `layers` is /opt, `task(function)` is /var/task.

    `embeddings` is what the layer of that name adds to /opt, in the few functions that have it; all must do without it
    until somebody asks for vectors.
    """

    layers: Path
    embeddings: Path
    tasks: Path

    def task(self, function: str) -> Path:
        return self.tasks / function

    def path(self, function: str) -> list[str]:
        """What Lambda puts on sys.path for a function."""
        return [str(self.task(function)), str(self.layers / "python")]


@pytest.fixture(scope="session")
def local_package() -> Package:
    return _package(targets.local())


@pytest.fixture(scope="session")
def aws_package() -> Package:
    return _package(targets.aws())


@pytest.fixture(scope="session", params=["local", pytest.param("aws", marks=pytest.mark.index)])
def package(request: pytest.FixtureRequest) -> Package:
    return _package(targets.named(request.param))


def _package(target: Target) -> Package:
    build(target, ROOT)
    return Package(target, ROOT / "build" / target.name)


@pytest.fixture(scope="session")
def deployed(local_package: Package, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    folder = tmp_path_factory.mktemp("lambda")
    result = Deployed(folder / "opt", folder / "embeddings", folder / "tasks")
    for name, path in local_package.zips.items():
        kind, file = name.split("/")
        layer = result.embeddings if file == "embeddings.zip" else result.layers
        destination = layer if kind == "layers" else result.task(file.removesuffix(".zip"))
        with zipfile.ZipFile(path) as archive:
            archive.extractall(destination)
    return result


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A second checkout of the sources, in another folder and with other file times."""
    copy = tmp_path / "elsewhere" / "sluice"
    for source in _SOURCES:
        shutil.copytree(
            ROOT / source, copy / source, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__")
        )
    return copy
