from __future__ import annotations

import ipaddress

import pytest

from sluice.domain.callback_urls import is_public, parsed_address, split_callback_url
from sluice.domain.errors import InvalidRequestError


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.9.9.9", "169.254.169.254",
        "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.168.1.1", "198.18.0.1",
        "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254", "64:ff9b:1::1", "::127.0.0.1", "100::1", "2001::1", "2001:db8::1",
        "2002:7f00:1::1", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_what_is_not_everybodys_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "8.8.8.8", "52.94.5.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "198.20.0.1",
        "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
    ],
)  # fmt: skip
def test_what_is_everybodys_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("text", ["", "example.com", "1.2.3", "0x7f.1", "127.1", "1.2.3.4.5", "::g"])
def test_what_is_no_address_in_the_usual_notation_is_a_name(text: str) -> None:
    assert parsed_address(text) is None


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.com", "example.com", None),
        ("https://Example.com:8443/a/b?c=d%20e&f", "example.com", 8443),
        ("https://xn--bcher-kva.example/hook", "xn--bcher-kva.example", None),
        ("https://1.1.1.1/x", "1.1.1.1", None),
        ("https://[2606:4700::1111]:444/x", "2606:4700::1111", 444),
    ],
)
def test_a_public_url_over_tls_is_taken(url: str, host: str, port: int | None) -> None:
    parts = split_callback_url(url, allow_private=False, param="callback_url")
    assert (parts.hostname, parts.port) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "example.com/hook", "//example.com/hook", "http://example.com/hook", "ftp://example.com/",
        "file:///etc/passwd", "https://", "https:///path", "https://:443/", "https://example.com:0/",
        "https://example.com:99999/", "https://example.com:port/", "https://user@example.com/",
        "https://user:secret@example.com/", "https://example.com/#part", "https://example.com/#",
        "https://exam ple.com/", "https://example.com/a b", "https://example.com/\r\nx: y", "https://bücher.example/",
        "https://example.com/ü", "https://[::1/", "https://localhost/", "https://LOCALHOST./", "https://a.localhost/",
        "https://instance.internal/", "https://printer.local/", "https://127.0.0.1/", "https://169.254.169.254/latest",
        "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://example.com/" + "a" * 2048, "https://e\\x.com/",
    ],
)  # fmt: skip
def test_any_other_is_refused_with_the_field_it_came_in_and_without_quoting_it(url: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        split_callback_url(url, allow_private=False, param="callback_url")
    assert (refused.value.code, refused.value.param) == ("invalid_callback_url", "callback_url")
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/hook", "https://localhost/", "http://[::1]:1/", "http://x/"])
def test_a_local_deployment_may_call_itself(url: str) -> None:
    assert split_callback_url(url, allow_private=True, param="callback_url").geturl() == url


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://user@127.0.0.1/", "http://"])
def test_and_still_needs_a_url(url: str) -> None:
    with pytest.raises(InvalidRequestError):
        split_callback_url(url, allow_private=True, param="callback_url")
