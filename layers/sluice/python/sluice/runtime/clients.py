"""AWS clients: made when first asked for, shared, with timeouts short enough for somebody who waits. Made nowhere else.

boto3 is imported with this module, in Lambda's init phase, which runs at full CPU speed whatever the memory size.
One session for all: a second one costs 46 ms where a second client of the same session costs 5.
"""

import os
import threading
from functools import cache
from typing import Any, Final, cast

import boto3
from botocore.config import Config

CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 5.0
MAX_ATTEMPTS: Final = 3

# boto3's sessions are not safe to make clients from in two threads at once; the clients themselves are.
# https://boto3.amazonaws.com/v1/documentation/api/latest/guide/clients.html#multithreading-or-multiprocessing-with-clients
_making = threading.Lock()


@cache
def _session() -> boto3.session.Session:
    return boto3.session.Session()


@cache
def client(service: str, *, read_timeout_s: float = READ_TIMEOUT_S, max_attempts: int = MAX_ATTEMPTS) -> Any:
    """The client of an AWS service, by botocore's name for it (``dynamodb``, ``bedrock-runtime`` …).

    ``read_timeout_s`` is the longest wait for an answer; ``max_attempts`` counts the first try, so 1 means no retries
    inside botocore. Region, credentials and endpoint come from where botocore finds them.
    """
    config = Config(
        connect_timeout=min(CONNECT_TIMEOUT_S, read_timeout_s),
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": max_attempts},
        # Embeddings go out side by side; keep-alive spares a TLS handshake per call.
        max_pool_connections=16,
        tcp_keepalive=True,
        # The local cloud and its buckets live on one host name, so virtual-host addressing cannot work there.
        s3={"addressing_style": "path"} if "AWS_ENDPOINT_URL" in os.environ else None,
    )
    with _making:
        # The stubs know a service only by a literal name; whoever asks for a client knows its type.
        return cast("Any", _session()).client(service, config=config)
