"""Compiles a staged tree to bytecode that the target takes as it is.

A function's file system is read-only and a deterministic zip has no real timestamps, so an ordinary `.pyc` would be
ignored and every cold start would compile everything again. An *unchecked-hash* `.pyc` (PEP 552) is never compared with
its source.

Also run as a script by the target's own interpreter, so it imports nothing but the standard library.
"""

from __future__ import annotations

import importlib.util
import py_compile
import subprocess
import sys
from pathlib import Path

__all__ = ["compile_tree"]


def compile_tree(tree: Path, deployed_at: str, interpreter: Path) -> None:
    """Write `__pycache__` beside every `.py` of `tree`, as `interpreter` compiles it.

    `deployed_at` is the absolute folder that `tree` becomes on the target: it takes the place of this machine's path
    inside the bytecode. Raises subprocess.CalledProcessError, with the reason on its `stderr`, when a file does not
    compile.
    """
    # One fresh, isolated process per tree: what else the process has loaded would show in the bytes, through the
    # reference counts that marshal looks at.
    command = [str(interpreter), "-I", "-S", "-X", "utf8", __file__, str(tree), deployed_at]
    subprocess.run(command, check=True, capture_output=True, text=True)


def _compile(tree: Path, deployed_at: str) -> None:
    for source in sorted(tree.rglob("*.py")):
        py_compile.compile(
            str(source),
            cfile=importlib.util.cache_from_source(str(source), optimization=""),
            dfile=f"{deployed_at}/{source.relative_to(tree).as_posix()}",
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


if __name__ == "__main__":
    try:
        _compile(Path(sys.argv[1]), sys.argv[2])
    except py_compile.PyCompileError as broken:
        sys.exit(broken.msg.strip())
