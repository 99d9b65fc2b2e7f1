"""Shows logs: of the processes from their files, of the functions from the local cloud's CloudWatch Logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local import cloud
from local.errors import LocalError
from local.instance import Instance
from local.processes import tail
from local.state import Applied

__all__ = ["function_events", "function_names", "process_lines"]

_POLL_SECONDS = 1.0


def process_lines(instance: Instance, lines: int) -> Iterator[str]:
    """The last lines of every log file of the instance, each file under its path."""
    for file in sorted(instance.logs.glob("*.log")):
        yield f"==> {file} <=="
        yield from tail(file, lines)
        yield ""


def function_names(instance: Instance) -> dict[str, str]:
    """Deployed name of every function by its folder, as Terraform said at the last apply."""
    applied = Applied.load(instance)
    names = applied.outputs.get("function_names", {}) if applied else {}
    return {str(folder): str(name) for folder, name in dict(names).items()}


def function_events(instance: Instance, function: str, lines: int, *, follow: bool) -> Iterator[str]:
    """The last `lines` log lines of a function, given by folder or deployed name, then new ones when following.

    Raises LocalError when there is no such function or the local cloud does not answer.
    """
    group = f"/aws/lambda/{_deployed_name(instance, function)}"
    logs = cloud.client(instance, "logs")
    events = _events(logs, group, since_ms=0)
    yield from map(_line, events[-lines:])
    while follow:
        time.sleep(_POLL_SECONDS)
        last_ms = events[-1]["timestamp"] if events else 0
        # Lines of the last millisecond come again, and more of them may have been written meanwhile.
        known = {_identity(event) for event in events if event["timestamp"] == last_ms}
        fresh = [event for event in _events(logs, group, since_ms=last_ms) if _identity(event) not in known]
        yield from map(_line, fresh)
        events = fresh or events


def _deployed_name(instance: Instance, function: str) -> str:
    names = function_names(instance)
    if function in names.values():
        return function
    name = names.get(function.replace("-", "_"))
    if name is None:
        known = ", ".join(sorted(names)) or "none: nothing is applied"
        raise LocalError(f"there is no function {function}", f"functions: {known}")
    return name


def _identity(event: dict[str, Any]) -> tuple[Any, ...]:
    # The local cloud gives events no id.
    return event["timestamp"], event.get("logStreamName"), event["message"]


def _events(logs: Any, group: str, since_ms: int) -> list[dict[str, Any]]:
    read: Callable[..., Any] = logs.get_paginator("filter_log_events").paginate
    try:
        events = [event for page in read(logGroupName=group, startTime=since_ms) for event in page["events"]]
        return sorted(events, key=lambda event: int(event["timestamp"]))
    except (ClientError, BotoCoreError) as error:
        raise LocalError(f"the log group {group} cannot be read: {error}", "see `make status`") from error


def _line(event: dict[str, Any]) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(int(event["timestamp"]) / 1000))
    return f"{moment} {str(event['message']).rstrip()}"
