"""`python -m infra.packaging.build --target local|aws`: functions/ and layers/ become `build/<target>/**/*.zip`.

One zip per function, holding that function alone at its repository path; the first-party layer `sluice`; the
third-party layer `dependencies`; the layer `embeddings` for the few functions that embed inside themselves; and
`manifest.json` with the digest of each. What has not changed is not built again.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.packaging import archive, dependencies, targets, weights
from infra.packaging.bytecode import compile_tree
from infra.packaging.errors import PackagingError
from infra.packaging.targets import Target

__all__ = ["build", "main"]

_ROOT = Path(__file__).resolve().parents[2]

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, in bytes
_MAX_UNZIPPED = 250 * 1024 * 1024
_MAX_UPLOAD = 50 * 1024 * 1024


@dataclass(frozen=True)
class Artifact:
    """A zip to be made: its name below `build/<target>`, a digest of what goes into it, and how to fill its tree."""

    name: str
    inputs: str
    stage: Callable[[Path], None]


@dataclass(frozen=True)
class Built:
    """A finished zip: the digest of its inputs, its own SHA-256 (both hex), and its sizes in bytes."""

    inputs: str
    sha256: str
    bytes: int
    unzipped_bytes: int


def build(target: Target, root: Path = _ROOT) -> list[str]:
    """Bring `build/<target>` of the checkout at `root` up to date; returns the names of the zips that were rebuilt.

    Raises PackagingError. Nothing half-made is ever left under a final name, and two builds wait for each other.
    """
    output = root / "build" / target.name
    output.mkdir(parents=True, exist_ok=True)
    with _locked(output / ".lock"):
        artifacts = _artifacts(root, target)
        known = _read_manifest(output)
        fresh = {item.name: known[item.name] for item in artifacts if _is_fresh(item, known, output)}
        stale = [item for item in artifacts if item.name not in fresh]
        built = _build_all(stale, output)
        manifest = dict(sorted({**fresh, **built}.items()))
        _check_limits(manifest)
        _remove_strangers(output, manifest)
        _write_manifest(output, target, manifest)
    return [item.name for item in stale]


# What goes into which zip.


def _artifacts(root: Path, target: Target) -> list[Artifact]:
    builder = archive.digest_files(root, sorted((root / "infra" / "packaging").glob("*.py")))
    interpreter = target.interpreter.version if target.interpreter else "no bytecode"
    recipe = f"{builder} {target.name} {target.python} {interpreter}"
    return [
        _dependencies_layer(root, target, recipe),
        _embeddings_layer(root, target, recipe),
        _sluice_layer(root, target, recipe),
        *(_function(root, folder, target, recipe) for folder in _function_folders(root)),
    ]


def _function_folders(root: Path) -> list[Path]:
    parent = root / "functions"
    if not parent.is_dir():
        return []
    folders = [path for path in sorted(parent.iterdir()) if path.is_dir() and archive.source_files(path)]
    for folder in folders:
        if not (folder / "handler.py").is_file():
            raise PackagingError(
                f"functions/{folder.name} has no handler.py: every folder there is one Lambda function"
            )
    return folders


def _function(root: Path, folder: Path, target: Target, recipe: str) -> Artifact:
    files = archive.source_files(folder)

    def stage(tree: Path) -> None:
        # The repository path is kept, so one dotted name holds here and in Lambda.
        _copy(files, root, tree)
        _compile(tree, "/var/task", target)

    return Artifact(f"functions/{folder.name}.zip", _digest(recipe, archive.digest_files(root, files)), stage)


def _sluice_layer(root: Path, target: Target, recipe: str) -> Artifact:
    layer = root / "layers" / "sluice"
    fakes = layer / "python" / "sluice" / "testing"
    sources = [*archive.source_files(layer / "bin"), *archive.source_files(layer / "python")]
    files = [path for path in sources if fakes not in path.parents]

    def stage(tree: Path) -> None:
        _copy(files, layer, tree)
        _compile(tree, "/opt", target)

    return Artifact("layers/sluice.zip", _digest(recipe, archive.digest_files(layer, files)), stage)


def _dependencies_layer(root: Path, target: Target, recipe: str) -> Artifact:
    requirements = _locked_file(root, "dependencies", "requirements.txt")

    def stage(tree: Path) -> None:
        _install(requirements, tree, target)
        _compile(tree, "/opt", target)

    return Artifact("layers/dependencies.zip", _digest(recipe, archive.digest_files(root, [requirements])), stage)


def _embeddings_layer(root: Path, target: Target, recipe: str) -> Artifact:
    requirements = _locked_file(root, "embeddings", "requirements.txt")
    model = _locked_file(root, "embeddings", "weights.txt")

    def stage(tree: Path) -> None:
        _install(requirements, tree, target)
        weights.extract(model, tree / "python")
        _compile(tree, "/opt", target)

    return Artifact("layers/embeddings.zip", _digest(recipe, archive.digest_files(root, [requirements, model])), stage)


def _locked_file(root: Path, layer: str, name: str) -> Path:
    path = root / "layers" / layer / name
    if not path.is_file():
        raise PackagingError(f"layers/{layer}/{name} is missing: run `make lock`")
    return path


def _install(requirements: Path, tree: Path, target: Target) -> None:
    packages = tree / "python"
    dependencies.install(requirements, packages, target)
    dependencies.strip(packages)


def _copy(files: list[Path], base: Path, tree: Path) -> None:
    for path in files:
        destination = tree / path.relative_to(base)
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)


def _compile(tree: Path, deployed_at: str, target: Target) -> None:
    if target.interpreter is None:
        return
    try:
        compile_tree(tree, deployed_at, target.interpreter.path)
    except subprocess.CalledProcessError as broken:
        lines = str(broken.stderr).strip().splitlines() or ["no output"]
        raise PackagingError(f"a module does not compile for Python {target.python}: {' '.join(lines)}") from broken


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


# Making them.


def _build_all(artifacts: list[Artifact], output: Path) -> dict[str, Built]:
    if not artifacts:
        return {}
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=output) as staging, ThreadPoolExecutor(2) as workers:
        # Most of the work is done by child processes: pip, and the compiling interpreters.
        jobs = {item.name: workers.submit(_build_one, item, Path(staging), output) for item in artifacts}
        return {name: job.result() for name, job in jobs.items()}


def _build_one(artifact: Artifact, staging: Path, output: Path) -> Built:
    tree = staging / artifact.name.removesuffix(".zip")
    tree.mkdir(parents=True)
    artifact.stage(tree)
    destination = output / artifact.name
    unzipped = archive.write_zip(tree, destination)
    content = destination.read_bytes()
    return Built(artifact.inputs, hashlib.sha256(content).hexdigest(), len(content), unzipped)


def _is_fresh(artifact: Artifact, known: dict[str, Built], output: Path) -> bool:
    """True when the zip on disk is, byte for byte, the one that was made from these inputs."""
    entry = known.get(artifact.name)
    path = output / artifact.name
    if entry is None or entry.inputs != artifact.inputs or not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256


def _check_limits(manifest: dict[str, Built]) -> None:
    layers = sum(entry.unzipped_bytes for name, entry in manifest.items() if name.startswith("layers/"))
    for name, entry in manifest.items():
        unzipped = entry.unzipped_bytes + (layers if name.startswith("functions/") else 0)
        if unzipped > _MAX_UNZIPPED:
            raise PackagingError(f"{name} with its layers is {unzipped / 2**20:.0f} MB unzipped; Lambda takes 250 MB")
        if entry.bytes > _MAX_UPLOAD:
            raise PackagingError(f"{name} is {entry.bytes / 2**20:.0f} MB; Lambda takes 50 MB in one upload")


def _remove_strangers(output: Path, manifest: dict[str, Built]) -> None:
    """A zip of a function that is no more would be deployed by nobody, and mistaken by somebody."""
    for path in output.glob("*/*.zip"):
        if path.relative_to(output).as_posix() not in manifest:
            path.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        # The kernel drops the lock when its holder dies, so it can never be stale.
        fcntl.flock(file, fcntl.LOCK_EX)
        # Nobody else is building: staging folders of a build that was killed are nobody's.
        for leftover in path.parent.glob(".staging-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


# The manifest is written last, and says which zips are whole.


def _read_manifest(output: Path) -> dict[str, Built]:
    try:
        content: dict[str, Any] = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
        return {name: Built(**entry) for name, entry in content["artifacts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Missing, broken, or of another version of this program: everything is built again.
        return {}


def _write_manifest(output: Path, target: Target, manifest: dict[str, Built]) -> None:
    content = {
        "target": target.name,
        "python": target.python,
        "platforms": list(target.platforms),
        "bytecode": target.interpreter.version if target.interpreter else None,
        "artifacts": {name: asdict(entry) for name, entry in manifest.items()},
    }
    with archive.atomic(output / "manifest.json") as stream:
        stream.write(json.dumps(content, indent=2).encode() + b"\n")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="package", description="Build the zips that Terraform deploys.")
    parser.add_argument("--target", choices=["local", "aws"], required=True)
    options = parser.parse_args(arguments)
    try:
        target = targets.named(options.target)
        if target.interpreter is None:
            print(
                f"warning: no Python {target.python} at hand ({targets.INTERPRETER_VARIABLE} can name one): the zips"
                " ship without bytecode, and cold starts are about twice as slow",
                file=sys.stderr,
            )
        rebuilt = build(target)
    except PackagingError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"build/{target.name}: " + (f"built {len(rebuilt)} zips" if rebuilt else "up to date"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
