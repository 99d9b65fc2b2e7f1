"""SnapStart: what a function prepares before Lambda takes the snapshot that all its containers start from."""

from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


def before_snapshot(prepare: Callable[[], R]) -> Callable[[], R]:
    """Have ``prepare`` called before the snapshot, so that a restored container finds its clients ready.

    It must not open connections or draw random numbers that have to differ between containers. Where there is no
    SnapStart, nothing happens and ``prepare`` runs when it is first needed.
    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
    """
    try:
        from snapshot_restore_py import register_before_snapshot
    except ImportError:
        return prepare
    register_before_snapshot(prepare)
    return prepare
