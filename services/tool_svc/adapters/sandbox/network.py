"""The network as a tool sees it: Python's `socket` over a channel to the egress proxy, which is all there is.

The process can make no network socket. Here `socket.socket` keeps its face, but `connect` asks the proxy, which hands over
a stream that ends at the destination; names are resolved by the proxy too. So urllib, http.client, ssl, asyncio and what
builds on them work as they are. What is not Python (a C library with sockets of its own) has no network, and nothing has UDP
or can listen. This runs beside hostile code: it is a convenience, and no wall.
"""

import _socket
import errno
import json
import os
import socket
import threading
from typing import Any

_MAX_ANSWER = 4096
_SERVICES = {"http": 80, "https": 443}
# What a socket that is bound to nothing says.
_ANY = "0.0.0.0"  # noqa: S104 - nothing listens there
_INET = (socket.AF_INET, socket.AF_INET6)

_Address = tuple[Any, ...]


def install(channel_fd: int) -> None:
    """Make this process's sockets go through the channel."""
    _Sockets(_Channel(channel_fd)).install()


class _Channel:
    """Asks the proxy. One question at a time; the wait for a connection is on its own stream."""

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)
        self._lock = threading.Lock()

    def connect(self, host: str, port: int, timeout: float | None) -> int:
        """The descriptor of a stream to there. Raises OSError."""
        stream = self._ask({"op": "connect", "host": host, "port": port})
        try:
            _outcome(stream, timeout)
        except BaseException:
            stream.close()
            raise
        return stream.detach()

    def resolve(self, host: str) -> list[str]:
        """The addresses of a name. Raises OSError."""
        stream = self._ask({"op": "resolve", "host": host})
        try:
            return _outcome(stream, None)["addresses"]
        finally:
            stream.close()

    def _ask(self, question: dict[str, Any]) -> _socket.socket:
        with self._lock:
            self._socket.send(json.dumps(question).encode())
            data, ancillary, _flags, _from = self._socket.recvmsg(_MAX_ANSWER, _socket.CMSG_LEN(4))
        for _level, _kind, content in ancillary:
            return _socket.socket(fileno=int.from_bytes(content[:4], "little"))
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the egress proxy has closed the channel")
        raise _error(json.loads(data))


def _outcome(stream: _socket.socket, timeout: float | None) -> dict[str, Any]:
    stream.settimeout(timeout)
    length = int.from_bytes(_exactly(stream, 4), "big")
    answer = json.loads(_exactly(stream, length))
    if "error" in answer:
        raise _error(answer)
    return answer


def _exactly(stream: _socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "the egress proxy has closed the connection")
        data += more
    return data


def _error(answer: dict[str, Any]) -> OSError:
    """Resolvers have numbers of their own, below zero."""
    kind = socket.gaierror if answer["errno"] < 0 else OSError
    return kind(answer["errno"], answer["error"])


