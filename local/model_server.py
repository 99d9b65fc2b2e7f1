"""The local model server as a process: `python -m local.models`, run by the interpreter that runs us."""

from __future__ import annotations

import os
import sys

from local.environment import base_environment
from local.instance import Instance
from local.processes import Spec

__all__ = ["NAME", "spec"]

NAME = "models"


def spec(instance: Instance) -> Spec:
    """How to start the model server of an instance. SLUICE_LOCAL_* variables reach it."""
    options = {name: value for name, value in os.environ.items() if name.startswith("SLUICE_LOCAL_")}
    command = ("-m", "local.models", "--port", str(instance.ports.models))
    return Spec(
        name=NAME,
        title="the local model server",
        command=(sys.executable, *command),
        # Our marker last: it has the same prefix as the options.
        environment={**options, **base_environment(instance, NAME)},
        folder=instance.root,
        port=instance.ports.models,
        port_variable=instance.port_variables.models,
        ready_url=f"{instance.models_url}/health",
        deadline_seconds=120,
    )
