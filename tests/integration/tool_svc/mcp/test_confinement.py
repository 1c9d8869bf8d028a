"""What a server on stdio cannot do; the same server on HTTP, which nobody confines, shows that each attempt works."""

import os
import subprocess

import pytest

from tests.integration.tool_svc.mcp.conftest import http_server, silent, stdio_server
from tests.integration.tool_svc.mcp.reachable import Programs
from tool_svc.adapters.mcp.client import McpConnections
from tool_svc.domain.mcp_server import McpServer

_ATTACKS = {
    "reads_passwords": "open('/etc/passwd').read()",
    "lists_the_root": "__import__('os').listdir('/')",
    "lists_processes": "__import__('os').listdir('/proc')",
    "reads_its_parent": "open(f\"/proc/{__import__('os').getppid()}/environ\", 'rb').read()",
    "writes_elsewhere": "open('/tmp/hearth-mcp-escape', 'w').close()",
    "lists_temporary_files": "__import__('os').listdir('/tmp')",
    "opens_tcp": "__import__('socket').create_server(('127.0.0.1', 0))",
    "opens_udp": "__import__('socket').socket(2, 2)",
    "opens_a_unix_socket": "__import__('socket').socket(1, 1)",
    "leaves_its_group": "__import__('os').setpgid(0, 0) if __import__('os').getpid() != __import__('os').getpgrp() else "
    "__import__('subprocess').run(['/bin/true'], start_new_session=True, check=True)",
    "makes_a_namespace": "__import__('subprocess').run(['/usr/bin/unshare', '--user', '/bin/true'], check=True)",
    "uses_too_much_memory": "len(bytearray(2 << 30))",
    "writes_a_huge_file": "open('/tmp/hearth-mcp-huge' if __import__('os').access('/etc/passwd', 4) else 'huge', 'wb')"
    ".truncate(100 << 20)",
    "signals_its_parent": "__import__('os').kill(__import__('os').getppid(), 0)",
}


async def attempt(connections: McpConnections, server: McpServer, source: str) -> str:
    result = await connections.call(server, {}, "attempt", {"source": source}, 20, silent)
    return result.error_text if result.is_error else result.value["result"]


@pytest.mark.parametrize("name", _ATTACKS)
async def test_an_attack_fails_confined_and_works_unconfined(
    name: str, connections: McpConnections, programs: Programs, sdk_url: str
) -> None:
    source = _ATTACKS[name]
    confined = await attempt(connections, stdio_server(programs.sdk()), source)
    assert confined.startswith("could not: "), confined
    if (
        name == "makes_a_namespace"
        and subprocess.run(["/usr/bin/unshare", "--user", "/bin/true"], check=False).returncode
    ):
        return  # Where nobody may make namespaces there is nothing to compare with.
    unconfined = await attempt(connections, http_server(sdk_url), source)
    assert unconfined.startswith("could: "), unconfined


async def test_what_a_server_needs_works(connections: McpConnections, programs: Programs) -> None:
    server = stdio_server(programs.sdk())
    for source in (
        "open('note', 'w').write('x') and open('note').read()",
        "__import__('tempfile').mkstemp()",
        "__import__('subprocess').run(['/bin/echo', 'hi'], capture_output=True, check=True).stdout",
        "__import__('threading').Thread(target=print).start()",
        "__import__('ssl').create_default_context()",
        "__import__('zoneinfo').ZoneInfo('UTC')",
    ):
        assert (await attempt(connections, server, source)).startswith("could: "), source


async def test_its_environment_is_its_secrets(connections: McpConnections, programs: Programs) -> None:
    server = stdio_server(programs.sdk(), secrets=("TOKEN",))
    result = await connections.call(server, {"TOKEN": "t0k3n"}, "environment", {}, 20, silent)
    ours = {"PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH"}
    assert set(result.value) - ours <= {"TOKEN", "HOME", "TMPDIR", "PATH", "LANG", "LC_CTYPE"}
    assert result.value["TOKEN"] == "t0k3n"


async def test_a_user_of_its_own(connections: McpConnections, programs: Programs) -> None:
    said = await attempt(connections, stdio_server(programs.sdk()), "__import__('os').getresuid()")
    expected = (64_500,) * 3 if os.geteuid() == 0 else os.getresuid()
    assert said == f"could: {expected}"
