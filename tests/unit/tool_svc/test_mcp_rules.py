"""What an MCP server may be called, offer and be reached at."""

import subprocess
import sys

import pytest

from chassis.errors import InvalidArgument
from tool_svc.domain.mcp_server import RemoteTool, content_of, tool_name
from tool_svc.domain.tool import ToolSettings


def test_names_are_what_models_accept_and_differ() -> None:
    assert tool_name("s", "add") == "s_add"
    assert tool_name("s", "get-sum.v2/é") == "s_get_sum_v2__"
    long, other = tool_name("s", "x" * 200), tool_name("s", "x" * 201)
    assert len(long) == len(other) == 64
    assert long != other


def test_what_a_server_says_becomes_a_tool() -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "x", "type": "object"}
    content = content_of(RemoteTool("do-it", "d" * 9000, schema, idempotent=True))
    assert content.parameters == {"type": "object", "properties": {}}
    assert (content.entry_point, len(content.description), content.source_code) == ("do-it", 4096, "")
    assert content.settings == ToolSettings(idempotent=True)
    assert content_of(RemoteTool("a", "", schema), ToolSettings(timeout_ms=5)).settings.timeout_ms == 5


def _deep() -> dict[str, object]:
    schema: dict[str, object] = {}
    for _ in range(5000):
        schema = {"not": schema}
    return {"type": "object", "properties": {"a": schema}}


@pytest.mark.parametrize(
    "remote",
    [
        RemoteTool("", "", {"type": "object"}),
        RemoteTool("a", "half \ud800", {"type": "object"}),
        RemoteTool("a", "", None),
        RemoteTool("a", "", [1]),
        RemoteTool("a", "", {}),
        RemoteTool("a", "", {"type": "object", "default": float("nan")}),
        RemoteTool("a", "", _deep()),
    ],
)
def test_what_cannot_be_a_tool_is_refused(remote: RemoteTool) -> None:
    with pytest.raises(InvalidArgument) as refused:
        content_of(remote)
    assert refused.value.reason == "TOOL_SCHEMA_INVALID"


def test_the_sdk_is_not_imported_before_it_is_needed() -> None:
    program = (
        "import sys, tool_svc.factory; print([name for name in ('mcp', 'mcp_types', 'httpx2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
