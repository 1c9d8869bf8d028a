"""ToolService over gRPC, against a real PostgreSQL."""

import asyncio
import uuid
from typing import Any

import psycopg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis import ids
from chassis.errors import (
    Aborted,
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from hearth.tool.v1 import tool_pb2
from hearth.tool.v1 import tool_service_pb2 as pb
from tests.integration.tool_svc.service import ADD, Caller, Organization, plain, spec
from tests.support.databases import FreshDatabase


async def test_create_reads_name_description_and_schema_from_the_source(organization: Organization) -> None:
    tool = await organization.member.create()
    assert tool.name == "add"
    assert tool.description == "Adds two numbers."
    assert tool.kind == tool_pb2.TOOL_KIND_PYTHON
    assert tool.version == 1
    assert tool.organization_id == ids.encode("org", organization.id)
    assert plain(tool.parameters) == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "The first."},
            "b": {"type": "integer", "description": "The second.", "default": 1},
        },
        "required": ["a"],
        "additionalProperties": False,
    }
    by_id = await organization.viewer.tools.GetTool(pb.GetToolRequest(tool_id=tool.id))
    by_name = await organization.viewer.tools.GetTool(pb.GetToolRequest(name="add"))
    assert by_id.tool == by_name.tool == tool


async def test_a_name_is_taken_once_and_free_after_deletion(organization: Organization) -> None:
    first = await organization.member.create()
    with pytest.raises(AlreadyExists) as taken:
        await organization.member.create()
    assert taken.value.reason == "NAME_TAKEN"
    for _ in range(2):
        await organization.member.tools.DeleteTool(pb.DeleteToolRequest(tool_id=first.id))
    assert (await organization.member.create()).id != first.id
    with pytest.raises(NotFound):
        await organization.member.tools.GetTool(pb.GetToolRequest(tool_id=first.id))


async def test_a_repeated_request_is_answered_as_before(organization: Organization) -> None:
    request = pb.CreateToolRequest(request_id=str(uuid.uuid4()), tool=spec())
    first = await organization.member.tools.CreateTool(request)
    assert await organization.member.tools.CreateTool(request) == first
    request.tool.description = "another"
    with pytest.raises(InvalidArgument) as reused:
        await organization.member.tools.CreateTool(request)
    assert reused.value.reason == "REQUEST_ID_REUSED"


async def test_a_hundred_upserts_at_once_make_one_tool_and_a_version_each(organization: Organization) -> None:
    async def upsert(number: int) -> pb.UpsertToolResponse:
        request = pb.UpsertToolRequest(tool=spec(description=f"number {number}"))
        return await organization.member.tools.UpsertTool(request)

    answers = await asyncio.gather(*(upsert(number) for number in range(100)))
    assert len({answer.tool.id for answer in answers}) == 1
    assert [answer.created for answer in answers].count(True) == 1
    assert sorted(answer.tool.version for answer in answers) == list(range(1, 101))
    by_version = {answer.tool.version: answer.tool for answer in answers}
    listed = await _versions(organization.member, answers[0].tool.id, page_size=30)
    assert [version.tool.version for version in listed] == list(range(100, 0, -1))
    assert all(version.tool == _as_version(by_version[version.tool.version], version.tool) for version in listed)


def _as_version(tool: tool_pb2.Tool, stored: tool_pb2.Tool) -> tool_pb2.Tool:
    """The answer of an upsert is the version that it made; create_time aside it is what is listed later."""
    expected = tool_pb2.Tool()
    expected.CopyFrom(tool)
    expected.create_time.CopyFrom(stored.create_time)
    return expected


async def _versions(caller: Caller, tool_id: str, page_size: int) -> list[tool_pb2.ToolVersion]:
    found: list[tool_pb2.ToolVersion] = []
    request = pb.ListToolVersionsRequest(tool_id=tool_id, page_size=page_size)
    while True:
        answer = await caller.tools.ListToolVersions(request)
        found += answer.tool_versions
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found


