"""Live streaming: answers that leave a function while they are made.

AWS's own Python runtime hands over one finished value, so these functions bring a runtime of ours: a loop that speaks
Lambda's Runtime API in its streaming mode, started through ``AWS_LAMBDA_EXEC_WRAPPER`` (``layers/sluice/bin/stream``).

===============================================  =====================================================================
:mod:`sluice.runtime.streaming.function`         what a function that streams is: a request in, pieces out
:mod:`sluice.runtime.streaming.runtime_api`      the Runtime API on the wire
:mod:`sluice.runtime.streaming.loop`             one invocation after the other; ``python -m`` this package starts it
===============================================  =====================================================================
"""
