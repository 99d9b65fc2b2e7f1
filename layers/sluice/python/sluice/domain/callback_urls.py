"""The URLs that callers want to be called back at, and the addresses that may be called.

A callback URL is anybody's text, and Sluice's functions may stand in a network with neighbours that trust it. So where
nothing else was allowed, messages only go to addresses that anybody in the world could reach, over TLS.
"""

import ipaddress
from typing import Final
from urllib.parse import SplitResult, urlsplit

from sluice.domain.errors import InvalidRequestError

LONGEST_URL: Final = 2048

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# https://www.iana.org/assignments/iana-ipv4-special-registry: what is not somebody's public address. Not left to
# ipaddress.is_global, of which every patch release of Python has another opinion.
_NOT_PUBLIC_V4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        ),
    )
)  # fmt: skip
# https://www.iana.org/assignments/ipv6-unicast-address-assignments: all that is given out to the public is in the
# first, but for what stands in the others (protocols, documentation, tunnels to addresses of version 4).
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"))
)
# An address of version 4 in the clothes of version 6: as itself, and behind a translator (RFC 6052).
_WRAPPED_V4: Final = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96")))


def split_callback_url(url: str, *, allow_private: bool, param: str) -> SplitResult:
    """The parts of a URL that messages may be sent to, as far as that can be told without asking for its address.

    ``allow_private`` lets plain HTTP and addresses in, which only local deployments do.

    :raises InvalidRequestError: it is no such URL; ``param`` says where it came from.
    """
    parts, problem = _examined(url, allow_private=allow_private)
    if parts is None or problem is not None:
        raise InvalidRequestError(f"'{param}' cannot be used: {problem}.", code="invalid_callback_url", param=param)
    return parts


def _examined(url: str, *, allow_private: bool) -> tuple[SplitResult | None, str | None]:
    if len(url) > LONGEST_URL:
        return None, f"it is longer than {LONGEST_URL} characters"
    if "#" in url:
        return None, "it must not have a fragment"
    if not url.isascii() or not url.isprintable() or any(mark in url for mark in ' "<>\\^`{|}'):
        return None, "it holds characters that have to be percent-encoded (or, in a host name, written in Punycode)"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None, "it is not a URL"
    return parts, _problem_of(parts, host, port, allow_private=allow_private)


def _problem_of(parts: SplitResult, host: str | None, port: int | None, *, allow_private: bool) -> str | None:
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        return "it has to begin with https://"
    if not host or port == 0:
        return "it has no host"
    if "@" in parts.netloc:
        return "it must not hold a user name or a password; the signature says who sends"
    if not allow_private and _is_refused_name(host):
        return "messages are sent to public addresses only"
    return None


def _is_refused_name(host: str) -> bool:
    """Whether a host's name alone says that it is not public; of the others their addresses will."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith((".localhost", ".local", ".internal")):
        return True
    address = parsed_address(host)
    return address is not None and not is_public(address)


def parsed_address(text: str) -> Address | None:
    """An address out of its usual notation; ``None`` for anything else, a name for example."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether anybody in the world may have this address: not this machine, not its network, not its provider's."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    if any(address in network for network in _WRAPPED_V4):
        return is_public(ipaddress.IPv4Address(address.packed[-4:]))
    return address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)