async def test_an_upsert_that_changes_nothing_makes_no_version(organization: Organization) -> None:
    request = pb.UpsertToolRequest(tool=spec(tags=["x"], settings=tool_pb2.ToolSettings(timeout_ms=5)))
    first = await organization.member.tools.UpsertTool(request)
    second = await organization.member.tools.UpsertTool(request)
    assert (first.created, second.created) == (True, False)
    assert second.tool == first.tool


async def test_update_changes_what_the_mask_names_and_keeps_the_versions(organization: Organization) -> None:
    tool = await organization.member.create(tags=["old"])
    source = "def add(x: str) -> str:\n    return x\n"
    changed = tool_pb2.Tool(id=tool.id, etag=tool.etag, source_code=source, tags=["ignored"])
    mask = FieldMask(paths=["source_code"])
    answer = await organization.service.tools.UpdateTool(pb.UpdateToolRequest(tool=changed, update_mask=mask))
    assert answer.tool.version == 2
    assert answer.tool.tags == ["old"]
    assert list(plain(answer.tool.parameters)["properties"]) == ["x"]
    assert answer.tool.etag != tool.etag
    with pytest.raises(Aborted) as stale:
        await organization.member.tools.UpdateTool(pb.UpdateToolRequest(tool=changed, update_mask=mask))
    assert stale.value.reason == "ETAG_MISMATCH"
    newest, oldest = await _versions(organization.viewer, tool.id, page_size=1)
    assert newest.tool.source_code == source
    assert newest.author == "user_of_a_test"
    assert oldest.tool.source_code == ADD
    assert oldest.author == organization.member.identity.subject


async def test_an_update_may_give_back_what_is_read_from_the_source(organization: Organization) -> None:
    given = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tool = await organization.member.create(parameters=given, description="given")
    assert (plain(tool.parameters), tool.description) == (given, "given")
    mask = FieldMask(paths=["parameters", "description"])
    request = pb.UpdateToolRequest(tool=tool_pb2.Tool(id=tool.id), update_mask=mask)
    answer = await organization.member.tools.UpdateTool(request)
    assert answer.tool.description == "Adds two numbers."
    assert "b" in plain(answer.tool.parameters)["properties"]


async def test_update_is_held_to_the_rules_of_create(organization: Organization) -> None:
    tool = await organization.member.create()
    wrong = (
        (tool_pb2.Tool(id=tool.id, source_code="def"), "source_code", "TOOL_SOURCE_INVALID"),
        (tool_pb2.Tool(id=tool.id, source_code=""), "source_code", "VALIDATION_FAILED"),
        (tool_pb2.Tool(id=tool.id, name="x"), "name", "UPDATE_MASK_INVALID"),
        (tool_pb2.Tool(id=tool.id, tags=["", ""]), "tags", "VALIDATION_FAILED"),
    )
    for changed, path, reason in wrong:
        request = pb.UpdateToolRequest(tool=changed, update_mask=FieldMask(paths=[path]))
        with pytest.raises(InvalidArgument) as refused:
            await organization.member.tools.UpdateTool(request)
        assert refused.value.reason == reason
    assert (await organization.member.tools.GetTool(pb.GetToolRequest(tool_id=tool.id))).tool == tool


async def test_lists_are_by_name_filtered_and_paged(organization: Organization) -> None:
    made = [await organization.member.create(name=name, tags=tags) for name, tags in (
        ("b_two", ["x"]), ("a_one", ["x", "y"]), ("b_one", ["y"]), ("B_upper", []),
    )]  # fmt: skip

    async def names(**query: Any) -> list[str]:
        answer = await organization.viewer.tools.ListTools(pb.ListToolsRequest(**query))
        return [tool.name for tool in answer.tools]

    assert await names() == ["B_upper", "a_one", "b_one", "b_two"]
    assert await names(name_prefix="b_") == ["b_one", "b_two"]
    assert await names(name_prefix="%") == []
    assert await names(tags=["x", "y"]) == ["a_one"]
    assert await names(kind=tool_pb2.TOOL_KIND_MCP) == []
    assert await names(tool_ids=[made[0].id, "tool_nonsense", ids.encode("tool", ids.new())]) == ["b_two"]
    request = pb.ListToolsRequest(page_size=3)
    first = await organization.viewer.tools.ListTools(request)
    request.page_token = first.next_page_token
    second = await organization.viewer.tools.ListTools(request)
    assert [tool.name for tool in [*first.tools, *second.tools]] == ["B_upper", "a_one", "b_one", "b_two"]
    assert second.next_page_token == ""
    request.name_prefix = "b"
    with pytest.raises(InvalidArgument) as foreign:
        await organization.viewer.tools.ListTools(request)
    assert foreign.value.reason == "PAGE_TOKEN_INVALID"


