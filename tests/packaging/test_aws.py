"""The package for AWS holds nothing but wheels for arm64 and the Lambda runtime's Python."""

from __future__ import annotations

import json
import re
import struct

import pytest

from tests.packaging.conftest import Package

pytestmark = pytest.mark.index

_EM_AARCH64 = 183
_TAG = re.compile(r"^Tag: (?:py3|py2\.py3|py2|cp313|cp\d+)-(?:none|abi3|cp313)-(?:any|manylinux\w*_aarch64)$")


def test_every_extension_module_is_for_arm64_and_the_runtime(aws_package: Package) -> None:
    modules = [(name, data) for _, name, data in aws_package.members() if ".so" in name]
    assert {name.split("/")[1] for name, _ in modules} >= {"msgspec", "numpy", "tokenizers"}
    for name, data in modules:
        assert data[:4] == b"\x7fELF", name
        # 64-bit, little-endian.
        assert data[4:6] == b"\x02\x01", name
        assert struct.unpack_from("<H", data, 18)[0] == _EM_AARCH64, name
        # Libraries that numpy's wheel brings along are of no particular Python.
        assert name.split("/")[1] == "numpy.libs" or ".cpython-313-aarch64-linux-gnu.so" in name or ".abi3.so" in name


def test_every_distribution_came_as_a_wheel_for_the_runtime(aws_package: Package) -> None:
    wheels = {name: data.decode() for _, name, data in aws_package.members() if name.endswith(".dist-info/WHEEL")}
    assert len(wheels) >= 10
    for name, text in wheels.items():
        tags = [line for line in text.splitlines() if line.startswith("Tag: ")]
        assert tags, name
        assert all(_TAG.match(tag) for tag in tags), (name, tags)


def test_the_manifest_says_what_was_built(aws_package: Package) -> None:
    manifest = json.loads((aws_package.folder / "manifest.json").read_text())
    assert (manifest["target"], manifest["python"]) == ("aws", "3.13")
    assert all(tag.endswith("_aarch64") for tag in manifest["platforms"])
    interpreter = aws_package.target.interpreter
    assert manifest["bytecode"] == (interpreter.version if interpreter else None)
    assert set(manifest["artifacts"]) == set(aws_package.zips)
