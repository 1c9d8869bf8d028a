"""The network as tools have it: ordinary code works for the hosts that a tool names, and nothing else is reached."""

import asyncio
import contextlib
import ipaddress
import json
import os
import shutil
import socket
import sysconfig
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.tool_svc.sandbox.servers import PRIVATE, PUBLIC, Names, WebServer, certificate, serving
from tool_svc.adapters.egress.proxy import EgressProxy, EgressSettings, resolve_with_system
from tool_svc.adapters.sandbox.pool import PoolSettings, SandboxPool
from tool_svc.domain.egress import HostRule
from tool_svc.domain.execution import ExecutionLimits, Failed, Outcome, OutputChunk, SandboxCall, Succeeded

EXEMPT = (ipaddress.ip_network(f"{PUBLIC}/32"),)
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hearth-sandbox-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def names() -> Names:
    return Names(api_test=[[PUBLIC]], inner_test=[[PRIVATE]], both_test=[[PRIVATE, PUBLIC]])


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving(PUBLIC) as server:
        yield server


@pytest.fixture
def inner() -> Iterator[WebServer]:
    """A server that no tool may reach."""
    with serving(PRIVATE) as server:
        yield server


@contextlib.asynccontextmanager
async def pool_of(root: Path, resolver: Any, **settings: Any) -> AsyncGenerator[SandboxPool]:
    proxy = EgressProxy(EgressSettings(exempt=EXEMPT, **settings), resolver)
    pool = SandboxPool(PoolSettings(root, warm_workers=1, packages_root=SITE_PACKAGES), proxy)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


@pytest.fixture
async def pool(root: Path, names: Names) -> AsyncIterator[SandboxPool]:
    async with pool_of(root, names) as running:
        yield running


def call_of(body: str, *hosts: str, packages: Path | None = None, **arguments: Any) -> SandboxCall:
    source = "import urllib.request, http.client, socket, ssl, asyncio, os, json, threading, time\n"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    source += f"def f({', '.join(arguments)}):\n{lines}\n"
    return SandboxCall(
        f"call-{time.monotonic_ns()}", source, "f", arguments, ExecutionLimits(wall_time_s=10.0), {}, hosts, packages
    )


async def outcome_of(pool: SandboxPool, call: SandboxCall) -> Outcome:
    async with contextlib.aclosing(pool.execute(call)) as events:
        last = [event async for event in events][-1]
    assert not isinstance(last, OutputChunk)
    return last


async def result_of(pool: SandboxPool, body: str, *hosts: str, packages: Path | None = None, **arguments: Any) -> Any:
    outcome = await outcome_of(pool, call_of(body, *hosts, packages=packages, **arguments))
    assert isinstance(outcome, Succeeded), outcome
    return json.loads(outcome.result_json)


async def refusal_of(pool: SandboxPool, body: str, *hosts: str, **arguments: Any) -> str:
    """The message of the error that a body ends with, which must come from being refused."""
    outcome = await outcome_of(pool, call_of(body, *hosts, **arguments))
    assert isinstance(outcome, Failed), outcome
    assert outcome.error_type in ("PermissionError", "URLError"), outcome
    return outcome.message


async def test_urllib_and_http_client(pool: SandboxPool, web: WebServer) -> None:
    body = (
        "first = urllib.request.urlopen(f'http://api.test:{port}/one', timeout=5).read().decode()\n"
        "connection = http.client.HTTPConnection('api.test', port, timeout=5)\n"
        "answers = []\n"
        "for path in ('/two', '/three'):\n"
        "    connection.request('GET', path); answers.append(connection.getresponse().read().decode())\n"
        "big = len(urllib.request.urlopen(f'http://api.test:{port}/bytes?300000').read())\n"
        "return [first, *answers, big, connection.sock.getpeername()]\n"
    )
    answer = await result_of(pool, body, f"api.test:{web.port}", port=web.port)
    assert answer == ["/one", "/two", "/three", 300_000, [PUBLIC, web.port]]