async def test_a_page_of_large_sources_fits_a_message(organization: Organization) -> None:
    padding = "# " + "x" * 250_000
    for number in range(20):
        await organization.member.create(f"def tool_{number:02}(): pass\n{padding}")
    found: list[str] = []
    request = pb.ListToolsRequest(page_size=200)
    pages = 0
    while pages == 0 or request.page_token:
        answer = await organization.viewer.tools.ListTools(request)
        found += [tool.name for tool in answer.tools]
        request.page_token = answer.next_page_token
        pages += 1
    assert found == [f"tool_{number:02}" for number in range(20)]
    assert 1 < pages < 5


async def test_another_organizations_tool_is_byte_for_byte_absent(
    organization: Organization, stranger: Organization
) -> None:
    tool = await organization.member.create()
    absent = ids.encode("tool", ids.new())

    async def answers(tool_id: str) -> list[tuple[str, str, str, dict[str, str]]]:
        calls = (
            stranger.member.tools.GetTool(pb.GetToolRequest(tool_id=tool_id)),
            stranger.member.tools.DeleteTool(pb.DeleteToolRequest(tool_id=tool_id)),
            stranger.member.tools.ListToolVersions(pb.ListToolVersionsRequest(tool_id=tool_id)),
            stranger.member.tools.UpdateTool(
                pb.UpdateToolRequest(tool=tool_pb2.Tool(id=tool_id, tags=["t"]), update_mask=FieldMask(paths=["tags"]))
            ),
        )
        found: list[tuple[str, str, str, dict[str, str]]] = []
        for call in calls:
            with pytest.raises(NotFound) as missing:
                await call
            error = missing.value
            metadata = {
                key: value.replace(tool_id, "ID") for key, value in error.metadata.items() if key != "request_id"
            }
            found.append((error.code, error.reason, error.message.replace(tool_id, "ID"), metadata))
        return found

    assert await answers(tool.id) == await answers(absent) == await answers("nonsense")
    with pytest.raises(NotFound):
        await stranger.member.tools.GetTool(pb.GetToolRequest(name="add"))
    assert (await stranger.member.tools.ListTools(pb.ListToolsRequest())).tools == []
    assert (await stranger.member.tools.UpsertTool(pb.UpsertToolRequest(tool=spec()))).created
    assert (await organization.member.tools.GetTool(pb.GetToolRequest(tool_id=tool.id))).tool == tool


async def test_the_database_itself_refuses(organization: Organization, tool_database: FreshDatabase) -> None:
    await organization.member.create()
    with psycopg.connect(tool_database.url, autocommit=True) as connection:
        for table in ("tools", "tool_versions"):
            for tenant in ("", str(ids.new())):
                connection.execute("SELECT set_config('hearth.organization_id', %s, false)", (tenant,))
                assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)
        connection.execute("SELECT set_config('hearth.organization_id', %s, false)", (str(ids.new()),))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "INSERT INTO tool_versions SELECT gen_random_uuid(), 1, %s, '', '', '', '{}', '{}', '{}', '', now()",
                (organization.id,),
            )
    with psycopg.connect(tool_database.superuser_url) as connection:
        forced = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relname IN ('tools', 'tool_versions', 'request_ids')"
            " AND relrowsecurity AND relforcerowsecurity"
        ).fetchone()
    assert forced == (3,)


async def test_roles_reach_as_far_as_the_api_says(organization: Organization) -> None:
    with pytest.raises(PermissionDenied):
        await organization.viewer.create()
    assert (await organization.service.create()).name == "add"


