"""Building again: what is skipped, what is repaired, and what is said when it cannot be done."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.packaging import build, dependencies, targets, weights
from infra.packaging.build import build as run
from infra.packaging.errors import PackagingError
from tests.packaging.conftest import ROOT, Package

LOCAL = targets.local()
ALL = [
    "layers/dependencies.zip",
    "layers/embeddings.zip",
    "layers/sluice.zip",
    "functions/one.zip",
    "functions/two.zip",
]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout; its third-party layers are one module each instead of what pip would install."""
    for name, content in {
        "functions/one/__init__.py": "",
        "functions/one/handler.py": "def handler(event, context): return 1\n",
        "functions/one/tests/test_it.py": "assert False\n",
        "functions/one/.env": "SECRET=1\n",
        "functions/two/__init__.py": "",
        "functions/two/handler.py": "def handler(event, context): return 2\n",
        "layers/sluice/bin/run": "#!/bin/sh\n",
        "layers/sluice/bin/notes.txt": "#!/bin/sh is how a script begins\n",
        "layers/sluice/python/sluice/__init__.py": "",
        "layers/sluice/python/sluice/testing/__init__.py": "",
        "layers/dependencies/requirements.txt": "library==1.0 --hash=sha256:00\n",
        "layers/embeddings/requirements.txt": "numbers==1.0 --hash=sha256:00\n",
        "layers/embeddings/weights.txt": "model==1.0 --hash=sha256:00\n",
        "infra/packaging/build.py": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def install(requirements: Path, folder: Path, target: targets.Target) -> None:
        folder.mkdir(parents=True)
        (folder / "library.py").write_text(f"# {requirements.read_text()}")

    def extract(requirements: Path, folder: Path) -> None:
        (folder / "model").write_text(requirements.read_text())

    monkeypatch.setattr(dependencies, "install", install)
    monkeypatch.setattr(weights, "extract", extract)
    monkeypatch.setattr(dependencies, "strip", lambda _: None)
    return tmp_path


def names(path: Path) -> list[str]:
    return [name for name in zipfile.ZipFile(path).namelist() if "__pycache__" not in name]


def test_the_first_build_makes_everything_and_the_second_nothing(tree: Path) -> None:
    assert run(LOCAL, tree) == ALL
    assert run(LOCAL, tree) == []


def test_only_content_is_packed(tree: Path) -> None:
    run(LOCAL, tree)
    assert names(tree / "build/local/functions/one.zip") == ["functions/one/__init__.py", "functions/one/handler.py"]
    assert names(tree / "build/local/layers/sluice.zip") == ["bin/notes.txt", "bin/run", "python/sluice/__init__.py"]


def test_scripts_can_be_run_whatever_the_checkout_made_of_their_mode(tree: Path) -> None:
    # As git or a copy without modes may leave it.
    (tree / "layers/sluice/bin/run").chmod(0o644)
    run(LOCAL, tree)
    entries = zipfile.ZipFile(tree / "build/local/layers/sluice.zip").infolist()
    assert {entry.filename for entry in entries if entry.external_attr >> 16 == 0o100755} == {"bin/run"}


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("functions/two/handler.py", ["functions/two.zip"]),
        ("layers/sluice/bin/run", ["layers/sluice.zip"]),
        ("layers/sluice/python/sluice/__init__.py", ["layers/sluice.zip"]),
        ("layers/dependencies/requirements.txt", ["layers/dependencies.zip"]),
        ("layers/embeddings/requirements.txt", ["layers/embeddings.zip"]),
        ("layers/embeddings/weights.txt", ["layers/embeddings.zip"]),
        ("infra/packaging/build.py", ALL),
        ("layers/sluice/python/sluice/testing/__init__.py", []),
        ("functions/one/tests/test_it.py", []),
    ],
)
def test_a_change_rebuilds_what_it_is_part_of(tree: Path, changed: str, rebuilt: list[str]) -> None:
    run(LOCAL, tree)
    (tree / changed).write_text("# changed\n")
    assert run(LOCAL, tree) == rebuilt


