"""Free TCP ports of loopback."""

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 15_000


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens at now. Raises OSError when there are too few.

    They lie below the range from which the kernel takes ports for outgoing connections: so no client can take one between
    this choice and the start of its server, nor while that restarts.
    """
    highest = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    candidates = range(_LOWEST, highest) if highest - _LOWEST > 1000 else range(20_000, 60_000)
    chosen: list[int] = []
    for port in random.SystemRandom().sample(candidates, len(candidates)):
        if bindable("127.0.0.1", port):
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise OSError("there are not enough free ports on loopback")


def bindable(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: connections of an earlier server that are still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
