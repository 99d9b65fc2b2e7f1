"""The platform's own handler, made slower on purpose by SLEEP_MS: what the benchmark must notice."""

import os
import time
from typing import Any

from functions.chat_completions.handler import handler as real_handler

_SLEEP_S = float(os.environ.get("SLEEP_MS", "0")) / 1000


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """As the real one, a little later."""
    time.sleep(_SLEEP_S)
    return real_handler(event, context)
