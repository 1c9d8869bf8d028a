"""McpServerService and tools of MCP servers over gRPC: synced into the organization, versioned, called."""

import asyncio
import base64
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import psycopg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis import ids
from chassis.channels import open_channel
from chassis.errors import (
    Aborted,
    AlreadyExists,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from hearth.tool.v1 import mcp_server_pb2, tool_pb2
from hearth.tool.v1 import mcp_server_service_pb2 as pb
from hearth.tool.v1 import secret_service_pb2 as secret_pb
from hearth.tool.v1 import tool_execution_service_pb2 as execution_pb
from hearth.tool.v1 import tool_service_pb2 as tools_pb
from tests.fakes.mcp.hostile_server import HostileServer
from tests.integration.tool_svc.conftest import MIGRATIONS
from tests.integration.tool_svc.mcp.reachable import Programs
from tests.integration.tool_svc.service import Caller, Organization, ToolProcess, plain, spec, struct
from tests.support.databases import Databases, FreshDatabase
from tests.support.issuer import Issuer

HTTP = mcp_server_pb2.MCP_TRANSPORT_STREAMABLE_HTTP
STDIO = mcp_server_pb2.MCP_TRANSPORT_STDIO


@pytest.fixture(scope="module")
def database(databases: Databases) -> FreshDatabase:
    return databases.fresh(MIGRATIONS)


@pytest.fixture(scope="module")
def mcp_service(
    database: FreshDatabase,
    issuer: Issuer,
    tmp_path_factory: pytest.TempPathFactory,
    sandbox_dir: Path,
    programs: Programs,
) -> Iterator[ToolProcess]:
    """A tool_svc that may reach this host, and start processes."""
    running = ToolProcess(database.url, issuer, tmp_path_factory.mktemp("tool_svc"), sandbox_dir / "mcp")
    running.environment |= {
        "HEARTH_MCP_ALLOWED_NETWORKS": "127.0.0.0/8",
        "HEARTH_MCP_STDIO": "true",
        "HEARTH_MCP_STDIO_PATHS": str(programs.folder),
        "HEARTH_MCP_MAX_SERVERS": "5",
    }
    running.start()
    yield running
    assert running.stop() == 0
    assert "did not stop well" not in running.log.read_text()


@pytest.fixture
async def channel(mcp_service: ToolProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(mcp_service.address) as opened:
        yield opened


async def register(caller: Caller, name: str = "test", **fields: Any) -> mcp_server_pb2.McpServer:
    request = pb.CreateMcpServerRequest(mcp_server=mcp_server_pb2.McpServer(name=name, **fields))
    return (await caller.mcp_servers.CreateMcpServer(request)).mcp_server


async def sync(caller: Caller, server: mcp_server_pb2.McpServer) -> pb.SyncMcpServerResponse:
    return await caller.mcp_servers.SyncMcpServer(pb.SyncMcpServerRequest(mcp_server_id=server.id))


async def put_secret(organization: Organization, name: str, value: str) -> None:
    await organization.admin.secrets.SetSecret(secret_pb.SetSecretRequest(name=name, value=value))


async def named(caller: Caller, name: str) -> tool_pb2.Tool:
    return (await caller.tools.GetTool(tools_pb.GetToolRequest(name=name))).tool


async def run(caller: Caller, name: str, **arguments: Any) -> Any:
    return await caller.executed(execution_pb.ExecuteToolRequest(name=name, arguments=struct(arguments)))


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_tools_are_synced_and_called(
    transport: str, organization: Organization, sdk_url: str, programs: Programs
) -> None:
    where: dict[str, Any] = {"url": sdk_url} if transport == "http" else {"command": programs.sdk()}
    server = await register(organization.admin, **where)
    assert (server.transport, server.HasField("sync_time")) == (HTTP if transport == "http" else STDIO, False)
    synced = await sync(organization.member, server)
    assert "test_add" in synced.added
    assert (len(synced.added), synced.updated, synced.removed, synced.refused) == (9, [], [], [])
    assert synced.mcp_server.HasField("sync_time")

    tool = await named(organization.viewer, "test_add")
    assert (tool.kind, tool.version, tool.source_code) == (tool_pb2.TOOL_KIND_MCP, 1, "")
    assert tool.description == "Adds two numbers."
    assert plain(tool.parameters)["required"] == ["a"]
    listed = await organization.viewer.tools.ListTools(tools_pb.ListToolsRequest(kind=tool_pb2.TOOL_KIND_MCP))
    assert [one.name for one in listed.tools] == sorted(synced.added)

    added = await run(organization.member, "test_add", a=1, b=2)
    assert (added.result.state, added.value) == (execution_pb.TOOL_EXECUTION_STATE_SUCCEEDED, {"result": "3"})
    assert (added.result.tool_version, added.result.text) == (1, '{"result":"3"}')
    counted = await run(organization.member, "test_count", to=2)
    assert counted.output == "1/2 at 1\n2/2 at 2\n"
    failed = await run(organization.member, "test_fail", words="no")
    assert failed.result.state == execution_pb.TOOL_EXECUTION_STATE_FAILED
    assert failed.result.error.type == "McpToolError"
    with pytest.raises(InvalidArgument) as refused:
        await run(organization.member, "test_add", a="one")
    assert refused.value.reason == "TOOL_ARGUMENTS_INVALID"


async def test_changes_of_the_server_are_versions(organization: Organization, hostile: HostileServer) -> None:
    def tool(name: str, **properties: Any) -> dict[str, Any]:
        return {"name": name, "description": "d", "inputSchema": {"type": "object", "properties": properties}}

    server = await register(organization.admin, url=f"{hostile.url}/listing")
    hostile.tools = [tool("a", x={"type": "integer"}), tool("b")]
    assert (await sync(organization.member, server)).added == ["test_a", "test_b"]
    settings = tool_pb2.ToolSettings(requires_approval=True, return_limit=10)
    update = tools_pb.UpdateToolRequest(tool=await named(organization.member, "test_a"))
    update.tool.settings.CopyFrom(settings)
    update.tool.tags.append("mine")
    update.update_mask.paths.extend(["settings", "tags"])
    assert (await organization.member.tools.UpdateTool(update)).tool.version == 2

    unchanged = await sync(organization.member, server)
    assert (unchanged.added, unchanged.updated, unchanged.removed) == ([], [], [])
    hostile.tools = [tool("a", x={"type": "string"}), tool("c")]
    changed = await sync(organization.member, server)
    assert (changed.added, changed.updated, changed.removed) == (["test_c"], ["test_a"], ["test_b"])
    now = await named(organization.member, "test_a")
    assert (now.version, now.settings, list(now.tags)) == (3, settings, ["mine"])
    assert plain(now.parameters)["properties"] == {"x": {"type": "string"}}
    listing = tools_pb.ListToolVersionsRequest(tool_id=now.id)
    versions = (await organization.member.tools.ListToolVersions(listing)).tool_versions
    assert [plain(one.tool.parameters)["properties"]["x"]["type"] for one in versions] == [
        "string",
        "integer",
        "integer",
    ]
    # A call can name the version, and is checked against its schema.
    request = execution_pb.ExecuteToolRequest(name="test_a", version=1, arguments=struct({"x": 1}))
    assert (await organization.member.executed(request)).result.tool_version == 1
    with pytest.raises(NotFound):
        await named(organization.member, "test_b")


async def test_what_cannot_be_a_tool_is_refused_and_the_rest_taken(
    organization: Organization, hostile: HostileServer
) -> None:
    good: dict[str, Any] = {"type": "object"}
    await organization.member.create("def test_taken(): pass")
    hostile.tools = [
        {"name": "good", "inputSchema": good},
        {"name": "good", "inputSchema": good},
        {"name": "with-a.strange/name", "inputSchema": {"$schema": "http://json-schema.org/draft-07/schema#", **good}},
        {"name": "n" * 100, "inputSchema": good},
        {"name": "list", "inputSchema": {"type": "object", "properties": {"a": {"type": "array"}}}},
        {"name": "", "inputSchema": good},
        {"name": 5, "inputSchema": good},
        "no tool",
        {"name": "none"},
        {"name": "array", "inputSchema": {"type": "array"}},
        {"name": "wrong", "inputSchema": {"type": "object", "properties": {"a": {"type": "strin"}}}},
        {"name": "huge", "inputSchema": {"type": "object", "description": "x" * 70_000}},
        {"name": "far", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/x"}}}},
        {"name": "nul\0", "inputSchema": good},
        {"name": "nul", "description": "\0", "inputSchema": good},
        {"name": "taken", "inputSchema": good},
        {"name": "long", "description": "d" * 10_000, "inputSchema": good},
    ]
    synced = await sync(organization.member, await register(organization.admin, url=f"{hostile.url}/listing"))
    assert synced.added[:2] == ["test_good", "test_with_a_strange_name"]
    assert synced.added[2].startswith("test_nnn")
    assert len(synced.added[2]) == 64
    assert synced.added[3:] == ["test_list", "test_long"]
    problems = {refusal.name: refusal.problem for refusal in synced.refused}
    assert len(synced.refused) == len(hostile.tools) - len(synced.added)
    assert "another tool of this server" in problems["good"]
    assert "not this server's" in problems["taken"]
    assert "at most 65536 bytes" in problems["huge"]
    assert "leaves the schema" in problems["far"]
    assert len((await named(organization.member, "test_long")).description) == 4096
    # By its long or strange name it is called at the server as the server calls it.
    assert (await run(organization.member, synced.added[2])).value == "good"


async def test_a_failed_sync_says_why_and_changes_nothing(organization: Organization, hostile: HostileServer) -> None:
    server = await register(organization.admin, url=f"{hostile.url}/listing")
    await sync(organization.member, server)
    request = pb.UpdateMcpServerRequest(mcp_server=server, update_mask=FieldMask(paths=["url"]))
    request.mcp_server.url = f"{hostile.url}/no_list"
    changed = (await organization.admin.mcp_servers.UpdateMcpServer(request)).mcp_server
    assert changed.etag != server.etag
    with pytest.raises(FailedPrecondition) as failed:
        await sync(organization.member, server)
    assert failed.value.reason == "MCP_SERVER_FAILED"
    assert "its list of tools is none" in failed.value.message
    stored = await organization.viewer.mcp_servers.GetMcpServer(pb.GetMcpServerRequest(mcp_server_id=server.id))
    assert "its list of tools is none" in stored.mcp_server.sync_error
    assert stored.mcp_server.HasField("sync_time")
    assert (await named(organization.member, "test_add")).version == 1
    with pytest.raises(Aborted) as stale:
        await organization.admin.mcp_servers.UpdateMcpServer(request)
    assert stale.value.reason == "ETAG_MISMATCH"


async def test_a_server_goes_with_its_tools(organization: Organization, hostile: HostileServer) -> None:
    server = await register(organization.admin, url=f"{hostile.url}/listing")
    await sync(organization.member, server)
    await run(organization.member, "test_add", a=1)
    for _ in range(2):
        await organization.admin.mcp_servers.DeleteMcpServer(pb.DeleteMcpServerRequest(mcp_server_id=server.id))
    for call in (named(organization.member, "test_add"), sync(organization.member, server)):
        with pytest.raises(NotFound):
            await call
    # The name is free again.
    await sync(organization.member, await register(organization.admin, url=f"{hostile.url}/listing"))
    assert (await named(organization.member, "test_add")).version == 1


async def test_syncs_at_once_make_one_tool_each(organization: Organization, hostile: HostileServer) -> None:
    server = await register(organization.admin, url=f"{hostile.url}/listing")
    answers = await asyncio.gather(*(sync(organization.member, server) for _ in range(8)))
    assert sorted(len(answer.added) for answer in answers) == [0] * 7 + [1]
    assert (await named(organization.member, "test_add")).version == 1


async def test_a_tool_of_a_server_is_its_server_s(organization: Organization, hostile: HostileServer) -> None:
    await sync(organization.member, await register(organization.admin, url=f"{hostile.url}/listing"))
    tool = await named(organization.member, "test_add")
    for path in ("description", "source_code", "parameters"):
        changed = tool_pb2.Tool(id=tool.id, description="d", source_code="def f(): pass")
        request = tools_pb.UpdateToolRequest(tool=changed, update_mask=FieldMask(paths=[path]))
        with pytest.raises(InvalidArgument) as refused:
            await organization.member.tools.UpdateTool(request)
        assert refused.value.reason == "UPDATE_MASK_INVALID"
    upsert = tools_pb.UpsertToolRequest(tool=spec("def test_add(): pass"))
    with pytest.raises(AlreadyExists):
        await organization.member.tools.UpsertTool(upsert)
    assert await named(organization.member, "test_add") == tool


async def test_a_late_server_and_a_dying_one(organization: Organization, hostile: HostileServer) -> None:
    server = await register(organization.admin, "late", url=f"{hostile.url}/hang", timeout_ms=500)
    dying = await register(organization.admin, "dying", url=f"{hostile.url}/die")
    for one in (server, dying):
        await sync(organization.member, one)
    late = await run(organization.member, "late_add", a=1)
    assert late.result.state == execution_pb.TOOL_EXECUTION_STATE_TIMED_OUT
    died = await run(organization.member, "dying_add", a=1)
    assert (died.result.state, died.result.error.type) == (
        execution_pb.TOOL_EXECUTION_STATE_FAILED,
        "McpConnectionLost",
    )
    call = organization.member.begin(await named(organization.member, "late_add"))
    call.cancel()


async def test_results_beyond_the_limits(organization: Organization, hostile: HostileServer) -> None:
    await sync(organization.member, await register(organization.admin, url=f"{hostile.url}/large"))
    large = await run(organization.member, "test_add", a=1)
    assert large.result.error.type == "ResultSizeLimitExceeded"
    await sync(organization.member, await register(organization.admin, "flood", url=f"{hostile.url}/progress_flood"))
    flooded = await run(organization.member, "flood_add", a=1)
    assert flooded.result.output_truncated
    assert len(flooded.output) < 70_000


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"url": "ftp://example.org"},
        {"url": "http://"},
        {"url": "http://user:word@example.org"},
        {"url": "http://example.org/#part"},
        {"url": "http://example.org:99999"},
        {"url": "http://exa mple.org"},
        {"url": "https://example.org", "command": ["/bin/true"]},
        {"url": "https://example.org", "secrets": ["A"]},
        {"url": "https://example.org", "header_secrets": {"Host": "A"}},
        {"url": "https://example.org", "header_secrets": {"Mcp-Session-Id": "A"}},
        {"url": "https://example.org", "header_secrets": {"A B": "A"}},
        {"url": "https://example.org", "header_secrets": {"A": "lower"}},
        {"url": "https://example.org", "transport": 9},
        {"url": "https://example.org", "timeout_ms": 600_001},
        {"url": "https://example.org", "name": "no-dash"},
        {"transport": STDIO},
        {"command": ["/bin/true"], "header_secrets": {"A": "A"}},
        {"command": ["/bin/true\0"]},
        {"command": ["x"] * 65},
    ],
)
async def test_bad_servers_are_refused(fields: dict[str, Any], organization: Organization) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await register(organization.admin, **fields)
    assert refused.value.reason == "VALIDATION_FAILED"
    assert refused.value.field_violations