def test_a_file_that_was_only_touched_rebuilds_nothing(tree: Path) -> None:
    run(LOCAL, tree)
    os.utime(tree / "functions/one/handler.py", (0, 0))
    assert run(LOCAL, tree) == []


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PK half a zip")])
def test_a_damaged_zip_is_built_again(tree: Path, damage: Callable[[Path], None]) -> None:
    run(LOCAL, tree)
    damage(tree / "build/local/functions/one.zip")
    assert run(LOCAL, tree) == ["functions/one.zip"]


def test_a_damaged_manifest_means_building_everything_again(tree: Path) -> None:
    run(LOCAL, tree)
    (tree / "build/local/manifest.json").write_text('{"artifacts": [')
    assert run(LOCAL, tree) == ALL


def test_the_zip_of_a_removed_function_goes(tree: Path) -> None:
    run(LOCAL, tree)
    shutil.rmtree(tree / "functions/two")
    run(LOCAL, tree)
    assert not (tree / "build/local/functions/two.zip").exists()


def test_another_interpreter_means_another_build(tree: Path) -> None:
    run(LOCAL, tree)
    without = targets.Target("local", LOCAL.python, (), None)
    assert run(without, tree) == ALL
    assert not [name for name in zipfile.ZipFile(tree / "build/local/functions/one.zip").namelist() if "pyc" in name]


def test_a_build_that_dies_leaves_nothing_that_looks_whole(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(LOCAL, tree)
    before = (tree / "build/local/functions/two.zip").read_bytes()
    (tree / "functions/two/handler.py").write_text("def handler(event, context): return 3\n")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", dies)
        with contextlib.suppress(KeyboardInterrupt):
            run(LOCAL, tree)
    folder = tree / "build/local"
    assert (folder / "functions/two.zip").read_bytes() == before
    assert [path for path in folder.rglob(".*") if path.name != ".lock"] == []
    assert run(LOCAL, tree) == ["functions/two.zip"]


def test_a_folder_without_a_handler_is_explained(tree: Path) -> None:
    (tree / "functions/two/handler.py").unlink()
    with pytest.raises(PackagingError, match=r"^functions/two has no handler\.py: "):
        run(LOCAL, tree)


def test_source_that_does_not_compile_is_explained(tree: Path) -> None:
    (tree / "functions/two/handler.py").write_text("def handler(:\n")
    with pytest.raises(PackagingError, match=r"does not compile for Python .*functions/two/handler\.py") as caught:
        run(LOCAL, tree)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["dependencies/requirements.txt", "embeddings/requirements.txt", "embeddings/weights.txt"]
)
def test_a_layer_that_was_not_locked_is_explained(tree: Path, name: str) -> None:
    (tree / "layers" / name).unlink()
    with pytest.raises(PackagingError, match=rf"^layers/{name} is missing: run `make lock`$"):
        run(LOCAL, tree)


def test_a_package_that_lambda_would_refuse_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_MAX_UNZIPPED", 100)
    with pytest.raises(PackagingError, match="unzipped; Lambda takes 250 MB"):
        run(LOCAL, tree)


def test_building_what_is_up_to_date_takes_no_time(local_package: Package) -> None:
    command = [sys.executable, "-m", "infra.packaging.build", "--target", local_package.target.name]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    # A tenth of a second on an idle machine.
    assert time.monotonic() - started < 1.0
    assert done.stdout == "build/local: up to date\n"


# What pip says, said in one line.

_HASH = "--hash=sha256:" + "0" * 64


@pytest.mark.index
@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("tenacity==9.2.1", "a requirement has no hash or no exact version: run `make lock`"),
        (f"tenacity==9.2.1 {_HASH}", "a downloaded file does not match its hash: do not use it"),
        (f"tenacity==0.0.0.dev7 {_HASH}", "there is no wheel of tenacity==0.0.0.dev7 for Python "),
    ],
)
def test_a_bad_requirement_is_explained(tmp_path: Path, requirement: str, message: str) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(requirement + "\n")
    with pytest.raises(PackagingError) as caught:
        dependencies.install(requirements, tmp_path / "out", LOCAL)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_index_that_cannot_be_reached_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"CONFIG_FILE": os.devnull, "INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"tenacity==9.2.1 {_HASH}\n")
    with pytest.raises(PackagingError, match=r"^the package index cannot be reached: "):
        dependencies.install(requirements, tmp_path / "out", LOCAL)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("_core.cpython-313-x86_64-linux-gnu.so", b"\x7fELF" + bytes(14) + (62).to_bytes(2, "little")),
        ("_core.cpython-312-aarch64-linux-gnu.so", b"\x7fELF" + bytes(14) + (183).to_bytes(2, "little")),
        ("_core.cpython-313-darwin.so", b"\xcf\xfa\xed\xfe" + bytes(16)),
    ],
)
def test_an_extension_module_for_another_machine_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    target = targets.Target("aws", "3.13", ("manylinux_2_28_aarch64",), None)
    with pytest.raises(PackagingError, match=r"is not for Python 3\.13 on arm64"):
        dependencies._check_machine(tmp_path, target)


