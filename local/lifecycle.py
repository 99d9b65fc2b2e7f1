"""The verbs that change a whole instance: up, down, reset, plan, destroy. Each holds the instance while it works."""

from __future__ import annotations

import re
import shutil
import sys
import time
from pathlib import Path

from local import cloud
from local.console import phase, say
from local.errors import LocalError
from local.instance import Instance
from local.platform import connect, driver, ensure_applied, package
from local.processes import Health, health
from local.smoke import CALLS
from local.state import Applied, applying, forget, half_finished, locked
from local.supervisor import ensure_running, stop_all
from local.terraform import Driver
from local.venvs import ministack_python

__all__ = ["destroy", "down", "plan", "reset", "up"]

_COLLISION = re.compile(r"already ?exist|AlreadyOwned|already has this name", re.IGNORECASE)
_STARTS_OVER = 2


def up(instance: Instance, *, smoke: bool = True) -> None:
    """Bring the platform up, or what is missing of it; changes nothing when all of it is there.

    `smoke` makes one real call in each mode at the end. Raises LocalError with one line that says what is wrong.
    """
    began = time.monotonic()
    with locked(instance, "up"):
        terraform = driver(instance)
        with phase("Prerequisites") as step:
            step.result = f"Python {sys.version.split()[0]}, Terraform {terraform.terraform.version}"
        with phase("Environment of the local cloud") as step:
            python = ministack_python(instance)
        package(instance)
        applied = _apply(instance, terraform, python)
        values = connect(instance, applied)
        if smoke:
            _call_each_mode(values)
    say(f"\nSluice is up at {values['SLUICE_URL']}  ({time.monotonic() - began:.0f} s)")
    if smoke:
        say(_what_next(instance))


def down(instance: Instance) -> None:
    """Stop what `up` started. Logs stay. Does nothing when nothing runs."""
    with locked(instance, "down"):
        stop_all(instance)
        # The cloud keeps nothing; what described it would only mislead.
        for file in (instance.applied_file, instance.applying_file, instance.environment_file):
            file.unlink(missing_ok=True)


def reset(instance: Instance) -> None:
    """Stop everything and remove all state of the instance but its logs; the next `up` starts from nothing."""
    down(instance)
    with locked(instance, "reset"), phase("Remove state") as step:
        for folder in (instance.temporary, instance.terraform_data, instance.processes):
            shutil.rmtree(folder, ignore_errors=True)
        step.result = f"logs are kept in {_relative(instance.logs)}"


def plan(instance: Instance) -> int:
    """Print Terraform's plan against the running local cloud. Returns 0 when it is empty and 2 when it is not."""
    with locked(instance, "plan"):
        _require_cloud(instance)
        package(instance)
        terraform = driver(instance)
        cloud.ensure_state_bucket(instance)
        terraform.initialise()
        return terraform.plan()


def destroy(instance: Instance) -> None:
    """`terraform destroy` on the running local cloud; the processes stay up."""
    with locked(instance, "destroy"):
        _require_cloud(instance)
        terraform = driver(instance)
        with phase("Terraform destroy") as step, applying(instance):
            terraform.initialise()
            forget(instance)
            step.result = terraform.destroy(step.progress).summary
        instance.environment_file.unlink(missing_ok=True)


def _apply(instance: Instance, terraform: Driver, python: Path) -> Applied:
    """Both processes running and the root applied; again from an empty cloud where the two disagree.

    MiniStack sometimes answers before the provider has quite finished asking. The provider then drops the connection
    and asks again for what has just been made, and "already exists" is all it learns. The same happens to a cloud that
    somebody else changed. The failed apply leaves its mark, so the next start is from nothing.
    """
    for _ in range(_STARTS_OVER):
        try:
            return ensure_applied(instance, terraform, ensure_running(instance, python))
        except LocalError as error:
            if not any(_COLLISION.search(line) for line in error.details):
                raise
        say("      the cloud holds something that Terraform's state does not know of")
    return ensure_applied(instance, terraform, ensure_running(instance, python))


def _require_cloud(instance: Instance) -> None:
    state, _ = health(instance, cloud.spec(instance, Path(sys.executable)))
    if state is not Health.RUNNING:
        raise LocalError(f"the local cloud is {state}", f"start it: {instance.up_command}")
    if half_finished(instance):
        raise LocalError("an earlier apply did not finish", f"start over: {instance.up_command}")


def _call_each_mode(values: dict[str, str]) -> None:
    say("\nOne real call in each mode:")
    for call in CALLS:
        with phase(f"{call.mode:<8} {call.route}"):
            answer = call.run(values["SLUICE_URL"], values["SLUICE_API_KEY"])
        say(f"        > {answer.prompt}\n        < {answer.text}")


def _what_next(instance: Instance) -> str:
    return f"""
Try it:
  set -a; . {_relative(instance.environment_file)}; set +a
  curl -s "$SLUICE_URL/chat/completions" -H "Authorization: Bearer $SLUICE_API_KEY" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "A sluice is a water gate. What is a sluice?"}}]}}'
  .venv/bin/python -c 'from openai import OpenAI; c = OpenAI()
print(c.embeddings.create(model="embed", input="water gate").data[0].embedding[:3])'

Look at it:
  make status                             what runs, and where
  make logs FUNCTION=chat_completions     what a function wrote (all other logs: {_relative(instance.logs)}/)
  make test                               every check there is, on a platform of its own
  make down                               stop it
"""


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
