"""What a server on stdio tries, and how it ends; also as a program, so that the suite can run it as another user.

`python -m tests.integration.tool_svc.mcp.battery FOLDER PYTHON COMMAND…` prints a JSON object of names to
{"confined": answer, "unconfined": answer}. The same server on HTTP, which nobody confines, shows that each attempt works.
PYTHON is the interpreter that starts confined processes.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from tests.integration.tool_svc.mcp.connecting import http_server, settings, silent, stdio_server
from tool_svc.adapters.mcp.client import McpConnections
from tool_svc.domain.mcp_server import McpServer
from tool_svc.interfaces.mcp import McpFailed

# Expressions. OUTSIDE is a folder of the same user's that no server is given.
ATTACKS = {
    "reads_passwords": "open('/etc/passwd').read()",
    "lists_the_root": "__import__('os').listdir('/')",
    "lists_processes": "__import__('os').listdir('/proc')",
    "reads_its_parent": "open(f\"/proc/{__import__('os').getppid()}/environ\", 'rb').read()",
    "writes_elsewhere": "open('OUTSIDE/escape', 'w').close()",
    "lists_another_folder": "__import__('os').listdir('OUTSIDE')",
    "reads_another_file": "open('OUTSIDE/note').read()",
    "opens_tcp": "__import__('socket').create_server(('127.0.0.1', 0))",
    "opens_udp": "__import__('socket').socket(2, 2)",
    "opens_a_unix_socket": "__import__('socket').socket(1, 1)",
    "leaves_its_group": "__import__('os').setpgid(0, 0) if __import__('os').getpid() != __import__('os').getpgrp() else "
    "__import__('subprocess').run(['/bin/true'], start_new_session=True, check=True)",
    "makes_a_namespace": "__import__('subprocess').run(['/usr/bin/unshare', '--user', '/bin/true'], check=True)",
    "uses_too_much_memory": "len(bytearray(2 << 30))",
    "writes_a_huge_file": "open('huge', 'wb').truncate(100 << 20)",
    "signals_its_parent": "__import__('os').kill(__import__('os').getppid(), 0)",
}
# What it may, and what tells who it is.
NEEDS = {
    "writes_its_folder": "open('note', 'w').write('x') and open('note').read()",
    "makes_temporary_files": "__import__('tempfile').mkstemp()",
    "starts_programs": "__import__('subprocess').run(['/bin/echo', 'hi'], capture_output=True, check=True).stdout",
    "starts_threads": "__import__('threading').Thread(target=print).start()",
    "reads_certificates": "__import__('ssl').create_default_context()",
    "knows_time_zones": "__import__('zoneinfo').ZoneInfo('UTC')",
    "user": "__import__('os').getresuid()",
}


async def attempt(connections: McpConnections, server: McpServer, source: str) -> str:
    """`could: …` or `could not: …`."""
    result = await connections.call(server, {}, "attempt", {"source": source}, 20, silent)
    return result.error_text if result.is_error else result.value["result"]


async def run_all(folder: Path, command: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Every attempt, confined and not."""
    outside = folder / "outside"
    outside.mkdir()
    (outside / "note").write_text("not for servers")
    outside.chmod(0o777)
    paths = (Path(command[-1]).parent,)
    connections = McpConnections(settings(folder, stdio=True, stdio_paths=paths))
    results: dict[str, dict[str, str]] = {name: {} for name in (*ATTACKS, *NEEDS)}
    try:
        async with _serving(command, folder, connections) as unconfined:
            for kind, server in (("confined", stdio_server(command)), ("unconfined", unconfined)):
                for name, source in (ATTACKS | NEEDS).items():
                    results[name][kind] = await attempt(connections, server, source.replace("OUTSIDE", str(outside)))
    finally:
        await connections.stop()
    return results


@contextlib.asynccontextmanager
async def _serving(command: tuple[str, ...], folder: Path, connections: McpConnections) -> AsyncGenerator[McpServer]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen([*command, str(port)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = http_server(f"http://127.0.0.1:{port}/mcp")
    try:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(McpFailed):
                    await connections.list_tools(server, {})
                    break
                await asyncio.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.executable = sys.argv[2]
    print(json.dumps(asyncio.run(run_all(Path(sys.argv[1]), tuple(sys.argv[3:])))))
