"""The static embedding model: two data files of the package `wordllama`, taken out of one of its wheels.

The package itself is not deployed: it would have to be compiled for Linux on arm64, and nothing of its code is needed.
Its data is the same in every wheel, so for every target one and the same wheel is taken, by hash as all others.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from infra.packaging import dependencies
from infra.packaging.errors import PackagingError

__all__ = ["extract"]

# Where `sluice.adapters.static_embeddings` looks for them: the package's own places.
_FILES = ("wordllama/weights/l2_supercat_256.safetensors", "wordllama/tokenizers/l2_supercat_tokenizer_config.json")
_LICENSE = "/licenses/LICENSE"
# Which wheel is unpacked matters to nobody, but that it is the same one everywhere.
_WHEEL = ("--platform", "manylinux2014_x86_64", "--python-version", "3.13", "--implementation", "cp")


def extract(requirements: Path, folder: Path) -> None:
    """Put the model's files and their license below `folder`, out of the wheel that the locked `requirements` name.

    Raises PackagingError when pip fails or the wheel holds something else.
    """
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
        command += ["--only-binary", ":all:", "--require-hashes", "--no-deps", *_WHEEL, "--dest", download]
        done = subprocess.run([*command, "-r", str(requirements)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PackagingError(dependencies.explain(done.stderr, requirements, "3.13"))
        for wheel in Path(download).glob("*.whl"):
            _unpack(wheel, folder)


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        license_text = next((name for name in names if name.endswith(_LICENSE)), None)
        if license_text is None or not set(_FILES) <= set(names):
            raise PackagingError(f"{wheel.name} does not hold the embedding model: {', '.join(_FILES)}, LICENSE")
        for source, name in {**{name: name for name in _FILES}, license_text: "wordllama/LICENSE"}.items():
            destination = folder / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_bytes(archive.read(source))