async def test_names_pages_and_quota(organization: Organization) -> None:
    made = [await register(organization.admin, f"s{n}", url="https://example.org/mcp") for n in range(5)]
    with pytest.raises(ResourceExhausted) as full:
        await register(organization.admin, "s6", url="https://example.org/mcp")
    assert full.value.reason == "QUOTA_EXCEEDED"
    await organization.admin.mcp_servers.DeleteMcpServer(pb.DeleteMcpServerRequest(mcp_server_id=made[4].id))
    with pytest.raises(AlreadyExists):
        await register(organization.admin, "s0", url="https://example.org/mcp")
    request = pb.ListMcpServersRequest(page_size=3)
    first = await organization.viewer.mcp_servers.ListMcpServers(request)
    request.page_token = first.next_page_token
    second = await organization.viewer.mcp_servers.ListMcpServers(request)
    assert [one.name for one in (*first.mcp_servers, *second.mcp_servers)] == ["s0", "s1", "s2", "s3"]
    create = pb.CreateMcpServerRequest(request_id=str(uuid.uuid4()))
    create.mcp_server.name, create.mcp_server.url = "again", "https://example.org"
    answers = [await organization.admin.mcp_servers.CreateMcpServer(create) for _ in range(2)]
    assert answers[0] == answers[1]