@pytest.mark.parametrize(
    ("source", "fields", "reason"),
    [
        ("def f(:", {}, "TOOL_SOURCE_INVALID"),
        ("x = 1", {}, "TOOL_SOURCE_INVALID"),
        ("def f(a): pass", {}, "TOOL_SOURCE_INVALID"),
        ("def f(a: str): pass\0", {}, "TOOL_SOURCE_INVALID"),
        ("(" * 100_000, {}, "TOOL_SOURCE_INVALID"),
        ("def f(a: str = '\\x00'): pass", {}, "TOOL_SOURCE_INVALID"),
        ("def f(a: str = '\\ud800'): pass", {}, "TOOL_SOURCE_INVALID"),
        ("def f():\n    '\\ud800'", {}, "TOOL_SOURCE_INVALID"),
        ("def f(a: str): pass", {"name": "no spaces"}, "VALIDATION_FAILED"),
        ("def f(a: str): pass", {"description": "x\0"}, "VALIDATION_FAILED"),
        ("", {}, "VALIDATION_FAILED"),
        ("#" * 262_145, {}, "VALIDATION_FAILED"),
        ("def f(a: str): pass", {"parameters": {"type": "array"}}, "TOOL_SCHEMA_INVALID"),
        ("def f(a: str): pass", {"parameters": {"type": "object", "properties": 1}}, "TOOL_SCHEMA_INVALID"),
        ("def f(a: str): pass", {"parameters": {"type": "object", "properties": {"b": {}}}}, "TOOL_SCHEMA_INVALID"),
        (
            "def f(a: str): pass",
            {"parameters": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}},
            "TOOL_SCHEMA_INVALID",
        ),
    ],
)
async def test_bad_input_is_named(
    source: str, fields: dict[str, object], reason: str, organization: Organization
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await organization.member.create(source, **fields)
    assert refused.value.reason == reason


async def test_derive_stores_nothing_and_names_the_place(organization: Organization) -> None:
    request = pb.DeriveToolSchemaRequest(source_code=ADD)
    answer = await organization.viewer.tools.DeriveToolSchema(request)
    assert (answer.name, answer.description) == ("add", "Adds two numbers.")
    assert (await organization.viewer.tools.ListTools(pb.ListToolsRequest())).tools == []
    request.source_code = "import os\n\ndef f(a: str, b: os.PathLike): pass"
    with pytest.raises(InvalidArgument) as refused:
        await organization.viewer.tools.DeriveToolSchema(request)
    assert refused.value.reason == "TOOL_SOURCE_INVALID"
    assert refused.value.metadata["line"] == "3"
    assert refused.value.metadata["column"] == "18"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "http://example.com",
        "example.com/x",
        "*",
        "*.*.example.com",
        "EXAMPLE.com",
        "example.com:0",
        "a..b",
        "[x]",
        "example.com:65536",
        "[:::]",
    ],
)
async def test_what_is_no_host_is_refused(host: str, organization: Organization) -> None:
    settings = tool_pb2.ToolSettings(network=tool_pb2.NetworkPolicy(allowed_hosts=[host]))
    with pytest.raises(InvalidArgument):
        await organization.member.create(settings=settings)


async def test_no_error_is_internal_for_hostile_text(organization: Organization) -> None:
    hostile = ("'; DROP TABLE tools; --", "\u202e\u0007", "x" * 64, "\ufffd\U0010ffff", "../../etc", "%_\\")
    for text in hostile:
        for call in (
            organization.viewer.tools.GetTool(pb.GetToolRequest(name=text)),
            organization.viewer.tools.ListTools(pb.ListToolsRequest(name_prefix=text, tags=[text])),
            organization.viewer.tools.ListTools(pb.ListToolsRequest(page_token=text)),
            organization.viewer.tools.DeriveToolSchema(pb.DeriveToolSchemaRequest(source_code=text)),
        ):
            answer = (await asyncio.gather(call, return_exceptions=True))[0]
            assert getattr(answer, "code", "OK") in ("OK", "NOT_FOUND", "INVALID_ARGUMENT"), answer
