"""Messages: found at once, with their surroundings, and forgotten with their conversation or agent."""

import asyncio

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import DomainError
from hearth.memory.internal.v1 import recall_index_service_pb2 as index_pb
from hearth.memory.v1 import recall_memory_service_pb2 as pb
from hearth.memory.v1 import search_pb2
from tests.integration.memory_svc.service import Organization, new_id

TALK = [
    ("user", "Hi! I moved to Bergen last week."),
    ("assistant", "How do you like the rain there?"),
    ("user", "I bought a yellow umbrella, so all is well."),
    ("assistant", "Very wise."),
    ("user", "My sister Ida is going to visit me in June."),
    ("tool", "calendar: June is free"),
    ("assistant", "I have noted it: Ida comes in June."),
]


def message(
    organization: Organization, conversation: str, seq: int, role: str, text: str, day: int = 1
) -> pb.RecallMessage:
    moment = Timestamp()
    moment.FromJsonString(f"2026-03-{day:02}T12:00:{seq % 60:02}Z")
    return pb.RecallMessage(
        message_id=new_id("msg"),
        agent_id=organization.agent,
        conversation_id=conversation,
        seq=seq,
        role=role,
        text=text,
        create_time=moment,
    )


async def index(organization: Organization, *messages: pb.RecallMessage) -> None:
    await organization.service.index.IndexMessages(index_pb.IndexMessagesRequest(messages=messages))


async def talk(organization: Organization, day: int = 1) -> str:
    conversation = new_id("conv")
    lines = [message(organization, conversation, seq, *line, day) for seq, line in enumerate(TALK, start=1)]
    await index(organization, *lines)
    return conversation


async def search(organization: Organization, query: str, **fields: object) -> list[pb.MessageHit]:
    request = pb.SearchMessagesRequest(query=query, **fields)  # pyright: ignore[reportArgumentType]
    return list((await organization.viewer.recall.SearchMessages(request)).hits)


async def test_indexed_messages_are_found_at_once_by_meaning(organization: Organization) -> None:
    await talk(organization)
    hits = await search(organization, "which city did the person relocate to?")
    assert hits[0].message.text == TALK[0][1]


async def test_an_answer_is_found_by_its_question(organization: Organization) -> None:
    conversation = await talk(organization)
    hits: dict[int, pb.MessageHit] = {}
    for _ in range(100):
        found = await search(organization, "rain umbrella", conversation_id=conversation, explain=True)
        hits = {hit.message.seq: hit for hit in found}
        # Message 4 says neither word; its neighbour does, and the index has seen both.
        if 4 in hits and any(part.signal == "bm25_window" for part in hits[4].explanation.signals):
            break
        await asyncio.sleep(0.1)
    assert set(list(hits)[:2]) == {2, 3}
    lists = {part.signal for part in hits[4].explanation.signals if part.rank}
    assert lists == {"dense", "bm25_window"}


async def test_surroundings(organization: Organization) -> None:
    await talk(organization)
    [hit] = await search(organization, "yellow umbrella", top_k=1, context_before=1, context_after=2)
    assert hit.message.seq == 3
    assert [other.seq for other in hit.before] == [2]
    assert [other.seq for other in hit.after] == [4, 5]
    [first] = await search(organization, "moved to Bergen", top_k=1, context_before=5)
    assert [other.seq for other in first.before] == []


async def test_filters(organization: Organization) -> None:
    conversation, later = await talk(organization), await talk(organization, day=9)
    hits = await search(organization, "Ida in June", roles=["tool"], conversation_id=conversation)
    assert [hit.message.role for hit in hits] == ["tool"]
    both = await search(organization, "Ida in June", top_k=50)
    assert {hit.message.conversation_id for hit in both} == {conversation, later}
    bounds = search_pb2.TimeRange(**{"from": "2026-03-02", "to": "2026-03-09"})
    assert {hit.message.conversation_id for hit in await search(organization, "Ida", time_range=bounds)} == {later}
    assert not await search(organization, "Ida", agent_id=new_id("agent"))


async def test_indexing_twice_and_blank_messages(organization: Organization) -> None:
    conversation = new_id("conv")
    one = message(organization, conversation, 1, "user", "The samovar is broken.")
    blank = message(organization, conversation, 2, "assistant", "  ")
    for _ in range(3):
        await index(organization, one, blank)
    hits = await search(organization, "samovar", top_k=50)
    assert [hit.message.message_id for hit in hits] == [one.message_id]


async def test_another_organization_finds_nothing(organization: Organization, stranger: Organization) -> None:
    conversation = await talk(organization)
    for fields in ({}, {"agent_id": organization.agent}, {"conversation_id": conversation}):
        assert not await search(stranger, "yellow umbrella", **fields)


async def test_a_forgotten_conversation_stays_forgotten(organization: Organization) -> None:
    conversation, other = await talk(organization), await talk(organization)
    request = index_pb.ForgetConversationRequest(conversation_id=conversation)
    for _ in range(2):
        await organization.service.index.ForgetConversation(request)
    await index(organization, message(organization, conversation, 8, "user", "Too late: a green umbrella."))
    hits = await search(organization, "umbrella", top_k=50)
    assert {hit.message.conversation_id for hit in hits} == {other}


async def test_forgetting_while_messages_come_in_leaves_none(organization: Organization) -> None:
    conversation = new_id("conv")
    batches = [
        index(
            organization, *[message(organization, conversation, 10 * n + k, "user", f"Plum {n} {k}") for k in range(9)]
        )
        for n in range(12)
    ]
    forget = organization.service.index.ForgetConversation(
        index_pb.ForgetConversationRequest(conversation_id=conversation)
    )
    await asyncio.gather(*batches[:6], forget, *batches[6:])
    assert not await search(organization, "plum", top_k=50)


async def test_only_services_index(organization: Organization) -> None:
    request = index_pb.IndexMessagesRequest(messages=[message(organization, new_id("conv"), 1, "user", "x")])
    with pytest.raises(DomainError) as denied:
        await organization.member.index.IndexMessages(request)
    assert denied.value.code == "PERMISSION_DENIED"
    request.messages[0].role = "wizard"
    with pytest.raises(DomainError) as wrong:
        await organization.service.index.IndexMessages(request)
    assert wrong.value.field_violations[0].field == "messages[0].role"


async def test_a_blank_query(organization: Organization) -> None:
    with pytest.raises(DomainError) as blank:
        await search(organization, " \t ")
    assert blank.value.code == "INVALID_ARGUMENT"
