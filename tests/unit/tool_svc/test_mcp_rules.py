"""What an MCP server may be called, offer and be reached at."""

import ipaddress
import subprocess
import sys

import pytest

from chassis.errors import InvalidArgument
from tool_svc.domain.addresses import may_be_reached
from tool_svc.domain.mcp_server import RemoteTool, content_of, tool_name
from tool_svc.domain.tool import ToolSettings


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("::127.0.0.1", False),
        ("64:ff9b::169.254.169.254", False),
        ("2002:7f00:1::", False),
        ("2001:0:0:0:0:0:80ff:fffe", False),  # Teredo: the client 127.0.0.1, its bits inverted
    ],
)
def test_only_public_addresses_may_be_reached(address: str, public: bool) -> None:
    assert may_be_reached(ipaddress.ip_address(address), ()) is public


def test_the_operator_may_allow_networks() -> None:
    allowed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd12::/32"))
    for address, may in (("10.1.2.3", True), ("10.2.0.1", False), ("::ffff:10.1.2.3", True), ("fd12::1", True)):
        assert may_be_reached(ipaddress.ip_address(address), allowed) is may


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