async def test_https_with_its_certificate_checked(root: Path, names: Names, tmp_path: Path) -> None:
    file = certificate(tmp_path, "api.test")
    trusted = file.read_text().partition("-----BEGIN CERTIFICATE-----")
    body = (
        "context = ssl.create_default_context(cadata=pem)\n"
        "url = f'https://api.test:{port}/secure'\n"
        "first = urllib.request.urlopen(url, context=context).read().decode()\n"
        "with context.wrap_socket(socket.socket(), server_hostname='api.test') as late:\n"
        "    late.connect(('api.test', port)); late.sendall(b'GET /late HTTP/1.0\\r\\n\\r\\n')\n"
        "    second = late.recv(12).decode()\n"
        "async def by_asyncio():\n"
        "    reader, writer = await asyncio.open_connection('api.test', port, ssl=context)\n"
        "    writer.write(b'GET /async HTTP/1.0\\r\\n\\r\\n'); await writer.drain()\n"
        "    return (await reader.readline()).decode()\n"
        "try: urllib.request.urlopen(url); unknown = 'trusted'\n"
        "except Exception as error: unknown = type(error.reason).__name__\n"
        "return [first, second, asyncio.run(by_asyncio()), unknown, ssl.create_default_context().cert_store_stats()['x509_ca'] > 0]\n"
    )
    async with pool_of(root, names) as pool:
        with serving(PUBLIC, file) as web:
            pem = trusted[1] + trusted[2]
            answer = await result_of(pool, body, f"api.test:{web.port}", port=web.port, pem=pem)
    assert answer == ["/secure", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\n", "SSLCertVerificationError", True]


async def test_asyncio_threads_and_httpx(pool: SandboxPool, web: WebServer) -> None:
    body = (
        "import httpx\n"
        "url = f'http://api.test:{port}'\n"
        "with httpx.Client() as client: sync = client.get(f'{url}/sync').text\n"
        "async def many():\n"
        "    async with httpx.AsyncClient() as client:\n"
        "        return [answer.text for answer in await asyncio.gather(*(client.get(f'{url}/{n}') for n in range(5)))]\n"
        "seen = []\n"
        "def one(n): seen.append(urllib.request.urlopen(f'{url}/t{n}').read().decode())\n"
        "threads = [threading.Thread(target=one, args=(n,)) for n in range(5)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "return [sync, asyncio.run(many()), sorted(seen)]\n"
    )
    answer = await result_of(pool, body, f"api.test:{web.port}", packages=SITE_PACKAGES, port=web.port)
    assert answer == ["/sync", [f"/{n}" for n in range(5)], [f"/t{n}" for n in range(5)]]


async def test_failures_are_those_that_code_expects(pool: SandboxPool, web: WebServer) -> None:
    with socket.socket() as closed, socket.create_server((PUBLIC, 0), backlog=0) as silent:
        closed.bind((PUBLIC, 0))
        gone, quiet = closed.getsockname()[1], silent.getsockname()[1]
        body = (
            "kinds = []\n"
            "for host, port in (('api.test', gone), ('unknown.test', 80)):\n"
            "    try: socket.create_connection((host, port), 5)\n"
            "    except OSError as error: kinds.append(type(error).__name__)\n"
            "waiting = socket.create_connection(('api.test', quiet), 0.2)\n"
            "try: waiting.recv(1)\n"
            "except TimeoutError: kinds.append('timeout')\n"
            "sock = socket.socket(); kinds.append(sock.connect_ex(('api.test', gone)))\n"
            "return kinds\n"
        )
        hosts = (f"api.test:{gone}", f"api.test:{quiet}", "unknown.test")
        kinds = await result_of(pool, body, *hosts, gone=gone, quiet=quiet)
    assert kinds == ["ConnectionRefusedError", "gaierror", "timeout", 111]


CONNECT = "socket.create_connection((host, port), 5); return 'escaped'"


@pytest.mark.parametrize(
    "host", ["other.test", "api.test.evil.test", "xapi.test", "test", PUBLIC, PRIVATE, "localhost"]
)
async def test_a_host_that_is_not_named_is_refused(host: str, pool: SandboxPool, web: WebServer) -> None:
    message = await refusal_of(pool, CONNECT, f"api.test:{web.port}", host=host, port=web.port)
    assert "not among the hosts that this tool may reach" in message
    assert web.asked == []


async def test_a_port_that_is_not_named_is_refused(pool: SandboxPool, web: WebServer) -> None:
    message = await refusal_of(pool, CONNECT, "api.test", host="api.test", port=web.port)
    assert f"api.test:{web.port} is not among" in message or f":{web.port} is not among" in message
    by_number = f"socket.getaddrinfo('api.test', 80); socket.socket().connect(('{PUBLIC}', port)); return 'escaped'"
    assert "not among" in await refusal_of(pool, by_number, "api.test", port=web.port)


async def test_a_named_host_at_a_private_address_is_refused(pool: SandboxPool, inner: WebServer) -> None:
    for host in ("inner.test", PRIVATE):
        message = await refusal_of(pool, CONNECT, f"{host}:{inner.port}", host=host, port=inner.port)
        assert f"{PRIVATE} is not a public address" in message
    assert inner.asked == []


async def test_of_several_addresses_only_a_good_one_is_used(pool: SandboxPool, inner: WebServer) -> None:
    with contextlib.closing(socket.create_server((PUBLIC, inner.port))) as public:
        assert (
            await result_of(
                pool,
                "socket.create_connection(('both.test', port)); return 1",
                f"both.test:{inner.port}",
                port=inner.port,
            )
            == 1
        )
        public.settimeout(5)
        public.accept()[0].close()
    assert inner.asked == []


async def test_a_name_that_changes_its_answer_gains_nothing(root: Path, inner: WebServer) -> None:
    rebinding = Names(rebind_test=[[PUBLIC], [PRIVATE]])
    async with pool_of(root, rebinding) as pool:
        body = (
            "said = [socket.gethostbyname('rebind.test')]\n"
            f"for host in ('rebind.test', '{PRIVATE}'):\n"
            "    try: socket.socket().connect((host, port)); said.append('escaped')\n"
            "    except PermissionError as error: said.append(error.strerror)\n"
            "return said\n"
        )
        said = await result_of(pool, body, f"rebind.test:{inner.port}", port=inner.port)
    assert said[0] == PUBLIC
    assert "not a public address" in said[1]
    assert "not among the hosts" in said[2]
    assert inner.asked == []


async def test_a_redirect_to_a_private_address_is_refused(pool: SandboxPool, web: WebServer, inner: WebServer) -> None:
    for host in ("inner.test", PRIVATE):
        target = f"http://{host}:{inner.port}/secret"
        body = f"return urllib.request.urlopen('http://api.test:{web.port}/redirect?{target}').read().decode()"
        hosts = (f"api.test:{web.port}", f"inner.test:{inner.port}")
        message = await refusal_of(pool, body, *hosts)
        assert "not a public address" in message or "not among the hosts" in message
    assert len(web.asked) == 2
    assert inner.asked == []


@pytest.mark.parametrize(
    "notation", ["127.2", "0x7f.2", "0x7f000002", "2130706434", "0177.0.0.2", "127.0.0.2", "[::ffff:127.0.0.2]"]
)
async def test_addresses_in_odd_notations_gain_nothing(notation: str, root: Path, inner: WebServer) -> None:
    """Even where the tool names them, and the machine's own resolver takes them for addresses."""
    async with pool_of(root, resolve_with_system) as pool:
        host = notation.strip("[]")
        message = await refusal_of(pool, CONNECT, f"{notation}:{inner.port}", host=host, port=inner.port)
        assert "not a public address" in message
        assert "not among" in await refusal_of(pool, CONNECT, "api.test", host=host, port=inner.port)
    assert inner.asked == []


@pytest.mark.parametrize(
    "body",
    [
        "import _socket; _socket.socket(2, 1)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "import _socket; _socket.socket(2, 2)",
        "import ctypes; c = ctypes.CDLL(None, use_errno=True)\nif c.socket(2, 1, 0) < 0: raise PermissionError(ctypes.get_errno(), 'no')",
        "socket.socket().bind(('127.0.0.1', 0))",
        "import _socket; _socket.socket(1, 1).connect('\\0x')",
        "socket.socket(socket.AF_UNIX).connect('/tmp/x')",
        "import _socket; _socket.socket(fileno=os.dup(5)).connect('\\0hearth')",
        "a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [5])",
        "import _socket; _socket.socket(fileno=os.dup(5)).sendmsg([b'x'], [(1, 1, b'\\5\\0\\0\\0')])",
    ],
)
async def test_there_is_no_other_way_out(body: str, pool: SandboxPool, web: WebServer) -> None:
    outcome = await outcome_of(pool, call_of(body + "\nreturn 'escaped'", f"api.test:{web.port}"))
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "PermissionError"


RAW = (
    "import _socket, array\n"
    "channel = _socket.socket(fileno=os.dup(5))\n"
    "def ask(data):\n"
    "    channel.send(data)\n"
    "    said, fds, _, _ = channel.recvmsg(4096, 64)\n"
    "    return [said.decode(), len(fds)]\n"
)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\x00garbage",
        b"CONNECT 127.0.0.2:80 HTTP/1.1\r\n\r\n",
        b"[]",
        b"null",
        b'{"op":"connect"}',
        b'{"op":"connect","host":"api.test","port":"80"}',
        b'{"op":"connect","host":"api.test","port":true}',
        b'{"op":"connect","host":"api.test","port":-1}',
        b'{"op":"connect","host":["api.test"],"port":80}',
        b'{"op":"listen","host":"api.test","port":80}',
        b"[" * 4000,
        b'{"op":"resolve","host":"' + b"x" * 8000 + b'"}',
    ],
)
async def test_what_the_proxy_cannot_read_is_refused(data: bytes, pool: SandboxPool, web: WebServer) -> None:
    body = (
        RAW
        + "wrong = ask(bytes.fromhex(data))\nreturn [wrong, urllib.request.urlopen(f'http://api.test:{port}/on').read().decode()]"
    )
    wrong, on = await result_of(pool, body, f"api.test:{web.port}", data=data.hex(), port=web.port)
    assert wrong[1] == 0
    assert "cannot be read" in json.loads(wrong[0])["error"]
    assert on == "/on"


