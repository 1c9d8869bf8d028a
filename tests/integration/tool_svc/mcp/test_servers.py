"""Well-meant MCP servers, over both transports: the SDK's own, and one from npm."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.mcp.hostile_server import HostileServer
from tests.integration.tool_svc.mcp.conftest import http_server, settings, silent, stdio_server, until
from tests.integration.tool_svc.mcp.reachable import Programs
from tool_svc.adapters.mcp.client import McpConnections
from tool_svc.domain.mcp_server import McpServer
from tool_svc.interfaces.mcp import McpBusy, McpFailed, McpTimedOut

_SDK_TOOLS = ["add", "weather", "fail", "count", "wait", "picture", "remember", "environment", "attempt"]


@pytest.fixture(params=["http", "stdio"])
def sdk(request: pytest.FixtureRequest, sdk_url: str, programs: Programs) -> McpServer:
    return http_server(sdk_url) if request.param == "http" else stdio_server(programs.sdk())


async def call(connections: McpConnections, server: McpServer, tool: str, **arguments: Any) -> Any:
    return await connections.call(server, {}, tool, arguments, 20, silent)


async def test_lists_tools_with_their_schemas(connections: McpConnections, sdk: McpServer) -> None:
    tools = await connections.list_tools(sdk, {})
    assert [tool.name for tool in tools] == _SDK_TOOLS
    assert tools[0].description == "Adds two numbers."
    assert tools[0].parameters["required"] == ["a"]


async def test_results_of_all_kinds(connections: McpConnections, sdk: McpServer) -> None:
    assert (await call(connections, sdk, "add", a=1, b=2)).value == {"result": "3"}
    assert (await call(connections, sdk, "weather", city="Ulm")).value == {"city": "Ulm", "degrees": 21.5}
    picture = await call(connections, sdk, "picture")
    assert picture.value == [{"type": "image", "mimeType": "image/png", "base64_characters": 12}]
    failed = await call(connections, sdk, "fail", words="no")
    assert failed.is_error
    assert "fail" in failed.error_text
    unknown = await call(connections, sdk, "nonesuch")
    assert unknown.is_error
    assert "nonesuch" in unknown.error_text


async def test_progress_comes_as_it_is_made(connections: McpConnections, sdk: McpServer) -> None:
    told: list[str] = []

    async def tell(line: str) -> None:
        told.append(line)

    await connections.call(sdk, {}, "count", {"to": 3}, 20, tell)
    assert told == ["1/3 at 1", "2/3 at 2", "3/3 at 3"]


async def test_a_session_is_kept_and_shared(connections: McpConnections, sdk: McpServer) -> None:
    await asyncio.gather(*(call(connections, sdk, "add", a=number) for number in range(20)))
    first = await call(connections, sdk, "remember", note="one")
    second = await call(connections, sdk, "remember", note="two")
    assert second.value["result"] == f"{first.value['result']} two"
    assert connections.open_connections == 1


async def test_a_call_that_is_late_ends_and_the_next_goes_well(connections: McpConnections, sdk: McpServer) -> None:
    began = time.monotonic()
    with pytest.raises(McpTimedOut):
        await connections.call(sdk, {}, "wait", {"seconds": 60}, 0.5, silent)
    assert time.monotonic() - began < 5
    assert (await call(connections, sdk, "add", a=1)).value == {"result": "2"}


async def test_a_cancelled_call_takes_no_other_with_it(connections: McpConnections, sdk: McpServer) -> None:
    await call(connections, sdk, "add", a=1)
    patient = asyncio.create_task(call(connections, sdk, "wait", seconds=1.5))
    hasty = asyncio.create_task(call(connections, sdk, "wait", seconds=60))
    await asyncio.sleep(0.3)
    hasty.cancel()
    assert (await patient).value == {"result": "waited"}
    with pytest.raises(asyncio.CancelledError):
        await hasty


async def test_the_server_from_npm(connections: McpConnections, programs: Programs) -> None:
    server = stdio_server(programs.everything())
    names = {tool.name for tool in await connections.list_tools(server, {})}
    assert {"echo", "get-sum", "get-structured-content", "trigger-long-running-operation"} <= names
    assert (await call(connections, server, "echo", message="hi")).value == "Echo: hi"
    assert "5" in (await call(connections, server, "get-sum", a=2, b=3)).value
    structured = await call(connections, server, "get-structured-content", location="New York")
    assert set(structured.value) == {"temperature", "conditions", "humidity"}
    told: list[str] = []

    async def tell(line: str) -> None:
        told.append(line)

    await connections.call(server, {}, "trigger-long-running-operation", {"duration": 1, "steps": 2}, 20, tell)
    assert told[-1].startswith("2/2")


async def test_unused_connections_end(sdk: McpServer, scratch_root: Path, programs: Programs) -> None:
    made = McpConnections(settings(scratch_root, stdio=True, stdio_paths=(programs.folder,), idle_s=0.4))
    try:
        await call(made, sdk, "add", a=1)
        await until(lambda: made.open_connections == 0)
        assert (await call(made, sdk, "add", a=1)).value == {"result": "2"}
    finally:
        await made.stop()


async def test_there_are_only_so_many_connections(hostile: HostileServer, scratch_root: Path) -> None:
    made = McpConnections(settings(scratch_root, max_connections=2))
    try:
        held = [asyncio.create_task(call(made, http_server(f"{hostile.url}/hang"), "add", a=1)) for _ in range(2)]
        await asyncio.sleep(0.5)
        with pytest.raises(McpBusy):
            await call(made, http_server(f"{hostile.url}/good"), "add", a=1)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        # Places of unused ones become free for others.
        await asyncio.sleep(0.5)
        for _ in range(3):
            other = http_server(f"{hostile.url}/good")
            async with asyncio.timeout(10):
                while True:
                    try:
                        assert (await call(made, other, "add", a=1)).value == "good"
                        break
                    except McpBusy:
                        await asyncio.sleep(0.1)
    finally:
        await made.stop()


async def test_one_organization_leaves_room_for_others(hostile: HostileServer, scratch_root: Path) -> None:
    made = McpConnections(settings(scratch_root, max_connections=8))
    greedy = [http_server(f"{hostile.url}/hang") for _ in range(3)]
    greedy = [replace(server, organization_id=greedy[0].organization_id) for server in greedy]
    held = [asyncio.create_task(call(made, server, "add", a=1)) for server in greedy[:2]]
    try:
        await asyncio.sleep(0.5)
        with pytest.raises(McpBusy):
            await call(made, greedy[2], "add", a=1)
        assert (await call(made, http_server(f"{hostile.url}/good"), "add", a=1)).value == "good"
    finally:
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await made.stop()


async def test_secrets_travel_as_headers(connections: McpConnections, hostile: HostileServer) -> None:
    names = {"Authorization": "TOKEN", "X-Extra": "EXTRA"}
    server = http_server(f"{hostile.url}/good", header_secrets=names)
    assert (await connections.call(server, {"TOKEN": "abc", "EXTRA": "e f"}, "add", {}, 20, silent)).value == "good"
    assert {headers["Authorization"] for headers in hostile.headers} == {"Bearer abc"}
    assert {headers["X-Extra"] for headers in hostile.headers} == {"e f"}
    hostile.headers.clear()
    # Another value needs another connection.
    await connections.call(server, {"TOKEN": "Basic xyz", "EXTRA": "e"}, "add", {}, 20, silent)
    assert {headers["Authorization"] for headers in hostile.headers if headers.get("X-Extra") == "e"} == {"Basic xyz"}
    with pytest.raises(McpFailed, match="the secret EXTRA cannot be"):
        await connections.call(server, {"TOKEN": "abc", "EXTRA": "a\r\nHost: b"}, "add", {}, 20, silent)
