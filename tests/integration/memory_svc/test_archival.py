"""Passages: insert, find, change, forget."""

import asyncio
import time

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import DomainError
from hearth.memory.v1 import archival_memory_service_pb2 as pb
from hearth.memory.v1 import passage_pb2, search_pb2
from tests.integration.memory_svc.service import Organization, new_id, request_id

FACTS = [
    "Her cat is called Tolstoy and sleeps on the printer.",
    "The quarterly report is due on the third of March.",
    "She is allergic to peanuts and carries an injector.",
    "The staging server fails with ERR-48211-C37 after a restart.",
    "The staging server fails with ERR-48211-C38 after an upgrade.",
    "They met at a conference in Lisbon.",
]


async def insert(organization: Organization, *texts: str, **fields: object) -> pb.InsertPassagesResponse:
    specs = [pb.PassageSpec(text=text, **fields) for text in texts]  # pyright: ignore[reportArgumentType]
    return await organization.member.archival.InsertPassages(
        pb.InsertPassagesRequest(agent_id=organization.agent, passages=specs)
    )


async def find(organization: Organization, query: str, **fields: object) -> list[str]:
    request = pb.SearchPassagesRequest(query=query, agent_id=organization.agent, **fields)  # pyright: ignore[reportArgumentType]
    return [hit.passage.text for hit in (await organization.viewer.archival.SearchPassages(request)).hits]


async def test_a_paraphrase_is_found(organization: Organization) -> None:
    token = (await insert(organization, *FACTS)).consistency_token
    assert (await find(organization, "what is her pet's name?", consistency_token=token))[0] == FACTS[0]
    dense = search_pb2.SEARCH_MODE_DENSE
    assert (await find(organization, "food that makes her ill", consistency_token=token, mode=dense))[0] == FACTS[2]


async def test_what_was_inserted_is_found_at_once(organization: Organization) -> None:
    for place in range(10):
        token = (await insert(organization, f"The password hint number {place} is a kind of bird.")).consistency_token
        assert f"The password hint number {place} is a kind of bird." in await find(
            organization, f"password hint {place}", consistency_token=token, top_k=20
        )


async def test_without_a_token_what_is_not_indexed_yet_is_found_by_meaning(organization: Organization) -> None:
    await insert(organization, FACTS[2])
    assert await find(organization, "nut intolerance") == [FACTS[2]]


@pytest.mark.parametrize("mode", [search_pb2.SEARCH_MODE_HYBRID, search_pb2.SEARCH_MODE_LEXICAL])
async def test_identifiers_come_first(organization: Organization, mode: search_pb2.SearchMode) -> None:
    noise = [f"The staging server fails with ERR-48211-C{number} after a restart." for number in range(50, 90)]
    token = (await insert(organization, *FACTS, *noise)).consistency_token
    for code in ("C37", "C38", "C64"):
        query = f"what happened with ERR-48211-{code} on the staging server after a restart?"
        hits = await find(organization, query, consistency_token=token, mode=mode)
        assert f"ERR-48211-{code}" in hits[0]


async def test_exactly_top_k_results(organization: Organization) -> None:
    token = (await insert(organization, *[f"Note {n}: the weather was fine." for n in range(30)])).consistency_token
    for top_k in (1, 7, 25):
        assert len(await find(organization, "weather", top_k=top_k, consistency_token=token)) == top_k