async def test_raw_requests_are_checked_like_others(pool: SandboxPool, inner: WebServer) -> None:
    body = RAW + (
        "channel.send(json.dumps({'op': 'connect', 'host': host, 'port': port}).encode())\n"
        "_, ancillary, _, _ = channel.recvmsg(4096, 64)\n"
        "stream = _socket.socket(fileno=int.from_bytes(ancillary[0][2][:4], 'little'))\n"
        "time.sleep(0.2)\n"
        "return stream.recv(4096)[4:].decode()\n"
    )
    for host in (
        PRIVATE,
        "inner.test",
        "inner.test.",
        f"x@{PRIVATE}",
        "inner.test\0.api.test",
        "::ffff:127.0.0.2",
        "0",
    ):
        said = json.loads(await result_of(pool, body, f"inner.test:{inner.port}", host=host, port=inner.port))
        assert said["errno"] == 1, said
    assert inner.asked == []


async def test_a_flood_of_requests_harms_nobody_else(pool: SandboxPool, web: WebServer) -> None:
    flood = (
        "import _socket\nchannel = _socket.socket(fileno=os.dup(5))\n"
        "for _ in range(20000):\n"
        '    try: channel.send(b\'{"op":"resolve","host":"api.test"}\')\n'
        "    except OSError: break\n"
        "return 'done'\n"
    )
    good = "return urllib.request.urlopen(f'http://api.test:{port}/good').read().decode()"
    host = f"api.test:{web.port}"
    flooding = asyncio.create_task(outcome_of(pool, call_of(flood, host)))
    assert [await result_of(pool, good, host, port=web.port) for _ in range(5)] == ["/good"] * 5
    await flooding