class _Sockets:
    """Puts the methods of `socket.socket` that meet the network in the proxy's hands. Subclasses (ssl's) inherit them."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._own: dict[str, Any] = {
            name: getattr(socket.socket, name)
            for name in ("__init__", "connect", "setsockopt", "getsockopt", "getpeername", "getsockname", "bind")
        }
        # By descriptor: a socket that ssl wraps keeps its number and loses its object.
        self._peers: dict[int, _Address] = {}

    def install(self) -> None:
        """Replace them for all sockets, those of libraries too."""
        kind: Any = socket.socket
        for name in (*self._own, "connect_ex", "sendmsg"):
            method = getattr(self, "_" + name.strip("_"))
            setattr(kind, name, _as_method(method))
        module: Any = socket
        module.getaddrinfo = self._getaddrinfo
        module.gethostbyname = lambda host: self._getaddrinfo(host, None, socket.AF_INET)[0][4][0]

    def _init(self, sock: Any, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None) -> None:  # noqa: A002 - as Python names it
        if fileno is None and family in (-1, *_INET):
            family = socket.AF_INET if family == -1 else family
            flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            if type != -1 and type & ~flags != socket.SOCK_STREAM:
                raise PermissionError(errno.EPERM, "tools reach the network by TCP only")
            # Stands where the connection will be, so that the descriptor's number is known from the start.
            mine, other = _socket.socketpair()
            other.close()
            fileno, blocking = mine.detach(), type == -1 or not type & socket.SOCK_NONBLOCK
            self._peers.pop(fileno, None)
            self._own["__init__"](sock, family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno)
            sock.setblocking(blocking)
            return
        self._own["__init__"](sock, family, type, proto, fileno)

    def _connect(self, sock: Any, address: _Address) -> None:
        if sock.family not in _INET:
            return self._own["connect"](sock, address)
        host, port = address[:2]
        stream = self._channel.connect(host, port, sock.gettimeout() or None)
        os.dup2(stream, sock.fileno())
        os.close(stream)
        os.set_blocking(sock.fileno(), sock.gettimeout() is None)
        self._peers[sock.fileno()] = (host, port) if sock.family == socket.AF_INET else (host, port, 0, 0)
        return None

    def _connect_ex(self, sock: Any, address: _Address) -> int:
        try:
            self._connect(sock, address)
        except TimeoutError:
            return errno.EAGAIN
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _setsockopt(self, sock: Any, *option: Any) -> None:
        if sock.family not in _INET:
            self._own["setsockopt"](sock, *option)

    def _getsockopt(self, sock: Any, level: int, name: int, *size: int) -> Any:
        if sock.family in _INET and level == socket.SOL_SOCKET and name == socket.SO_TYPE:
            return socket.SOCK_STREAM
        if sock.family in _INET:
            return 0
        return self._own["getsockopt"](sock, level, name, *size)

    def _getpeername(self, sock: Any) -> Any:
        if sock.family not in _INET:
            return self._own["getpeername"](sock)
        if sock.fileno() not in self._peers:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._peers[sock.fileno()]

    def _getsockname(self, sock: Any) -> Any:
        if sock.family not in _INET:
            return self._own["getsockname"](sock)
        return (_ANY, 0) if sock.family == socket.AF_INET else ("::", 0, 0, 0)

    def _bind(self, sock: Any, address: _Address) -> None:
        if sock.family not in _INET:
            return self._own["bind"](sock, address)
        raise PermissionError(errno.EPERM, "tools make connections, they do not accept any")

    def _sendmsg(self, sock: Any, buffers: Any, *rest: Any) -> int:
        """Without the system call of this name, which could pass descriptors on."""
        if rest and (rest[0] or rest[2:]):
            raise PermissionError(errno.EPERM, "tools send bytes only")
        return sock.send(b"".join(buffers))

    def _getaddrinfo(
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,  # noqa: A002 - as Python names it
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[Any, ...]]:
        """As socket.getaddrinfo, for TCP."""
        name = host.decode() if isinstance(host, bytes) else host or "localhost"
        number = _SERVICES.get(port, port) if isinstance(port, str) else port
        found: list[tuple[Any, ...]] = []
        for text in self._addresses(name):
            kind = socket.AF_INET6 if ":" in text else socket.AF_INET
            where = (text, int(number or 0), 0, 0) if kind == socket.AF_INET6 else (text, int(number or 0))
            if family in (0, kind) and type in (0, socket.SOCK_STREAM):
                found.append((kind, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, f"{name} has no address of this kind")
        return found

    def _addresses(self, name: str) -> list[str]:
        for family in _INET:
            try:
                socket.inet_pton(family, name)
            except (OSError, ValueError):
                continue
            return [name]
        return self._channel.resolve(name)


def _as_method(function: Any) -> Any:
    """A plain function binds to the instance it is found on, as a bound method does not."""

    def method(sock: Any, *arguments: Any, **named: Any) -> Any:
        return function(sock, *arguments, **named)

    return method
