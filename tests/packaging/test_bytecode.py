"""Bytecode in the zips is used as it is: not ignored, not compiled again, not from other source."""

from __future__ import annotations

import importlib.util
import marshal
import py_compile
from pathlib import Path
from types import CodeType

import pytest

from tests.packaging.bytecode import MAGIC_313, problems
from tests.packaging.conftest import ROOT, Package


def pairs(package: Package) -> list[tuple[str, bytes, bytes | None]]:
    """(name, source, bytecode) of every module in every zip."""
    tag = package.target.cache_tag
    content = {(archive, name): data for archive, name, data in package.members()}
    result = []
    for (archive, name), source in content.items():
        if name.endswith(".py"):
            folder, _, file = name.rpartition("/")
            cached = f"{folder}/__pycache__/{file.removesuffix('.py')}.{tag}.pyc".lstrip("/")
            result.append((f"{archive}:{name}", source, content.get((archive, cached))))
    return result


def magic(package: Package) -> bytes:
    return MAGIC_313 if package.target.name == "aws" else importlib.util.MAGIC_NUMBER


def test_every_module_has_bytecode_that_needs_no_check(package: Package) -> None:
    # Where no Python of the Lambda runtime's version is at hand nothing is compiled: then any bytecode is wrong.
    absent = [] if package.target.interpreter is None else ["missing"]
    wrong = {
        name: problems(bytecode, source, magic(package)) if bytecode else absent
        for name, source, bytecode in pairs(package)
    }
    assert {name: why for name, why in wrong.items() if why} == {}
    assert len(wrong) > 100


def test_without_a_fitting_interpreter_no_bytecode_is_shipped(package: Package) -> None:
    shipped = [name for _, name, _ in package.members() if name.endswith(".pyc")]
    assert bool(shipped) == (package.target.interpreter is not None)


def test_no_zip_tells_where_it_was_built(package: Package) -> None:
    telling = [f"{archive}:{name}" for archive, name, data in package.members() if str(ROOT).encode() in data]
    assert telling == []


def test_tracebacks_will_name_files_as_lambda_lays_them_out(local_package: Package) -> None:
    for archive, name, data in local_package.members():
        if name.endswith(".pyc"):
            code: CodeType = marshal.loads(data[16:])
            root = "/opt/python/" if archive.startswith("layers/") else "/var/task/functions/"
            assert code.co_filename.startswith(root)


@pytest.mark.parametrize(
    ("mode", "complaint"),
    [
        (py_compile.PycInvalidationMode.TIMESTAMP, "flags are 0, not those of an unchecked hash"),
        (py_compile.PycInvalidationMode.CHECKED_HASH, "flags are 3, not those of an unchecked hash"),
    ],
)
def test_other_kinds_of_bytecode_would_be_noticed(
    tmp_path: Path, mode: py_compile.PycInvalidationMode, complaint: str
) -> None:
    source = tmp_path / "module.py"
    source.write_text("answer = 42\n")
    compiled = Path(str(py_compile.compile(str(source), invalidation_mode=mode)))
    assert complaint in problems(compiled.read_bytes(), source.read_bytes(), importlib.util.MAGIC_NUMBER)


def test_stale_bytecode_would_be_noticed(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("answer = 42\n")
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compiled = Path(str(py_compile.compile(str(source), invalidation_mode=mode))).read_bytes()
    assert problems(compiled, b"answer = 42\n", importlib.util.MAGIC_NUMBER) == []
    assert problems(compiled, b"answer = 43\n", importlib.util.MAGIC_NUMBER) == ["compiled from other source"]
    assert "compiled for another Python" in problems(compiled, b"answer = 42\n", b"\x00\x00\r\n")