async def test_limits_are_named(root: Path, names: Names, web: WebServer) -> None:
    host = f"api.test:{web.port}"
    async with pool_of(root, names, max_open=3) as pool:
        body = "held = [socket.create_connection(('api.test', port)) for _ in range(4)]"
        assert "3 connections open" in await refusal_of(pool, body, host, port=web.port)
    async with pool_of(root, names, max_requests=3) as pool:
        body = "for _ in range(4): socket.create_connection(('api.test', port)).close(); time.sleep(0.1)"
        assert "3 requests" in await refusal_of(pool, body, host, port=web.port)
    async with pool_of(root, names, max_bytes=100_000) as pool:
        body = (
            "try: return len(urllib.request.urlopen(f'http://api.test:{port}/bytes?200000').read())\n"
            "except (OSError, http.client.HTTPException): urllib.request.urlopen(f'http://api.test:{port}/more')\n"
        )
        assert "100000 bytes" in await refusal_of(pool, body, host, port=web.port)


async def test_the_operator_has_the_last_word(root: Path, names: Names, web: WebServer) -> None:
    async with pool_of(root, names, hosts=(HostRule.parse("other.test"),)) as pool:
        message = await refusal_of(pool, CONNECT, f"api.test:{web.port}", host="api.test", port=web.port)
        assert "not among the hosts" in message


async def test_a_tool_without_hosts_has_nothing_to_talk_to(pool: SandboxPool) -> None:
    body = (
        "import _socket\n"
        "try: _socket.socket(fileno=5); return 'there is a channel'\n"
        "except OSError: pass\n"
        "socket.create_connection(('api.test', 80))"
    )
    outcome = await outcome_of(pool, call_of(body))
    assert isinstance(outcome, Failed)
    assert outcome.error_type in ("PermissionError", "gaierror"), outcome


async def test_the_end_of_a_call_ends_its_connections(pool: SandboxPool) -> None:
    loop = asyncio.get_running_loop()
    descriptors = len(os.listdir("/proc/self/fd"))
    with socket.create_server((PUBLIC, 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        body = "held = [socket.create_connection(('api.test', port)) for _ in range(3)]\nprint('held')\ntime.sleep(60)"
        call = call_of(body, f"api.test:{port}", port=port)
        async with contextlib.aclosing(pool.execute(call)) as events:
            await anext(events)
            connections = [(await loop.sock_accept(server))[0] for _ in range(3)]
        async with asyncio.timeout(2):
            for connection in connections:
                with connection:
                    assert await loop.sock_recv(connection, 1) == b""
    for _ in range(250):
        if len(os.listdir("/proc/self/fd")) <= descriptors:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("descriptors stay open")
