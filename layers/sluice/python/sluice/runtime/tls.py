"""What TLS connections start from: one context, its authorities read once, in Lambda's init phase.

botocore makes a context for every client, and urllib3 reads the whole file of authorities into it again for every
connection: some 15 ms each, in the first requests of a container, when it no longer runs at full CPU speed. So all of
them share one, to AWS and to model providers alike, with the authorities that botocore is configured with.
"""

import functools
import ssl

import botocore.httpsession
import botocore.session

# Of botocore's own settings, whatever they are.
_make_context = botocore.httpsession.create_urllib3_context


@functools.cache
def context() -> ssl.SSLContext:
    """The context of every connection. It verifies certificates; names are matched by urllib3."""
    made: ssl.SSLContext = _make_context()
    # urllib3 asks for this on every connection. OpenSSL would parse all of the file again, to find nothing new in it.
    made.load_verify_locations = functools.cache(made.load_verify_locations)  # type: ignore[assignment, method-assign]
    return made


def share_with_botocore() -> None:
    """Have all clients that are made from now on use the one context."""
    botocore.httpsession.create_urllib3_context = context


def authorities(session: botocore.session.Session) -> str:
    """The file of authorities that clients of ``session`` ask for."""
    return str(botocore.httpsession.get_cert_path(session.get_config_variable("ca_bundle") or True))


def read(path: str) -> None:
    """Read a file of authorities before the first connection asks for it."""
    # With exactly the arguments that urllib3 gives, so that it finds them read.
    context().load_verify_locations(path, None, None)