async def test_another_organization_finds_nothing(organization: Organization, stranger: Organization) -> None:
    inserted = await insert(organization, *FACTS)
    for agent_id in ("", organization.agent):
        request = pb.SearchPassagesRequest(
            query="her cat Tolstoy", agent_id=agent_id, consistency_token=inserted.consistency_token
        )
        assert not (await stranger.member.archival.SearchPassages(request)).hits
    passage_id = inserted.passages[0].id
    with pytest.raises(DomainError) as foreign:
        await stranger.member.archival.GetPassage(pb.GetPassageRequest(passage_id=passage_id))
    with pytest.raises(DomainError) as absent:
        await organization.member.archival.GetPassage(pb.GetPassageRequest(passage_id=new_id("psg")))
    assert (foreign.value.code, foreign.value.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert foreign.value.message.replace(passage_id, "") == absent.value.message.replace(
        absent.value.metadata["resource"], ""
    )
    await stranger.member.archival.DeletePassage(pb.DeletePassageRequest(passage_id=passage_id))
    assert (await organization.member.archival.GetPassage(pb.GetPassageRequest(passage_id=passage_id))).passage.text


async def test_a_deleted_passage_is_never_returned(organization: Organization) -> None:
    inserted = await insert(organization, *FACTS)
    await find(organization, "cat", consistency_token=inserted.consistency_token)
    delete = pb.DeletePassageRequest(passage_id=inserted.passages[0].id)
    await organization.member.archival.DeletePassage(delete)
    for _ in range(5):
        assert FACTS[0] not in await find(organization, "her cat Tolstoy", top_k=20)
        await asyncio.sleep(0.05)
    await organization.member.archival.DeletePassage(delete)
    page = await organization.member.archival.ListPassages(pb.ListPassagesRequest(agent_id=organization.agent))
    assert FACTS[0] not in {passage.text for passage in page.passages}
    again = await insert(organization, FACTS[0])
    assert again.passages[0].id != inserted.passages[0].id
    assert FACTS[0] in await find(organization, "cat", consistency_token=again.consistency_token)


async def test_a_changed_passage_is_found_by_its_new_text_only(organization: Organization) -> None:
    inserted = await insert(organization, *FACTS)
    change = passage_pb2.Passage(
        id=inserted.passages[0].id, text="Her dog is called Rex.", etag=inserted.passages[0].etag
    )
    request = pb.UpdatePassageRequest(passage=change, update_mask=FieldMask(paths=["text"]))
    changed = (await organization.member.archival.UpdatePassage(request)).passage
    assert (changed.version, changed.text) == (2, "Her dog is called Rex.")
    for _ in range(10):
        hits = await find(organization, "what is her dog called?", top_k=20)
        assert hits[0] == "Her dog is called Rex."
        assert FACTS[0] not in hits
        await asyncio.sleep(0.02)
    with pytest.raises(DomainError) as stale:
        await organization.member.archival.UpdatePassage(request)
    assert (stale.value.code, stale.value.reason) == ("ABORTED", "ETAG_MISMATCH")


async def test_a_change_keeps_the_limits(organization: Organization) -> None:
    inserted = await insert(organization, "A note.")
    passage_id = inserted.passages[0].id
    for change, path in (
        (passage_pb2.Passage(id=passage_id, text=" "), "text"),
        (passage_pb2.Passage(id=passage_id, text="x" * 1_048_577), "text"),
        (passage_pb2.Passage(id=passage_id, tags=["a", "a"]), "tags"),
        (passage_pb2.Passage(id=passage_id, tags=[""]), "tags"),
        (passage_pb2.Passage(id=passage_id, tags=[str(n) for n in range(65)]), "tags"),
    ):
        request = pb.UpdatePassageRequest(passage=change, update_mask=FieldMask(paths=[path]))
        with pytest.raises(DomainError) as refused:
            await organization.member.archival.UpdatePassage(request)
        assert refused.value.field_violations[0].field == f"passage.{path}"


async def test_a_shortened_text_leaves_no_chunks_behind(organization: Organization) -> None:
    long = " ".join(f"Chapter {n} tells of the harbour of Valparaiso and its lighthouse keeper." for n in range(60))
    inserted = await insert(organization, long, "Unrelated: the boiler was repaired.")
    assert (await find(organization, "lighthouse keeper", consistency_token=inserted.consistency_token))[0] == long
    change = passage_pb2.Passage(id=inserted.passages[0].id, text="Nothing of the sort.")
    request = pb.UpdatePassageRequest(passage=change, update_mask=FieldMask(paths=["text"]))
    await organization.member.archival.UpdatePassage(request)
    hits = await find(organization, "Valparaiso lighthouse keeper", mode=search_pb2.SEARCH_MODE_LEXICAL)
    assert hits == []


async def test_exact_duplicates_are_stored_once(organization: Organization) -> None:
    first = await insert(organization, "The gate code is 4711.", "The gate code is 4711.")
    assert first.passages[0].id == first.passages[1].id
    second = await insert(organization, "New.", "  The gate code is 4711. ")
    assert second.passages[1].id == first.passages[0].id
    page = await organization.member.archival.ListPassages(pb.ListPassagesRequest(agent_id=organization.agent))
    assert len(page.passages) == 2


async def test_a_request_id_is_answered_once(organization: Organization) -> None:
    request = pb.InsertPassagesRequest(
        request_id=request_id(), agent_id=organization.agent, passages=[pb.PassageSpec(text="Once.")]
    )
    first = await organization.member.archival.InsertPassages(request)
    assert await organization.member.archival.InsertPassages(request) == first
    request.passages[0].text = "Twice."
    with pytest.raises(DomainError) as reused:
        await organization.member.archival.InsertPassages(request)
    assert (reused.value.code, reused.value.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")


async def test_all_or_none(organization: Organization) -> None:
    with pytest.raises(DomainError) as blank:
        await insert(organization, "Fine.", " \n ")
    assert blank.value.code == "INVALID_ARGUMENT"
    assert blank.value.field_violations[0].field == "passages[1].text"
    page = await organization.member.archival.ListPassages(pb.ListPassagesRequest(agent_id=organization.agent))
    assert not page.passages


async def test_filters(organization: Organization) -> None:
    metadata = Struct()
    metadata.update({"source": "mail", "year": 2026, "done": True})
    await insert(organization, "The tagged note about sailing.", tags=["a", "b"], metadata=metadata)
    token = (await insert(organization, "The other note about sailing.", tags=["b", "c"])).consistency_token

    async def found(**fields: object) -> set[str]:
        hits = await find(organization, "a note about sailing", consistency_token=token, **fields)
        return {hit.split()[1] for hit in hits}

    assert await found() == {"tagged", "other"}
    assert await found(tags=search_pb2.TagFilter(any=["a", "x"])) == {"tagged"}
    assert await found(tags=search_pb2.TagFilter(all=["b", "c"])) == {"other"}
    assert await found(tags=search_pb2.TagFilter(none=["c"])) == {"tagged"}
    equals = Struct()
    equals.update({"year": 2026, "done": True})
    assert await found(metadata=search_pb2.MetadataFilter(equals=equals)) == {"tagged"}
    equals.update({"year": 2025})
    assert await found(metadata=search_pb2.MetadataFilter(equals=equals)) == set()
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert await found(time_range=search_pb2.TimeRange(**{"from": today, "to": today})) == {"tagged", "other"}
    assert await found(time_range=search_pb2.TimeRange(to="2020-01-01")) == set()


async def test_validity_and_expiry(organization: Organization) -> None:
    def at(seconds: float) -> Timestamp:
        moment = Timestamp()
        moment.FromMilliseconds(int((time.time() + seconds) * 1000))
        return moment

    await insert(organization, "The old address is 1 Elm Street.", valid_to_time=at(-3600))
    token = (await insert(organization, "The address is 2 Oak Street.", valid_from_time=at(-3600))).consistency_token
    query = "which address?"
    assert await find(organization, query, consistency_token=token) == ["The address is 2 Oak Street."]
    assert await find(organization, query, valid_at_time=at(-7200)) == ["The old address is 1 Elm Street."]
    token = (await insert(organization, "The address of today is a tent.", expire_time=at(1.5))).consistency_token
    assert "The address of today is a tent." in await find(organization, query, consistency_token=token)
    await asyncio.sleep(1.6)
    assert "The address of today is a tent." not in await find(organization, query)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"query": "   "}, "query"),
        ({"query": "x", "consistency_token": "nonsense"}, "consistency_token"),
        ({"query": "x", "time_range": search_pb2.TimeRange(to="yesterday")}, "time_range.to"),
        ({"query": "x", "top_k": 201}, "top_k"),
    ],
)
async def test_bad_searches(organization: Organization, fields: dict[str, object], field: str) -> None:
    request = pb.SearchPassagesRequest(**fields)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DomainError) as refused:
        await organization.member.archival.SearchPassages(request)
    assert refused.value.code == "INVALID_ARGUMENT"
    assert refused.value.field_violations[0].field == field


