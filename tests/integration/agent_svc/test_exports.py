"""Agents that are exported and imported: nothing is lost, nothing is half there, nothing in a file is trusted."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chassis import ids
from chassis.errors import DomainError
from hearth.agent.v1 import agent_pb2, agent_service_pb2, conversation_service_pb2, run_service_pb2
from hearth.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from hearth.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.grpc_client import Client, refused
from tests.integration.agent_svc.replica import Replica, until

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def exported(client: Client, agent_id: str) -> bytes:
    request = agent_service_pb2.ExportAgentRequest(agent_id=agent_id)
    return b"".join(
        [part.data async for part in AgentServiceStub(client.channel).ExportAgent(request, metadata=client.md)]
    )


async def imported(client: Client, data: bytes, part_bytes: int = 1000, **options: Any) -> agent_pb2.Agent:
    async def parts() -> AsyncIterator[agent_service_pb2.ImportAgentRequest]:
        yield agent_service_pb2.ImportAgentRequest(data=data[:part_bytes], **options)
        for start in range(part_bytes, len(data), part_bytes):
            yield agent_service_pb2.ImportAgentRequest(data=data[start : start + part_bytes])

    return (await AgentServiceStub(client.channel).ImportAgent(parts(), metadata=client.md)).agent


async def agents_of(client: Client) -> list[str]:
    request = agent_service_pb2.ListAgentsRequest()
    return [one.name for one in (await AgentServiceStub(client.channel).ListAgents(request, metadata=client.md)).agents]


async def say(client: Client, conversation_id: str, text: str, **fields: Any) -> None:
    start = run_service_pb2.StartRunRequest(conversation_id=conversation_id, text=text, **fields)
    request = run_service_pb2.SendMessageRequest(start=start)
    async for _ in RunServiceStub(client.channel).SendMessage(request, metadata=client.md):
        pass


async def lived(client: Client, here: Replica, model: FakeModelServer) -> agent_pb2.Agent:
    """An agent with a tool, blocks, and two conversations, one with a tool call in it."""

    async def add(arguments: dict[str, Any]) -> str:
        return str(arguments["a"] + arguments["b"])

    here.tools.add("add", add)
    model.script("sum", Step(tool_calls=[ScriptedCall("add", {"a": 2, "b": 3}, id="c1")]), Step(text="It is 5."))
    agent = await client.agent(
        name="Ada's helper",
        description="Helps.",
        instructions="Be brief.",
        tools=["add"],
        tags=["x"],
        metadata={"team": "blue"},
        settings=agent_pb2.AgentSettings(max_steps=7, passive_recall=False),
        blocks=[agent_service_pb2.BlockSpec(label="human", value="Ada", description="Who", limit=100)],
    )
    await say(client, agent.default_conversation_id, "sum 2 and 3")
    request = conversation_service_pb2.CreateConversationRequest(agent_id=agent.id, display_name="Another")
    other = await ConversationServiceStub(client.channel).CreateConversation(request, metadata=client.md)
    await say(client, other.conversation.id, "Hello, naïve 🐕.")
    return agent


def file_of(*records: dict[str, Any], end: bool = True) -> bytes:
    lines = [{"type": "header", "format": 1}, *records]
    if end:
        lines.append({"type": "end", "records": len(lines)})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


AGENT: dict[str, Any] = {"type": "agent", "spec": {"name": "n"}}
TALK: dict[str, Any] = {"type": "conversation", "id": "c", "default": True}


def message(role: str = "user", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "message", "conversation": "c", "run": "r", "role": role, "text": "Hi"}
    return {**made, "create_time": "2026-01-02T03:04:05Z", **fields}


async def test_export_import_export_gives_the_same_in_another_organization(
    client: Client, foreigner: Client, here: Replica, model: FakeModelServer
) -> None:
    agent = await lived(client, here, model)
    first = await exported(client, agent.id)
    made = await imported(foreigner, first)
    assert made.organization_id != agent.organization_id
    assert (
        made.name,
        made.instructions,
        made.settings,
        made.default_conversation_id != agent.default_conversation_id,
    ) == (
        agent.name,
        agent.instructions,
        agent.settings,
        True,
    )
    assert await exported(foreigner, made.id) == first
    records = [json.loads(line) for line in first.splitlines()]
    assert [one["type"] for one in records] == [
        *("header", "tool", "block", "agent", "conversation"),
        *("message",) * 4,
        "conversation",
        *("message",) * 2,
        "end",
    ]
    assert not any(part in first.decode() for part in ("agent_", "conv_", "org_", "run_", "msg_", "user_"))
    texts = {record["text"] for record in records if record["type"] == "message" and record.get("text")} - {"5"}

    def found() -> bool:
        mine = {text for conversation_id, _, text in here.memory.indexed if conversation_id in conversations}
        return texts <= mine

    listed = conversation_service_pb2.ListConversationsRequest(agent_id=made.id)
    page = await ConversationServiceStub(foreigner.channel).ListConversations(listed, metadata=foreigner.md)
    conversations = {ids.decode("conv", one.id) for one in page.conversations}
    await until(found, 30.0)


async def test_an_imported_conversation_goes_on(
    client: Client, foreigner: Client, here: Replica, model: FakeModelServer
) -> None:
    agent = await lived(client, here, model)
    made = await imported(foreigner, await exported(client, agent.id), name="Twin")
    await say(foreigner, made.default_conversation_id, "And now?")
    sent = model.book.requests[-1].body["messages"]
    assert [one["role"] for one in sent] == ["system", "user", "assistant", "tool", "assistant", "user"]
    watch = run_service_pb2.WatchConversationRequest(conversation_id=made.default_conversation_id)
    seqs: list[int] = []
    call = RunServiceStub(foreigner.channel).WatchConversation(watch, metadata=foreigner.md)
    async for response in call:
        seqs += [frame.event.seq for frame in response.frames if frame.HasField("event")]
        if len(seqs) >= 9:
            break
    call.cancel()
    assert seqs == list(range(1, 10))


async def test_an_import_is_done_once_and_names_are_taken_once(client: Client, here: Replica) -> None:
    data = file_of(AGENT, TALK, message())
    request_id = str(uuid.uuid4())
    made = await imported(client, data, request_id=request_id)
    assert await imported(client, data, part_bytes=50, request_id=request_id) == made
    other = imported(client, file_of(AGENT, TALK, message(text="Ho")), request_id=request_id)
    assert (await refused(other)).reason == "REQUEST_ID_REUSED"
    assert (await refused(imported(client, data))).reason == "NAME_TAKEN"
    assert (await imported(client, data, name="m")).name == "m"
    assert await agents_of(client) == ["m", "n"]
    assert here.memory.blocks == {}


async def test_what_fails_in_the_middle_leaves_nothing_and_can_be_tried_again(client: Client, here: Replica) -> None:
    blocks = [{"type": "block", "label": label, "value": "v"} for label in ("one", "two")]
    tool = {"type": "tool", "id": "t", "name": "roll", "spec": {"name": "roll", "source_code": "# a"}}
    data = file_of(tool, *blocks, {**AGENT, "tools": ["t"]}, TALK, message())
    request_id = str(uuid.uuid4())
    here.memory.refused_labels.add("two")
    assert (await refused(imported(client, data, request_id=request_id))).code == "UNAVAILABLE"
    assert await agents_of(client) == []
    assert set(here.memory.blocks) == set(here.memory.forgotten)
    here.memory.refused_labels.clear()
    made = await imported(client, data, request_id=request_id)
    assert here.memory.blocks[ids.decode("agent", made.id)] == ["one", "two"]
    assert [tool.name for tool in here.tools.tools.values()] == ["roll"]


async def test_a_tool_of_the_same_name_is_refused_kept_or_replaced(client: Client, here: Replica) -> None:
    async def nothing(_: dict[str, object]) -> str:
        return ""

    tool_id = ids.encode("tool", here.tools.add("roll", nothing))
    tool = {"type": "tool", "id": "t", "name": "roll", "spec": {"name": "roll", "source_code": "# other"}}
    data = file_of(tool, {**AGENT, "tools": ["t"]}, TALK)
    assert (await refused(imported(client, data))).reason == "NAME_TAKEN"
    kept = await imported(client, data, name="keeps", tool_conflict=agent_service_pb2.TOOL_CONFLICT_KEEP)
    assert (list(kept.tool_ids), here.tools.specs) == ([tool_id], {})
    replaced = await imported(client, data, name="replaces", tool_conflict=agent_service_pb2.TOOL_CONFLICT_REPLACE)
    assert (list(replaced.tool_ids), here.tools.specs["roll"]["source_code"]) == ([tool_id], "# other")
    named = file_of({"type": "tool", "id": "t", "name": "absent"}, {**AGENT, "tools": ["t"]}, TALK)
    assert (await refused(imported(client, named))).reason == "RESOURCE_NOT_FOUND"


CALL = [{"id": "k", "name": "f", "arguments": "{}"}]
HOSTILE: list[tuple[bytes, int]] = [
    (b"", 1),
    (b"x\n", 1),
    (b"\xff\xfe\n", 1),
    (b"[" * 100_000 + b"\n", 1),
    (b'{"type":"header","format":2}\n', 1),
    (file_of(AGENT, TALK, end=False), 3),
    (file_of(AGENT, TALK)[:-1], 4),
    (file_of(AGENT, TALK).replace(b'"records": 3', b'"records": 4'), 4),
    (file_of(TALK), 3),
    (file_of(AGENT), 3),
    (file_of(AGENT, AGENT, TALK), 3),
    (file_of(AGENT, TALK, {**TALK, "id": "d"}), 5),
    (file_of({**AGENT, "tools": ["t"]}, TALK), 2),
    (file_of({**AGENT, "spec": {"name": 5}}, TALK), 2),
    (file_of({**AGENT, "spec": {"name": "n", "organization_id": "org_1"}}, TALK), 2),
    (file_of({**AGENT, "spec": {"name": "n", "block_ids": ["block_1"]}}, TALK), 2),
    (file_of({**AGENT, "spec": {"name": "n", "tools": ["tool_1"]}}, TALK), 2),
    (file_of({**AGENT, "spec": {"name": "n", "instructions": "a\0"}}, TALK), 2),
    (file_of({**AGENT, "evil": 1}, TALK), 2),
    (file_of(AGENT, {"type": "block", "label": "b", "value": "abc", "limit": 2}, TALK), 3),
    (file_of(AGENT, {"type": "block", "label": "Not Good"}, TALK), 3),
    (file_of(AGENT, TALK, message(conversation="d")), 4),
    (file_of(AGENT, TALK, message(text="a\0b")), 4),
    (file_of(AGENT, TALK, message(text=5)), 4),
    (file_of(AGENT, TALK, message(text="\ud800")), 4),
    (file_of(AGENT, TALK, message(text="x" * 3_000_000)), 4),
    (file_of(AGENT, TALK, message(role="god")), 4),
    (file_of(AGENT, TALK, message(create_time="0001-01-01T00:00:00+14:00")), 4),
    (file_of(AGENT, TALK, message(create_time="2026-01-01T00:00:00")), 4),
    (file_of(AGENT, TALK, message("tool", tool_call_id="k", tool_outcome="succeeded")), 4),
    (file_of(AGENT, TALK, message("tool")), 4),
    (file_of(AGENT, TALK, message(tool_calls=CALL)), 4),
    (file_of(AGENT, TALK, message("assistant", tool_calls=CALL * 2)), 4),
    (file_of(AGENT, TALK, message(images=[{"data": "AAAA"}])), 4),
    (file_of(AGENT, TALK, message(images=[{"url": "http://169.254.169.254/"}])), 4),
    (file_of({"type": "tool", "id": "t", "name": "f", "spec": {"evil": 1}}, {**AGENT, "tools": ["t"]}, TALK), 2),
]


async def test_a_hostile_file_is_refused_by_line_and_makes_nothing(client: Client, here: Replica) -> None:
    for data, line in HOSTILE:
        error: DomainError = await refused(imported(client, data, part_bytes=500_000))
        found = (error.code, error.reason, error.metadata.get("line"))
        assert found == ("INVALID_ARGUMENT", "EXPORT_INVALID", str(line)), (data[:300], error.message)
    assert (await agents_of(client), here.memory.blocks, here.tools.tools) == ([], {}, {})


async def test_a_file_that_is_too_large_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_svc.servicers.agent_servicer.MAX_FILE_BYTES", 10_000)
    error = await refused(imported(client, file_of(AGENT, TALK, message(text="x" * 20_000))))
    assert (error.code, error.field_violations[0].field) == ("INVALID_ARGUMENT", "data")


async def test_images_come_along(client: Client, foreigner: Client) -> None:
    data = file_of(AGENT, TALK, message(images=[{"media_type": "image/png", "data": PIXEL}]))
    made = await imported(client, data)
    again = await exported(client, made.id)
    assert json.loads(again.splitlines()[3])["images"] == [{"media_type": "image/png", "data": PIXEL}]
    theirs = agent_service_pb2.ExportAgentRequest(agent_id=made.id)
    stream = AgentServiceStub(foreigner.channel).ExportAgent(theirs, metadata=foreigner.md)
    assert (await refused(anext(aiter(stream)))).reason == "RESOURCE_NOT_FOUND"
