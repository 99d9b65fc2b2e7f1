"""For which interpreter and machine a build is made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.packaging.errors import PackagingError

__all__ = ["INTERPRETER_VARIABLE", "Interpreter", "Target", "aws", "local", "named"]

# Names an interpreter of the Lambda runtime's minor version, for machines where none is found by itself.
INTERPRETER_VARIABLE = "PYTHON_LAMBDA"

# The runtime of every function (infra/modules/lambda_function). Bytecode of another minor version is ignored there.
_LAMBDA_PYTHON = "3.13"
# That runtime is Amazon Linux 2023 (glibc 2.34), which takes wheels for any older glibc; these are the tags in use.
_LAMBDA_PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64")

_IDENTIFY = "import sys; print(sys.implementation.cache_tag, sys.version.split()[0])"


@dataclass(frozen=True)
class Interpreter:
    """A Python that compiles bytecode. `version` is its full version: the bytes it writes may depend on it."""

    path: Path
    version: str


@dataclass(frozen=True)
class Target:
    """Where the zips will run.

    `python` is the minor version there ("3.13"); `platforms` are pip platform tags, empty for this machine;
    `interpreter` is None when no Python of that minor version is at hand, and then no bytecode is shipped.
    """

    name: str
    python: str
    platforms: tuple[str, ...]
    interpreter: Interpreter | None

    @property
    def cache_tag(self) -> str:
        """The tag in the names of the target's bytecode files and extension modules, "cpython-313"."""
        return _cache_tag(self.python)


def named(name: str) -> Target:
    """The target `local` or `aws`. Raises PackagingError for another name or a wrong PYTHON_LAMBDA."""
    if name == "local":
        return local()
    if name == "aws":
        return aws()
    raise PackagingError(f"there is no target called {name!r}: use local or aws")


def local() -> Target:
    """The running interpreter: the local cloud executes functions with the same one."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Target("local", python, (), Interpreter(Path(sys.executable), sys.version.split()[0]))


def aws() -> Target:
    """AWS Lambda on arm64. Raises PackagingError when PYTHON_LAMBDA names something else than its Python."""
    return Target("aws", _LAMBDA_PYTHON, _LAMBDA_PLATFORMS, _lambda_interpreter())


def _lambda_interpreter() -> Interpreter | None:
    chosen = os.environ.get(INTERPRETER_VARIABLE)
    if chosen:
        found = _identify(chosen)
        if found is None:
            raise PackagingError(f"{INTERPRETER_VARIABLE}={chosen} is not a working Python {_LAMBDA_PYTHON}")
        return found
    return next((found for path in _candidates() if (found := _identify(path))), None)


def _candidates() -> Iterator[str]:
    """Places an interpreter of the Lambda runtime's version is usually found, cheapest first."""
    name = f"python{_LAMBDA_PYTHON}"
    yield sys.executable
    if on_path := shutil.which(name):
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{_LAMBDA_PYTHON}.*/bin/{name}"), reverse=True))
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv:
        find = [uv, "python", "find", "--offline", "--no-python-downloads", "--no-project", _LAMBDA_PYTHON]
        answer = subprocess.run(find, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield answer.stdout.strip()


def _identify(path: str) -> Interpreter | None:
    """The interpreter at `path` if it runs and is a CPython of the Lambda runtime's minor version."""
    try:
        # A version manager's shim is on PATH even when the version it stands for is not installed.
        probe = [path, "-I", "-S", "-c", _IDENTIFY]
        answer = subprocess.run(probe, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    tag, _, version = answer.stdout.strip().partition(" ")
    if answer.returncode != 0 or tag != _cache_tag(_LAMBDA_PYTHON):
        return None
    return Interpreter(Path(path), version)


def _cache_tag(python: str) -> str:
    return "cpython-" + python.replace(".", "")