async def test_pages(organization: Organization) -> None:
    inserted = await insert(organization, *[f"Page note {n}" for n in range(12)])
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListPassagesRequest(agent_id=organization.agent, page_size=5, page_token=token)
        page = await organization.viewer.archival.ListPassages(request)
        seen += [passage.id for passage in page.passages]
        token = page.next_page_token
        if not token:
            break
    assert seen == [passage.id for passage in reversed(inserted.passages)]


async def test_explanations_add_up(organization: Organization) -> None:
    token = (await insert(organization, *FACTS)).consistency_token
    request = pb.SearchPassagesRequest(query="her cat", explain=True, consistency_token=token)
    answer = await organization.viewer.archival.SearchPassages(request)
    for hit in answer.hits:
        parts = hit.explanation.signals
        assert {part.signal for part in parts} <= {"dense", "bm25", "bm25_window", "identifier"}
        assert sum(part.contribution for part in parts) == pytest.approx(hit.score)


async def test_a_viewer_cannot_write(organization: Organization) -> None:
    with pytest.raises(DomainError) as denied:
        await organization.viewer.archival.InsertPassages(
            pb.InsertPassagesRequest(agent_id=organization.agent, passages=[pb.PassageSpec(text="x")])
        )
    assert (denied.value.code, denied.value.reason) == ("PERMISSION_DENIED", "ROLE_INSUFFICIENT")
