"""The table's stream: every entry of the request log is added to its key's usage of the day."""

import os
from functools import cache
from typing import Any

from functions.roll_up_usage.settings import RollUpUsageSettings
from sluice.domain.deadline import Deadline
from sluice.runtime import accounting
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.roll_up_usage import RollUpUsage


@before_snapshot
@cache
def service() -> RollUpUsage:
    """Built once per container."""
    return accounting.roll_up_usage(load(RollUpUsageSettings, os.environ))


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> None:
    """Add up a batch; what raises makes the stream bring it again, and nothing of it counts twice."""
    service().add(event["Records"])
