"""Which names a rule allows, and that no address but a public one is good, however it is written."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tool_svc.domain.egress import HostRule, Refused, allows, check_address, normalized


@pytest.mark.parametrize(
    ("rule", "host", "port", "allowed"),
    [
        ("api.example.com", "api.example.com", 443, True),
        ("api.example.com", "API.Example.COM.", 80, True),
        ("api.example.com", "api.example.com", 8080, False),
        ("api.example.com", "example.com", 443, False),
        ("api.example.com", "api.example.com.evil.net", 443, False),
        ("api.example.com", "xapi.example.com", 443, False),
        ("api.example.com:8443", "api.example.com", 8443, True),
        ("api.example.com:8443", "api.example.com", 443, False),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "notexample.com", 443, False),
        ("bücher.example", "xn--bcher-kva.example", 443, True),
        ("93.184.216.34:443", "93.184.216.34", 443, True),
        ("[2606:2800:220::1]:443", "2606:2800:220:0:0:0:0:1", 443, True),
    ],
)
def test_names(rule: str, host: str, port: int, allowed: bool) -> None:
    assert allows([HostRule.parse(rule)], normalized(host), port) is allowed


@pytest.mark.parametrize(
    "host", ["", ".", "a..b", "a b", "a\0b", "user@host", "a/b", "a:80", "é" * 300, "-a.b", "a\nb"]
)
def test_what_is_no_host_name(host: str) -> None:
    with pytest.raises(ValueError, match=r"no host name|label"):
        normalized(host)


_PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "8.8.8.8",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "2002:0808:0808::1",
    "::ffff:8.8.8.8",
]
_SPECIAL = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.170",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "203.0.113.9",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff05::2",
    "fe80::1%eth0",
    "3fff::1",
    "2001:20::1",
]


@pytest.mark.parametrize("text", _PUBLIC)
def test_public_addresses(text: str) -> None:
    check_address(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", _SPECIAL)
def test_special_addresses(text: str) -> None:
    with pytest.raises(Refused, match="not a public address"):
        check_address(ipaddress.ip_address(text))


@given(st.ip_addresses())
def test_never_laxer_than_the_standard_library(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    try:
        check_address(address)
    except Refused:
        return
    assert address.is_global
    assert not address.is_multicast


@given(st.ip_addresses(v=4))
def test_a_carried_address_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    def good(candidate: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        try:
            check_address(candidate)
        except Refused:
            return False
        return True

    number = int(address)
    for carrier in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80 | 1):
        assert good(ipaddress.IPv6Address(carrier)) == good(address)


def test_an_exemption_holds_for_its_network_only() -> None:
    exempt = [ipaddress.ip_network("127.0.0.1/32")]
    check_address(ipaddress.ip_address("127.0.0.1"), exempt)
    check_address(ipaddress.ip_address("::ffff:127.0.0.1"), exempt)
    for text in ("127.0.0.2", "::1", "10.0.0.1", "2002:a00:1::1"):
        with pytest.raises(Refused):
            check_address(ipaddress.ip_address(text), exempt)