async def test_roles_and_strangers(organization: Organization, stranger: Organization) -> None:
    with pytest.raises(PermissionDenied):
        await register(organization.member, url="https://example.org")
    server = await register(organization.admin, url="https://example.org")
    absent = ids.encode("mcp", ids.new())

    async def answers(server_id: str) -> list[str]:
        update = pb.UpdateMcpServerRequest(update_mask=FieldMask(paths=["timeout_ms"]))
        update.mcp_server.id = server_id
        update.mcp_server.url = "https://example.org"
        found: list[str] = []
        for call in (
            stranger.admin.mcp_servers.GetMcpServer(pb.GetMcpServerRequest(mcp_server_id=server_id)),
            stranger.admin.mcp_servers.UpdateMcpServer(update),
            stranger.admin.mcp_servers.DeleteMcpServer(pb.DeleteMcpServerRequest(mcp_server_id=server_id)),
            stranger.admin.mcp_servers.SyncMcpServer(pb.SyncMcpServerRequest(mcp_server_id=server_id)),
        ):
            with pytest.raises(NotFound) as missing:
                await call
            found.append(missing.value.message.replace(server_id, "ID"))
        return found

    assert await answers(server.id) == await answers(absent)
    assert (await stranger.admin.mcp_servers.ListMcpServers(pb.ListMcpServersRequest())).mcp_servers == []


