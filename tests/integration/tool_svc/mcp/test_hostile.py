"""Servers that hang, die, lie and flood: each is an error with a reason, soon, and leaves nothing behind."""

import asyncio
import os
import resource
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.fakes.mcp.hostile_server import HostileServer
from tests.integration.tool_svc.mcp.conftest import http_server, settings, silent, stdio_server, until
from tests.integration.tool_svc.mcp.reachable import Programs
from tool_svc.adapters.mcp.client import McpConnections
from tool_svc.domain.mcp_server import McpServer
from tool_svc.interfaces.mcp import McpFailed, McpTimedOut

# Of calls that shall run into it; others get the time that they take on a busy machine.
_TIMEOUT_S = 2.0
_PATIENT_S = 30.0
# Face of the server → what the failure says; None: it is a timeout.
_HTTP_FACES = {
    "hang": None,
    "hang_handshake": None,
    "drip": None,
    "die": "does not speak HTTP, or broke off|connection broke",
    "garbage": "cannot be read",
    "wrong_shape": "does not keep to the protocol",
    "wrong_id": None,
    "huge": "an answer of it is too large",
    "deep": "cannot be read|does not keep to the protocol",
    "bomb": "compresses",
    "moved": "",
    "metadata": "",
    "flood": "it sent more than",
    "progress_flood": "it sent more than",
    "questions": None,
    "endless_event": "it sent more than|broke off",
    "half": "broke off",
    "retry_now": "broke off",
    "page": "",
    "old": "speaks no version of the protocol|does not keep to the protocol",
}
_STDIO_FACES = {
    "hang": None,
    "silent": None,
    "deaf": None,
    "die": "its process ended with status 3",
    "dies_of_a_signal": "its process was killed by SIGSEGV",
    "falls_silent": "it closed its standard output",
    "garbage": "it sent more than",
    "endless_line": "too large",
    "flood": "it sent more than",
    "fills_its_folder": "its folder holds more than 64 MiB",
}


async def outcome(
    connections: McpConnections, server: McpServer, tool: str, timeout_s: float = _PATIENT_S
) -> str | None:
    """The failure's words, None for a timeout."""
    try:
        result = await connections.call(server, {}, tool, {"a": 1}, timeout_s, silent)
    except McpTimedOut:
        return None
    except McpFailed as failure:
        return failure.message
    return f"error: {result.error_text}" if result.is_error else f"result: {str(result.value)[:80]}"


@pytest.mark.parametrize("face", _HTTP_FACES)
async def test_a_hostile_server_on_http(face: str, connections: McpConnections, hostile: HostileServer) -> None:
    server, good = http_server(f"{hostile.url}/{face}"), http_server(f"{hostile.url}/good")
    assert await outcome(connections, good, "add") == "result: good"
    tasks = len(asyncio.all_tasks())
    expected = _HTTP_FACES[face]
    limit_s = _TIMEOUT_S if expected is None else _PATIENT_S
    began, peak = time.monotonic(), _peak_mib()
    said = await outcome(connections, server, "add", limit_s)
    assert time.monotonic() - began < limit_s + 3
    assert _peak_mib() - peak < 150
    if expected is None:
        assert said is None
    else:
        assert said is not None
        assert not said.startswith("result:")
        assert any(part in said for part in expected.split("|")), said
    # Others are served, and what the connection held is given back.
    assert await outcome(connections, good, "add") == "result: good"
    await until(lambda: connections.open_connections <= 1 or face in ("moved", "metadata"))
    await until(lambda: len(asyncio.all_tasks()) <= tasks + 3)
    assert hostile.calls["tools/call"] <= 4


@pytest.mark.parametrize("face", _STDIO_FACES)
async def test_a_hostile_server_on_stdio(
    face: str, connections: McpConnections, programs: Programs, scratch_root: Path
) -> None:
    server = stdio_server(programs.hostile(face))
    expected = _STDIO_FACES[face]
    # It begins within this time as well.
    limit_s = _TIMEOUT_S + 3 if expected is None else _PATIENT_S
    began, peak = time.monotonic(), _peak_mib()
    said = await outcome(connections, server, "do", limit_s)
    assert time.monotonic() - began < limit_s + 5
    assert _peak_mib() - peak < 150
    assert (said is None) if expected is None else (said is not None and expected in said), said
    await until(lambda: connections.open_connections == 0)
    assert _descendants(scratch_root) == []
    assert [folder for area in scratch_root.iterdir() for folder in area.glob("call-*")] == []


