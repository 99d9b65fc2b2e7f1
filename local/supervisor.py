"""Keeps the two processes of an instance running: starts what is missing, heals what crashed, stops both."""

from __future__ import annotations

from pathlib import Path

from local import cloud, model_server, terraform
from local.console import phase, say
from local.instance import Instance, Ports
from local.ports import require_free
from local.processes import Health, Record, Spec, await_ready, health, launch, stop
from local.state import forget, half_finished

__all__ = ["ensure_running", "stop_all"]


def ensure_running(instance: Instance, ministack_python: Path) -> str:
    """Start or heal both processes. Returns the run id of the local cloud, which changes when it starts anew.

    A cloud that was lost has lost its resources too, so what was applied to it is forgotten. A model server that was
    lost is only started again. Raises LocalError when a port is taken or a process does not start.
    """
    _start_over_if_needed(instance)
    specs = (cloud.spec(instance, ministack_python), model_server.spec(instance))
    running = {spec.name: record for spec in specs if (record := _healthy(instance, spec))}
    missing = [spec for spec in specs if spec.name not in running]
    for spec in missing:
        # Also when there is no record: workers of a cloud that was killed may live on.
        stop(instance, spec.name)
        require_free(spec.port, spec.title, spec.port_variable)
    instance.remember_ports()
    # Both at once; each takes seconds to be ready.
    for spec in missing:
        if spec.name == cloud.NAME:
            _forget_cloud(instance)
        running[spec.name] = launch(instance, spec)
    for spec in specs:
        _show(instance, spec, running[spec.name], started=spec in missing)
    return running[cloud.NAME].run


def _start_over_if_needed(instance: Instance) -> None:
    ports = Ports.load(instance.ports_file)
    if ports and ports != instance.ports:
        say("      the ports changed: starting over")
        stop_all(instance)
    if half_finished(instance):
        say("      an earlier apply did not finish: starting over with an empty cloud")
        stop(instance, terraform.PROCESS_NAME)
        stop(instance, cloud.NAME)


def _healthy(instance: Instance, spec: Spec) -> Record | None:
    state, record = health(instance, spec)
    if state in (Health.CRASHED, Health.UNRESPONSIVE):
        trouble = "crashed" if state is Health.CRASHED else "does not answer"
        loss = ", its resources are lost" if spec.name == cloud.NAME else ""
        say(f"      {spec.title} (pid {record.pid if record else '?'}) {trouble}{loss}: starting it again")
    return record if state is Health.RUNNING else None


def _forget_cloud(instance: Instance) -> None:
    forget(instance)
    instance.applying_file.unlink(missing_ok=True)
    cloud.empty_temporary_folder(instance)


def _show(instance: Instance, spec: Spec, record: Record, *, started: bool) -> None:
    with phase(spec.title.removeprefix("the ").capitalize()) as step:
        if started:
            await_ready(instance, spec, record)
        step.result = f"{'started' if started else 'already running'}, pid {record.pid}, port {record.port}"


def stop_all(instance: Instance) -> None:
    """Stop everything `up` started, in the reverse order, by its records; also a Terraform that was left behind."""
    if stop(instance, terraform.PROCESS_NAME):
        say("      a Terraform that an interrupted command had left behind was stopped")
    for name, title in ((model_server.NAME, "Local model server"), (cloud.NAME, "Local cloud")):
        with phase(title) as step:
            step.result = "stopped" if stop(instance, name) else "was not running"
    instance.ports_file.unlink(missing_ok=True)