async def test_secrets_that_are_not_set_are_named(organization: Organization) -> None:
    server = await register(organization.admin, url="https://example.org", header_secrets={"Authorization": "TOKEN"})
    with pytest.raises(FailedPrecondition, match="the secret TOKEN is not set"):
        await sync(organization.member, server)


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_secrets_that_a_server_tells_are_masked(
    transport: str, organization: Organization, sdk_url: str, programs: Programs
) -> None:
    # A header can hold no more than ASCII, an environment any text.
    value = "sesame-47-alles" if transport == "http" else "sesame-47-\u00fcber/alles"
    await put_secret(organization, "TOKEN", value)
    where: dict[str, Any] = (
        {"url": sdk_url, "header_secrets": {"X-Token": "TOKEN"}}
        if transport == "http"
        else {"command": programs.sdk(), "secrets": ["TOKEN"]}
    )
    await sync(organization.member, await register(organization.admin, **where))

    async def seen(name: str, **arguments: Any) -> str:
        done = await run(organization.member, name, **arguments)
        text = f"{done.result}{done.value}{done.output}"
        for form in (value, base64.b64encode(value.encode()).decode(), value.encode().hex()):
            assert form not in text
        assert "[secret TOKEN]" in text, text
        return done.output

    # In text, in structured values, in encodings and in progress.
    await seen("test_attempt", source=repr(f"the token is {value}!"))
    await seen("test_attempt", source=f"{value!r}.encode().hex()")
    await seen("test_attempt", source=f"__import__('base64').b64encode({value!r}.encode())")
    await seen("test_weather", city=value)
    assert await seen("test_count", to=2, saying=value) == "1/2 [secret TOKEN] 1\n2/2 [secret TOKEN] 2\n"
    if transport == "stdio":
        await seen("test_environment")
    else:
        # The same server without the secret says it as it is: it is the mask that takes it away.
        other = await register(organization.admin, "open", url=sdk_url)
        await sync(organization.member, other)
        assert value in (await run(organization.member, "open_attempt", source=repr(value))).result.text