async def test_an_error_stream_that_nobody_asked_for_stops_nothing(
    connections: McpConnections, programs: Programs
) -> None:
    said = await outcome(connections, stdio_server(programs.hostile("noisy")), "do")
    assert said is not None
    assert said.startswith("result:")


async def test_what_a_process_started_ends_with_it(
    connections: McpConnections, programs: Programs, scratch_root: Path
) -> None:
    server = stdio_server(programs.hostile("breeds"))
    assert (await outcome(connections, server, "do") or "").startswith("result:")
    await until(lambda: len(_descendants(scratch_root)) >= 7)
    await connections.forget(server.id)
    await until(lambda: _descendants(scratch_root) == [])


async def test_a_command_that_is_none(connections: McpConnections) -> None:
    said = await outcome(connections, stdio_server(("/no/such/program",)), "do")
    assert said == "its process ended: No such file or directory"


async def test_a_hundred_deaths_leave_nothing(
    connections: McpConnections, programs: Programs, scratch_root: Path
) -> None:
    server = stdio_server(programs.hostile("die"))
    await outcome(connections, server, "do")
    await until(lambda: connections.open_connections == 0)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(25):
        said = await asyncio.gather(
            *(outcome(connections, stdio_server(server.connection.command), "do") for _ in range(4))
        )
        assert said == ["its process ended with status 3"] * 4
    await until(lambda: connections.open_connections == 0)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 2)
    assert _descendants(scratch_root) == []
    assert [folder for area in scratch_root.iterdir() for folder in area.glob("call-*")] == []


async def test_a_server_that_forgot_the_session_is_asked_again(
    connections: McpConnections, hostile: HostileServer
) -> None:
    server = http_server(f"{hostile.url}/forgetful")
    assert await outcome(connections, server, "add") == "result: good"
    assert await outcome(connections, server, "add") == "result: good"
    assert hostile.calls["initialize"] == 2


async def test_farewells_are_not_waited_for(scratch_root: Path, hostile: HostileServer) -> None:
    made = McpConnections(settings(scratch_root))
    assert await outcome(made, http_server(f"{hostile.url}/no_farewell"), "add") == "result: good"
    began = time.monotonic()
    await made.stop()
    assert time.monotonic() - began < 4
    assert hostile.calls["DELETE"] == 1


@pytest.mark.parametrize(
    ("face", "says"),
    [
        ("endless_list", "no end"),
        ("crowd", "more than 200 tools"),
        ("no_list", "is none"),
        ("page", "handshake|protocol|broke"),
    ],
)
async def test_lists_that_are_none(face: str, says: str, connections: McpConnections, hostile: HostileServer) -> None:
    with pytest.raises(McpFailed, match=says):
        await connections.list_tools(http_server(f"{hostile.url}/{face}"), {})


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/good",
        "http://localhost:{port}/good",
        "http://[::1]:{port}/good",
        "http://[::ffff:127.0.0.1]:{port}/good",
        "http://[64:ff9b::7f00:1]:{port}/good",
        "http://2130706433:{port}/good",
        "http://0x7f.1:{port}/good",
        "http://0.0.0.0:{port}/good",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/good",
        "http://192.168.0.1/good",
        "http://100.64.0.1/good",
        "http://[fd00::1]/good",
        "http://[fe80::1]/good",
        "http://no.such.name.invalid/good",
    ],
)
async def test_addresses_that_are_not_public_are_refused(url: str, scratch_root: Path, hostile: HostileServer) -> None:
    made = McpConnections(settings(scratch_root, allowed_networks=()))
    try:
        said = await outcome(made, http_server(url.format(port=hostile.url.rpartition(":")[2])), "add")
    finally:
        await made.stop()
    assert said is not None
    assert "has no public address" in said or "cannot be resolved" in said
    assert hostile.headers == []


async def test_a_redirect_to_another_origin_is_not_followed(
    connections: McpConnections, hostile: HostileServer
) -> None:
    said = await outcome(connections, http_server(f"{hostile.url}/moved"), "add")
    assert said is not None
    assert said.startswith("error: Redirect to http://localhost")
    assert all("localhost" not in headers["Host"] for headers in hostile.headers)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _descendants(scratch_root: Path) -> list[str]:
    """Living processes that servers of this test are or have started: their home is below its folder. Other tests run beside it."""
    found: list[str] = []
    for process in psutil.process_iter(["cmdline", "status"]):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            home = process.environ().get("HOME", "")
            if process.info["status"] != psutil.STATUS_ZOMBIE and home.startswith(str(scratch_root)):
                found.append(" ".join(process.info["cmdline"] or ()))
    return found
