"""What a function prepares in Lambda's init phase, which runs at full CPU speed; with SnapStart, for its snapshot."""

import contextlib
import functools
import os
import random
from collections.abc import Callable
from typing import Final, TypeVar

from sluice.telemetry import tracing

R = TypeVar("R")

# How Lambda starts a container; set nowhere else:
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
INIT_VARIABLE: Final = "AWS_LAMBDA_INITIALIZATION_TYPE"
SNAP_START: Final = "snap-start"


def before_snapshot(prepare: Callable[[], R]) -> Callable[[], R]:
    """Have ``prepare`` called in the init phase, so that the first request finds everything made.

    With SnapStart that is before the snapshot from which containers start; so it must not open connections or draw
    random numbers that have to differ between containers. What is drawn later does differ: every container seeds
    ``random`` anew when it is restored, or all of them would wait the same times. Outside Lambda nothing happens, and
    ``prepare`` runs when it is first needed. So it does after a failure here, as a request can tell of it and an init
    phase cannot.
    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
    """
    if os.environ.get(INIT_VARIABLE, SNAP_START) != SNAP_START:
        _prepare(prepare)
        return prepare
    try:
        from snapshot_restore_py import register_after_restore, register_before_snapshot
    except ImportError:
        return prepare
    register_before_snapshot(functools.partial(_prepare, prepare))
    # Once more for each of a function's services, which does no harm.
    register_after_restore(random.seed)
    return prepare


def _prepare(prepare: Callable[[], object]) -> None:
    for step in (tracing.prepare, prepare):
        with contextlib.suppress(Exception):
            step()