async def test_secrets_in_what_a_server_says_of_itself_are_masked(
    organization: Organization, hostile: HostileServer
) -> None:
    value = "sesame-47-alles"
    await put_secret(organization, "TOKEN", value)
    property_ = {"type": "string", "description": f"as in {value}", "default": value}
    schema = {"type": "object", "properties": {"key": property_}}
    hostile.tools = [
        {"name": "good", "description": f"Use {value}.", "inputSchema": schema},
        {"name": f"bad-{value}", "inputSchema": {"type": "object", "properties": {"a": {"type": value}}}},
    ]
    fields: dict[str, Any] = {"url": f"{hostile.url}/listing", "header_secrets": {"X-Token": "TOKEN"}}
    synced = await sync(organization.member, await register(organization.admin, **fields))
    assert value in {headers.get("X-Token") for headers in hostile.headers}
    assert (synced.added, [one.name for one in synced.refused]) == (["test_good"], ["bad-[secret TOKEN]"])
    tool = await named(organization.member, "test_good")
    assert tool.description == "Use [secret TOKEN]."
    assert plain(tool.parameters)["properties"]["key"]["default"] == "[secret TOKEN]"
    assert value not in f"{tool}{synced}"
    fields["url"] = f"{hostile.url}/tells_its_token"
    await sync(organization.member, await register(organization.admin, "telling", **fields))
    told = await run(organization.member, "telling_good", key="k")
    assert told.result.error.message == "cannot sign in with [secret TOKEN]"
    # What it says when it refuses is told to the caller and kept at the server.
    fields["url"] = f"{hostile.url}/refuses_by_token"
    server = await register(organization.admin, "refusing", **fields)
    with pytest.raises(FailedPrecondition, match=r"no such token: \[secret TOKEN\]"):
        await sync(organization.member, server)
    stored = await organization.viewer.mcp_servers.GetMcpServer(pb.GetMcpServerRequest(mcp_server_id=server.id))
    assert "[secret TOKEN]" in stored.mcp_server.sync_error
    assert value not in stored.mcp_server.sync_error