def test_a_library_that_a_wheel_brings_along_is_of_no_python_but_of_a_machine(tmp_path: Path) -> None:
    target = targets.Target("aws", "3.13", ("manylinux_2_28_aarch64",), None)
    library = tmp_path / "numpy.libs" / "libopenblas-1234.so.5"
    library.parent.mkdir()
    library.write_bytes(b"\x7fELF" + bytes(14) + (183).to_bytes(2, "little"))
    dependencies._check_machine(tmp_path, target)
    library.write_bytes(b"\x7fELF" + bytes(14) + (62).to_bytes(2, "little"))
    with pytest.raises(PackagingError, match=r"libopenblas-1234\.so\.5 is not for Python 3\.13 on arm64"):
        dependencies._check_machine(tmp_path, target)


# The embedding model.


def wheel(folder: Path, *names: str) -> Path:
    path = folder / "wordllama-1.0-cp313-cp313-manylinux2014_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, f"content of {name}")
    return path


def test_of_the_model_only_its_data_and_its_license_are_packed(tmp_path: Path) -> None:
    source = wheel(tmp_path, *weights._FILES, "wordllama/__init__.py", "wordllama-1.0.dist-info/licenses/LICENSE")
    weights._unpack(source, tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {*weights._FILES, "wordllama/LICENSE"}
    assert (tmp_path / "out" / weights._FILES[0]).read_text() == f"content of {weights._FILES[0]}"


@pytest.mark.parametrize("missing", [*weights._FILES, "wordllama-1.0.dist-info/licenses/LICENSE"])
def test_a_wheel_without_the_model_is_refused(tmp_path: Path, missing: str) -> None:
    names = {*weights._FILES, "wordllama-1.0.dist-info/licenses/LICENSE"} - {missing}
    with pytest.raises(PackagingError, match="does not hold the embedding model"):
        weights._unpack(wheel(tmp_path, *names), tmp_path / "out")


@pytest.mark.index
def test_a_model_that_is_not_what_was_locked_is_refused(tmp_path: Path) -> None:
    requirements = tmp_path / "weights.txt"
    requirements.write_text(f"wordllama==0.4.0.post1 {_HASH}\n")
    with pytest.raises(PackagingError, match=r"does not match its hash: do not use it; see weights\.txt$"):
        weights.extract(requirements, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Which interpreter compiles for AWS.


def test_a_named_interpreter_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "python3.13"
    fake.write_text("#!/bin/sh\necho cpython-312 3.12.1\n")
    fake.chmod(0o755)
    monkeypatch.setenv(targets.INTERPRETER_VARIABLE, str(fake))
    with pytest.raises(PackagingError, match=r"is not a working Python 3\.13$"):
        targets.aws()


def test_a_shim_on_the_path_that_does_not_run_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(targets.INTERPRETER_VARIABLE, raising=False)
    shim = tmp_path / "bin" / "python3.13"
    real = tmp_path / "pyenv" / "versions" / "3.13.7" / "bin" / "python3.13"
    for path, script in {shim: "echo not installed >&2; exit 127", real: "echo cpython-313 3.13.7"}.items():
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert targets.aws().interpreter == targets.Interpreter(real, "3.13.7")


def test_without_an_interpreter_the_build_goes_on_and_says_so(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(targets, "_lambda_interpreter", lambda: None)
    monkeypatch.setattr(build, "_ROOT", tree)
    monkeypatch.setattr(build, "build", lambda target: run(target, tree))
    assert build.main(["--target", "aws"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: no Python 3.13 at hand (PYTHON_LAMBDA can name one)")
    assert json.loads((tree / "build/aws/manifest.json").read_text())["bytecode"] is None
