"""The filtering egress proxy, and the way out of one call: requests over a channel, answered with a stream each.

A tool's process has no network. It holds one end of a SOCK_SEQPACKET pair and sends one JSON message for each thing that it
wants: `{"op": "resolve", "host"}` or `{"op": "connect", "host", "port"}`. The answer is a descriptor of a stream, or no
descriptor and `{"error", "errno"}`. A stream begins with a frame (see `sandbox.wire`) that says how it went; after
`connect` it is then the connection's bytes, both ways. The proxy resolves names itself, checks every address, and
connects to the address that it checked, so what a name says later does not matter.
"""

import asyncio
import contextlib
import errno
import ipaddress
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tool_svc.adapters.egress.relay import Budget, OutOfBudget, relay
from tool_svc.adapters.sandbox import wire
from tool_svc.domain.egress import Address, HostRule, Network, Refused, allows, check_address, normalized

_LOG = logging.getLogger(__name__)
_MAX_REQUEST = 4096
_MAX_ADDRESSES = 4
# After so many times the messages that could be of use, nobody listens any more.
_PATIENCE = 4

Resolver = Callable[[str], Awaitable[Sequence[Address]]]


async def resolve_with_system(name: str) -> Sequence[Address]:
    """What the machine's resolver says of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


@dataclass(frozen=True)
class EgressSettings:
    """What the operator allows any tool. `exempt`: networks that are not public and may be reached all the same."""

    hosts: tuple[HostRule, ...] | None = None
    exempt: tuple[Network, ...] = ()
    max_requests: int = 256
    max_open: int = 16
    max_bytes: int = 64 * 1024 * 1024
    connect_timeout_s: float = 10.0


class EgressProxy:
    """Implements Egress."""

    def __init__(self, settings: EgressSettings, resolver: Resolver = resolve_with_system) -> None:
        self._settings = settings
        self._resolver = resolver

    def serve(self, channel: socket.socket, allowed_hosts: Sequence[str]) -> "ProxySession":
        return ProxySession(self._settings, self._resolver, channel, allowed_hosts)


class ProxySession:
    """The way out of one call. What comes over the channel is as hostile as the tool."""

    def __init__(
        self, settings: EgressSettings, resolver: Resolver, channel: socket.socket, allowed_hosts: Sequence[str]
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._channel = channel
        self._rules = [HostRule.parse(host) for host in allowed_hosts]
        self._names: dict[Address, set[str]] = {}
        self._budget = Budget(settings.max_bytes)
        self._requests_left = settings.max_requests
        self._messages_left = _PATIENCE * settings.max_requests
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        channel.setblocking(False)
        self._loop.add_reader(channel.fileno(), self._on_request)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        for task in self._tasks:
            task.cancel()

    def _on_request(self) -> None:
        try:
            data = self._channel.recv(_MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._messages_left -= 1
        if not data or self._messages_left < 0:
            self.close()
            return
        try:
            host, port = _read(data)
            self._admit()
        except Refused as refused:
            self._answer(_failure(refused, errno.EPERM), None)
            return
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            if not self._answer(b"{}", theirs):
                ours.close()
                return
        task = self._loop.create_task(self._serve(ours, host, port))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _admit(self) -> None:
        """Raises Refused beyond a limit."""
        if self._requests_left <= 0:
            raise Refused(f"the tool has made {self._settings.max_requests} requests, as many as it may")
        if len(self._tasks) >= self._settings.max_open:
            raise Refused(f"the tool has {self._settings.max_open} connections open, as many as it may")
        if self._budget.left <= 0:
            raise Refused(f"the tool has moved {self._settings.max_bytes} bytes, as many as it may")
        self._requests_left -= 1

    def _answer(self, body: bytes, stream: socket.socket | None) -> bool:
        """One message back. A tool that does not read its answers loses the channel."""
        try:
            socket.send_fds(self._channel, [body], [] if stream is None else [stream.fileno()])
        except OSError:
            self.close()
            return False
        return True

    async def _serve(self, stream: socket.socket, host: str, port: int | None) -> None:
        with stream:
            try:
                async with asyncio.timeout(self._settings.connect_timeout_s):
                    if port is None:
                        found = await self._resolve(_name(host))
                        await self._tell(stream, json.dumps({"addresses": [str(one) for one in found]}).encode())
                        return
                    remote = await self._connect(host, port)
            except Refused as refused:  # Not logged: a tool may have put a secret into the name.
                await self._tell(stream, _failure(refused, errno.EPERM))
            except TimeoutError:
                await self._tell(stream, _failure(f"{host[:80]} does not answer", errno.ETIMEDOUT))
            except OSError as error:
                await self._tell(stream, _failure(_describe(host, error), error.errno or errno.EIO))
            else:
                with remote:
                    await self._tell(stream, b"{}")
                    await self._relay(stream, remote)

    async def _relay(self, stream: socket.socket, remote: socket.socket) -> None:
        try:
            await relay(stream, remote, self._budget)
        except OutOfBudget:
            _LOG.info("a tool moved more bytes than it may", extra={"limit": self._settings.max_bytes})
        except OSError:
            pass  # One side went away; the other sees its end.

    async def _tell(self, stream: socket.socket, body: bytes) -> None:
        with contextlib.suppress(OSError):  # Nobody listens any more.
            await self._loop.sock_sendall(stream, wire.frame(body))

    async def _connect(self, host: str, port: int) -> socket.socket:
        """A connection to an address that was checked. Raises Refused, OSError."""
        failure = OSError(errno.EHOSTUNREACH, "no address")
        for address in (await self._addresses(_name(host), port))[:_MAX_ADDRESSES]:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            remote = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                await self._loop.sock_connect(remote, (str(address), port))
            except OSError as error:
                remote.close()
                failure = error
            except BaseException:
                remote.close()
                raise
            else:
                return remote
        raise failure

    async def _addresses(self, name: str, port: int) -> Sequence[Address]:
        """Where a connection may go. Raises Refused, OSError."""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            self._require(allows(self._rules, name, port), name, port)
            return await self._resolve(name, port)
        # Programs resolve first and connect to the number: it is as good as the names that it came from.
        names = {str(address)} | self._names.get(address, set())
        allowed = [one for one in names if allows(self._rules, one, port) and self._operator_allows(one, port)]
        self._require(bool(allowed), name, port)
        check_address(address, self._settings.exempt)
        return [address]

    async def _resolve(self, name: str, port: int | None = None) -> Sequence[Address]:
        """The addresses of an allowed name that may be reached, at least one. Raises Refused, OSError."""
        ports = [port] if port is not None else [one for rule in self._rules for one in rule.ports]
        known = [one for one in ports if allows(self._rules, name, one) and self._operator_allows(name, one)]
        self._require(bool(known), name, port)
        good: list[Address] = []
        refusal = Refused(f"{name} has no address")
        for address in await self._resolver(name):
            try:
                check_address(address, self._settings.exempt)
            except Refused as refused:
                refusal = Refused(f"{name} is not to be reached: {refused}")
            else:
                good.append(address)
                self._names.setdefault(address, set()).add(name)
        if not good:
            raise refusal
        return list(dict.fromkeys(good))

    def _operator_allows(self, name: str, port: int) -> bool:
        return self._settings.hosts is None or allows(self._settings.hosts, name, port)

    def _require(self, allowed: bool, name: str, port: int | None) -> None:
        if not allowed:
            place = name if port is None else f"{name}:{port}"
            raise Refused(f"{place} is not among the hosts that this tool may reach")


def _read(data: bytes) -> tuple[str, int | None]:
    """Host and port of a request; no port: it asks for addresses. Raises Refused."""
    try:
        request: Any = json.loads(data)
        host, operation = request["host"], request["op"]
        port = request["port"] if operation == "connect" else None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Refused("the request cannot be read") from None
    wrong_port = operation == "connect" and (type(port) is not int or not 0 < port < 65_536)
    if operation not in ("connect", "resolve") or not isinstance(host, str) or wrong_port:
        raise Refused("the request cannot be read")
    return host, port


def _name(host: str) -> str:
    try:
        return normalized(host)
    except ValueError as error:
        raise Refused(str(error)) from None


def _failure(problem: object, number: int) -> bytes:
    return json.dumps({"error": str(problem), "errno": number}).encode()


def _describe(host: str, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"{host[:80]} cannot be resolved"
    return f"{host[:80]}: {error.strerror or type(error).__name__}"