async def test_the_database_itself_refuses(organization: Organization, database: FreshDatabase) -> None:
    await register(organization.admin, url="https://example.org")
    with psycopg.connect(database.url, autocommit=True) as connection:
        for tenant in ("", str(ids.new())):
            connection.execute("SELECT set_config('hearth.organization_id', %s, false)", (tenant,))
            assert connection.execute("SELECT count(*) FROM mcp_servers").fetchone() == (0,)


async def test_stdio_is_off_unless_allowed(own_service: ToolProcess, issuer: Issuer, hostile: HostileServer) -> None:
    own_service.start()
    async with open_channel(own_service.address) as channel:
        admin = Organization(channel, issuer).admin
        with pytest.raises(FailedPrecondition) as refused:
            await register(admin, command=["/bin/true"])
        assert refused.value.reason == "MCP_TRANSPORT_DISABLED"
        server = await register(admin, url=f"{hostile.url}/good")
        with pytest.raises(DomainError, match="has no public address"):
            await sync(admin, server)
        assert hostile.headers == []


async def test_a_killed_service_takes_its_servers_along(
    own_service: ToolProcess, issuer: Issuer, programs: Programs
) -> None:
    own_service.environment |= {"HEARTH_MCP_STDIO": "true", "HEARTH_MCP_STDIO_PATHS": str(programs.folder)}
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization = Organization(channel, issuer)
        server = await register(organization.admin, command=programs.hostile("deaf"))
        await sync(organization.member, server)
    command = [str(programs.folder / "hostile_stdio.py"), "deaf"]
    (process,) = [one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [])[-2:] == command]
    own_service.stop(signal.SIGKILL)
    process.wait(timeout=5)
