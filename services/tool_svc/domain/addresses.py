"""Which addresses of the network a tenant may make Hearth connect to."""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# An IPv6 address of these networks carries an IPv4 address that a translator on the way connects to.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")


def may_be_reached(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether it is public (so neither private, link-local, a cloud's metadata nor this host), or the operator allows it."""
    meant = _meant(address)
    if any(meant in network for network in allowed if network.version == meant.version):
        return True
    return meant.is_global and not meant.is_multicast


def _meant(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one, where that is what a connection ends at."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)
