"""AWS clients: made when first asked for, shared, with timeouts short enough for somebody who waits. Made nowhere else.

They are boto3's clients, made by its core, botocore: the rest of boto3 (resources, transfers) adds nothing to a client
but the time of its import. That happens with this module, in Lambda's init phase, which runs at full CPU speed whatever
the memory size.
One session for all: a second one costs as much as a handful of clients. What each choice here is worth is measured in
docs/performance.md.
"""

import os
import threading
from functools import cache
from typing import Any, Final, cast

import botocore
import botocore.session
from botocore.config import Config

from sluice.runtime import tls

CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 5.0
MAX_ATTEMPTS: Final = 3

# Left to itself, botocore puts the header together anew for every call, twice, from a dozen sanitised parts.
_USER_AGENT: Final = f"Botocore/{botocore.__version__} sluice"

# The session is not safe to make clients from in two threads at once; the clients themselves are.
# https://boto3.amazonaws.com/v1/documentation/api/latest/guide/clients.html#multithreading-or-multiprocessing-with-clients
_making = threading.Lock()

tls.share_with_botocore()


@cache
def _session() -> botocore.session.Session:
    session = botocore.session.get_session()
    # The local cloud speaks plain HTTP.
    if not os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        tls.read(tls.authorities(session))
    return session


def trust() -> dict[str, Any]:
    """The arguments with which a pool of urllib3 verifies its connections as AWS clients do theirs."""
    return {"ssl_context": tls.context(), "ca_certs": tls.authorities(_session())}


@cache
def client(
    service: str,
    *,
    read_timeout_s: float = READ_TIMEOUT_S,
    max_attempts: int = MAX_ATTEMPTS,
    endpoint_url: str | None = None,
) -> Any:
    """The client of an AWS service, by botocore's name for it (``dynamodb``, ``bedrock-runtime`` …).

    ``read_timeout_s`` is the longest wait for an answer; ``max_attempts`` counts the first try, so 1 means no retries
    inside botocore. Region, credentials and endpoint come from where botocore finds them; ``endpoint_url`` is for what
    is known to others under another address.
    """
    config = Config(
        connect_timeout=min(CONNECT_TIMEOUT_S, read_timeout_s),
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": max_attempts},
        # Embeddings go out side by side; keep-alive spares a TLS handshake per call.
        max_pool_connections=16,
        tcp_keepalive=True,
        user_agent=_USER_AGENT,
        # The table's adapter makes every parameter from typed values, and DynamoDB checks them all the same: walking
        # through each item once more is a tenth of the call. Elsewhere callers' own values get into the parameters.
        parameter_validation=service != "dynamodb",
        # Of a multipart upload for which botocore has asked for checksums, S3 wants to be told that of every part, even
        # of those that it copied itself. What is sent over TLS has arrived as it was sent.
        request_checksum_calculation="when_required",
        # For URLs that others use, botocore's choice would be a signature that S3 refuses where KMS encrypts.
        signature_version="s3v4" if service == "s3" else None,
        # The local cloud and its buckets live on one host name, so virtual-host addressing cannot work there. Elsewhere
        # it is asked for by name: left to itself, botocore signs URLs for the global host, which leads to a bucket of
        # another region only by a redirect, for as long as the bucket is new, and the signature does not hold there.
        s3={"addressing_style": "path" if "AWS_ENDPOINT_URL" in os.environ else "virtual"},
    )
    with _making:
        # The stubs know a service only by a literal name; whoever asks for a client knows its type.
        return cast("Any", _session()).create_client(service, config=config, endpoint_url=endpoint_url)
