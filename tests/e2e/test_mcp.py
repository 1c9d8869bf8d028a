"""Agents use tools of MCP servers as any other, and the command looks after them."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from deploy.local import Stack
from hearth.tool.v1 import mcp_server_pb2, mcp_server_service_pb2, tool_service_pb2
from tests.e2e.test_command import hearth
from tests.fakes.mcp.sdk_process import serving_sdk
from tests.fakes.model_control import ThreadedModelServer
from tests.support.api import Api

_DICE = '''
import random
from dataclasses import dataclass

import hearth_client

SIDES = 6


@dataclass
class Roll:
    value: int
    sides: int


def unused() -> None:
    raise SystemExit


@hearth_client.tool(tags=["games"], timeout_s=5, memory_mib=128, allowed_hosts=["dice.example.com"])
def roll_dice(sides: int = SIDES) -> dict:
    """Rolls a die.

    Args:
        sides: How many sides it has.
    """
    print("rolling")
    roll = Roll(random.randint(1, sides), sides)
    return {"value": roll.value, "sides": roll.sides}


@hearth_client.tool
def always_one() -> int:
    """Cheats."""
    return 1


if __name__ == "__main__":
    print(roll_dice())
'''


@pytest.fixture(scope="module")
def sdk_url() -> Iterator[str]:
    with serving_sdk() as url:
        yield url


async def register(api: Api, url: str) -> str:
    """Registers and syncs a server; returns its name."""
    name = f"m{uuid.uuid4().hex[:8]}"
    request = mcp_server_service_pb2.CreateMcpServerRequest(mcp_server=mcp_server_pb2.McpServer(name=name, url=url))
    server = (await api.mcp_servers.CreateMcpServer(request, metadata=api.metadata, timeout=10)).mcp_server
    sync = mcp_server_service_pb2.SyncMcpServerRequest(mcp_server_id=server.id)
    synced = await api.mcp_servers.SyncMcpServer(sync, metadata=api.metadata, timeout=20)
    assert f"{name}_add" in synced.added
    return name


async def test_an_agent_calls_a_tool_of_an_mcp_server(api: Api, model: ThreadedModelServer, sdk_url: str) -> None:
    name = await register(api, sdk_url)
    tool = (await api.tools.GetTool(tool_service_pb2.GetToolRequest(name=f"{name}_add"), metadata=api.metadata)).tool
    tool.tags.append("sums")
    update = tool_service_pb2.UpdateToolRequest(tool=tool, update_mask=FieldMask(paths=["tags"]))
    await api.tools.UpdateTool(update, metadata=api.metadata)
    agent = await api.create_agent(tools=(f"{name}_add", f"{name}_fail"))
    mark = f"sum {uuid.uuid4().hex}"
    model.script(
        mark,
        {"tool_calls": [{"name": f"{name}_add", "arguments": {"a": 40, "b": 2}}]},
        {"tool_calls": [{"name": f"{name}_fail", "arguments": {"words": "no"}}]},
        {"text": "It is 42."},
    )

    turn = await api.ask(agent.id, f"What is the {mark}?")

    assert (turn.outcome, turn.answer) == ("run_succeeded", "It is 42.")
    started = [e.tool_call_started for e in turn.events if e.WhichOneof("payload") == "tool_call_started"]
    # A run records which version of a tool it called.
    assert [(one.tool_call.name, one.tool_version) for one in started] == [(f"{name}_add", 2), (f"{name}_fail", 1)]
    ended = [e.tool_call_completed for e in turn.events if e.WhichOneof("payload") == "tool_call_completed"]
    assert [one.outcome for one in ended] == [1, 2]
    requests = [request["body"] for request in model.requests(mark)]
    offered = {tool["function"]["name"]: tool["function"] for tool in requests[0]["tools"]}
    assert offered[f"{name}_add"]["description"] == "Adds two numbers."
    results = [message["content"] for message in requests[-1]["messages"] if message["role"] == "tool"]
    assert json.loads(results[0]) == {"result": "42"}
    assert "McpToolError" in results[1]


def test_mcp_servers_from_the_command_line(stack: Stack, sdk_url: str) -> None:
    name = f"c{uuid.uuid4().hex[:8]}"
    added = json.loads(hearth(stack, "mcp", "add", name, sdk_url, "--timeout", "5", "--json"))
    assert f"{name}_weather" in added["added"]
    assert name in hearth(stack, "mcp", "list")
    assert f"{name}_weather" in hearth(stack, "mcp", "show", name)
    shown = json.loads(hearth(stack, "mcp", "show", name, "--json"))
    assert (shown["url"], shown["timeout_ms"]) == (sdk_url, 5000)
    assert json.loads(hearth(stack, "mcp", "sync", name, "--json"))["added"] == []
    assert '"degrees": 21.5' in hearth(stack, "tool", "run", f"{name}_weather", "--args", '{"city": "Ulm"}', "--json")
    listed = json.loads(hearth(stack, "tool", "list", "--kind", "mcp", "--prefix", name, "--json"))
    assert {tool["kind"] for tool in listed} == {"TOOL_KIND_MCP"}
    assert "fail" in hearth(stack, "tool", "run", f"{name}_fail", "--args", '{"words": "no"}', code=1)
    hearth(stack, "mcp", "remove", name)
    assert f"no MCP server '{name}'" in hearth(stack, "mcp", "show", name, code=1)
    assert json.loads(hearth(stack, "tool", "list", "--prefix", name, "--json")) == []


def test_what_goes_wrong_with_mcp_servers_is_told(stack: Stack) -> None:
    name = f"w{uuid.uuid4().hex[:8]}"
    said = hearth(stack, "mcp", "add", name, "http://127.0.0.1:9/mcp", code=1)
    assert "MCP_SERVER_FAILED" in said
    assert "cannot be connected to" in hearth(stack, "mcp", "show", name)
    assert "HEARTH_MCP_STDIO" in hearth(stack, "mcp", "add", f"{name}x", "--", "/bin/true", code=1)
    said = hearth(stack, "mcp", "add", name, "https://example.org", "--header", "Authorization=abc", code=2)
    assert "secret:" in said
    hearth(stack, "mcp", "remove", name)


def test_decorated_functions_are_pushed_with_what_they_use(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "tools.py"
    file.write_text(_DICE)
    pushed = json.loads(hearth(stack, "tool", "push", str(file), "--json"))
    assert [one["tool"]["name"] for one in pushed] == ["roll_dice", "always_one"]
    dice = pushed[0]["tool"]
    assert (dice["tags"], dice["settings"]["timeout_ms"], dice["settings"]["memory_mib"]) == (["games"], 5000, 128)
    assert dice["settings"]["network"] == {"allowed_hosts": ["dice.example.com"]}
    assert "hearth_client" not in dice["source_code"]
    assert "unused" not in dice["source_code"]
    ran = json.loads(hearth(stack, "tool", "run", "roll_dice", "--args", '{"sides": 1}', "--json"))
    assert ran["value"] == {"value": 1, "sides": 1}
    hearth(stack, "tool", "push", str(file), "--function", "always_one", "--tag", "cheat", "--output", "4")
    versions = json.loads(hearth(stack, "tool", "versions", "always_one", "--json"))
    assert [one["tool"]["tags"] for one in versions] == [["cheat"], []]
    assert "4 KiB" in hearth(stack, "tool", "show", "always_one")
    assert "no top-level function 'nothing'" in hearth(
        stack, "tool", "push", str(file), "--function", "nothing", code=1
    )
    hearth(stack, "tool", "delete", "always_one")
    assert "no tool" in hearth(stack, "tool", "show", "always_one", code=1)
