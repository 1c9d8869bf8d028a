"""Where a tool may connect: which names and ports its tool allows, and which addresses nobody may reach.

The table of special addresses is IANA's (the IPv4 and IPv6 special-purpose address registries). An IPv6 address that carries
an IPv4 address is judged by both.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DEFAULT_PORTS = (80, 443)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,62}[a-z0-9])?)*")
_MAX_NAME = 253

_SPECIAL_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ]
)
# Of IPv6 only what is given out to the world is good, and of that not these.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(ipaddress.IPv6Network(network) for network in ["2001::/23", "2001:db8::/32", "3fff::/20"])
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(Exception):
    """A connection that may not be made. The message says why, for the tool's author."""


@dataclass(frozen=True, slots=True)
class HostRule:
    """One entry of an allow-list: a name, or all names below one, at some ports. Without a port: 80 and 443."""

    name: str
    below: bool
    ports: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "HostRule":
        """From `name`, `*.name`, `address` or `[IPv6 address]`, each with an optional `:port`. Raises ValueError."""
        host, port = text, ""
        if text.startswith("["):
            host, _, port = text[1:].partition("]")
            port = port.removeprefix(":")
        elif ":" in text:
            host, _, port = text.rpartition(":")
        below = host.startswith("*.")
        ports = (int(port),) if port else DEFAULT_PORTS
        if any(not 0 < number < 65_536 for number in ports):
            raise ValueError(f"{text!r} has no port that exists")
        return cls(normalized(host.removeprefix("*.")), below, ports)

    def allows(self, name: str, port: int) -> bool:
        """Whether a normalized name may be reached at a port."""
        matches = name.endswith("." + self.name) if self.below else name == self.name
        return matches and port in self.ports


def normalized(host: str) -> str:
    """A host as it is compared: lower case, IDNA, no final dot, an address in its one usual form. Raises ValueError."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    name = host.removesuffix(".").lower()
    if not name.isascii():
        name = name.encode("idna").decode("ascii")
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError(f"{host[:80]!r} is no host name")
    return name


def allows(rules: Iterable[HostRule], name: str, port: int) -> bool:
    """Whether any of the rules allows a normalized name at a port."""
    return any(rule.allows(name, port) for rule in rules)


def check_address(address: Address, exempt: Sequence[Network] = ()) -> None:
    """Refuses what is not an ordinary address of the public Internet, unless it lies in `exempt`. Raises Refused."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise Refused(f"{address} is not a public address")
        carried = _carried(address)
        if carried is not None:
            check_address(carried, exempt)
            if address.ipv4_mapped is not None or address in _NAT64:
                return
    if any(address in network for network in exempt):
        return
    if not _is_public(address):
        raise Refused(f"{address} is not a public address")


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this one may end at: mapped, NAT64 or 6to4."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour
