import ssl
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest

from sluice.runtime import clients, tls


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def forget() -> None:
        clients.client.cache_clear()
        clients._session.cache_clear()
        tls.context.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The files that authorities were read from."""
    found: list[Any] = []

    def read(self: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        found.append(cafile)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", read)
    return found


def context_of(client: Any) -> ssl.SSLContext:
    context = client._endpoint.http_session._manager.connection_pool_kw["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    return context


def test_all_clients_start_from_one_context_that_verifies() -> None:
    first, second = context_of(clients.client("dynamodb")), context_of(clients.client("secretsmanager"))
    assert first is second is tls.context()
    assert first.verify_mode is ssl.CERT_REQUIRED
    assert first.get_ca_certs()


def test_authorities_are_read_once_and_before_the_first_connection(reads: list[Any]) -> None:
    context = context_of(clients.client("dynamodb"))
    bundled = [path for path in reads if path is not None]
    assert len(bundled) == 1
    # As urllib3 does for every connection.
    context.load_verify_locations(bundled[0], None, None)
    assert len(reads) == 1
    context.load_verify_locations("another.pem", None, None)
    assert reads == [*bundled, "another.pem"]


def test_the_authorities_are_those_that_aws_is_configured_with(
    monkeypatch: pytest.MonkeyPatch, reads: list[Any]
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/own.pem")
    assert tls.authorities(botocore.session.get_session()) == "/etc/own.pem"
    assert clients.trust() == {"ssl_context": tls.context(), "ca_certs": "/etc/own.pem"}
    assert reads == ["/etc/own.pem"]


def test_where_nothing_speaks_tls_nothing_is_read(monkeypatch: pytest.MonkeyPatch, reads: list[Any]) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    clients.client("dynamodb")
    assert reads == []
