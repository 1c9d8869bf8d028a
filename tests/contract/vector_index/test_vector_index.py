"""What every VectorIndex does: one suite for the engine in the process and for the server adapter."""

import uuid
from datetime import UTC, datetime, timedelta

import numpy as np

from memory_svc.domain.passages import key_term, metadata_term
from memory_svc.domain.search import MemoryKind, NumberBounds, Scope, Signal
from memory_svc.interfaces.embedder import DenseVector, SparseVector
from memory_svc.interfaces.vector_index import IndexPoint, VectorIndex

OURS, THEIRS = uuid.uuid4(), uuid.uuid4()
AGENT, CONVERSATION = uuid.uuid4(), uuid.uuid4()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DIMENSIONS = 8


def toward(axis: int, lean: float = 0.0) -> DenseVector:
    """A unit vector along an axis, leaning to the last one."""
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[axis], vector[-1] = 1.0, lean
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def words(*numbers: int) -> SparseVector:
    return SparseVector(sorted(numbers), [1.0] * len(numbers))


def point(item: uuid.UUID, **fields: object) -> IndexPoint:
    given: dict[str, object] = {
        "organization_id": OURS,
        "kind": MemoryKind.PASSAGE,
        "item_id": item,
        "chunk": 0,
        "version": 1,
        "dense": toward(0),
        "lexical": words(1),
        "window": words(1, 2),
        "agent_id": AGENT,
        "time_ms": int(NOON.timestamp() * 1000),
    }
    return IndexPoint(**(given | fields))  # pyright: ignore[reportArgumentType]


def scope(**fields: object) -> Scope:
    return Scope(**({"organization_id": OURS, "kind": MemoryKind.PASSAGE} | fields))  # pyright: ignore[reportArgumentType]


async def nearest(index: VectorIndex, where: Scope | None = None, query: DenseVector | None = None) -> list[uuid.UUID]:
    """Items by meaning, best first."""
    asked = toward(0) if query is None else query
    found = (await index.search(where or scope(), {Signal.DENSE: asked}, 50))[Signal.DENSE]
    references = await index.resolve(found.keys())
    return [references[key].item_id for key in sorted(found, key=lambda key: -found[key])]


async def test_lists_are_ordered_by_their_own_scores(index: VectorIndex) -> None:
    near, far = uuid.uuid4(), uuid.uuid4()
    await index.upsert([point(near, dense=toward(0, 0.1), lexical=words(5)), point(far, dense=toward(0, 2.0))])
    assert await nearest(index) == [near, far]
    lists = await index.search(scope(), {Signal.LEXICAL: words(5), Signal.WINDOW: words(2)}, 50)
    assert next(iter((await index.resolve(lists[Signal.LEXICAL])).values())).item_id == near
    assert len(lists[Signal.WINDOW]) == 2


async def test_scores_are_cosines(index: VectorIndex) -> None:
    await index.upsert([point(uuid.uuid4(), dense=toward(0, 1.0))])
    [score] = (await index.search(scope(), {Signal.DENSE: toward(0)}, 5))[Signal.DENSE].values()
    assert abs(score - 2**-0.5) < 1e-3


async def test_a_query_without_words_finds_nothing(index: VectorIndex) -> None:
    await index.upsert([point(uuid.uuid4())])
    assert await index.search(scope(), {Signal.LEXICAL: SparseVector([], [])}, 5) == {Signal.LEXICAL: {}}


async def test_rarity_is_counted_within_the_organization(index: VectorIndex) -> None:
    # The word 1 is everywhere with us and rare with them; the word 2 the other way round.
    ours = [uuid.uuid4() for _ in range(20)]
    await index.upsert([point(item, lexical=words(1)) for item in ours[:18]])
    await index.upsert([point(item, lexical=words(2)) for item in ours[18:]])
    await index.upsert([point(uuid.uuid4(), organization_id=THEIRS, lexical=words(2)) for _ in range(40)])
    found = (await index.search(scope(), {Signal.LEXICAL: words(1, 2)}, 50))[Signal.LEXICAL]
    references = await index.resolve(found.keys())
    best = sorted(found, key=lambda key: -found[key])[:2]
    assert {references[key].item_id for key in best} == set(ours[18:])


async def test_an_organization_sees_its_own_only(index: VectorIndex) -> None:
    ours, theirs = uuid.uuid4(), uuid.uuid4()
    await index.upsert([point(ours), point(theirs, organization_id=THEIRS)])
    assert await nearest(index) == [ours]
    assert await nearest(index, scope(organization_id=THEIRS)) == [theirs]
    assert [one.reference.item_id for one in (await index.scan(OURS, None, 10))[0]] == [ours]
    await index.delete_item(OURS, theirs)
    assert await nearest(index, scope(organization_id=THEIRS)) == [theirs]


async def test_a_newer_version_stays(index: VectorIndex) -> None:
    item = uuid.uuid4()
    await index.upsert([point(item, version=2, dense=toward(1))])
    await index.upsert([point(item, version=1, dense=toward(0))])
    [reference] = (await index.resolve([point(item).point_id])).values()
    assert reference.version == 2
    await index.upsert([point(item, version=3, dense=toward(0))])
    [score] = (await index.search(scope(), {Signal.DENSE: toward(0)}, 5))[Signal.DENSE].values()
    assert score > 0.99


async def test_the_same_version_is_written_again(index: VectorIndex) -> None:
    item = uuid.uuid4()
    await index.upsert([point(item, dense=toward(1))])
    await index.upsert([point(item, dense=toward(0))])
    [score] = (await index.search(scope(), {Signal.DENSE: toward(0)}, 5))[Signal.DENSE].values()
    assert score > 0.99


async def test_many_versions_in_one_call(index: VectorIndex) -> None:
    items = [uuid.uuid4() for _ in range(6)]
    await index.upsert([point(item, version=number % 3 + 1) for number, item in enumerate(items)])
    assert set(await nearest(index)) == set(items)


async def test_windows_are_renewed_and_absent_points_ignored(index: VectorIndex) -> None:
    item = uuid.uuid4()
    await index.upsert([point(item)])
    await index.set_windows({point(item).point_id: words(9), uuid.uuid4(): words(9)})
    lists = await index.search(scope(), {Signal.WINDOW: words(9), Signal.LEXICAL: words(1)}, 5)
    assert [len(lists[signal]) for signal in (Signal.WINDOW, Signal.LEXICAL)] == [1, 1]
    assert await index.count() == 1


async def test_chunks_are_deleted_from_one_on(index: VectorIndex) -> None:
    item = uuid.uuid4()
    await index.upsert([point(item, chunk=chunk) for chunk in range(4)])
    await index.delete_item(OURS, item, first_chunk=1)
    assert await index.count() == 1
    await index.delete_item(OURS, item)
    await index.delete_item(OURS, item)
    assert await index.count() == 0


async def test_all_of_an_organization_is_deleted_and_nothing_of_others(index: VectorIndex) -> None:
    ours, theirs = [point(uuid.uuid4(), chunk=chunk) for chunk in range(3)], uuid.uuid4()
    await index.upsert([*ours, point(theirs, organization_id=THEIRS)])
    assert await index.delete_organization(OURS) == 3
    assert await index.delete_organization(OURS) == 0
    assert await index.count() == 1
    assert await nearest(index, scope(organization_id=THEIRS)) == [theirs]


async def test_points_are_deleted_by_id(index: VectorIndex) -> None:
    one, other = point(uuid.uuid4()), point(uuid.uuid4())
    await index.upsert([one, other])
    await index.delete_points([one.point_id, uuid.uuid4()])
    await index.delete_points([])
    assert await nearest(index) == [other.item_id]


async def test_a_scan_goes_over_everything_once(index: VectorIndex) -> None:
    items = {uuid.uuid4() for _ in range(25)}
    await index.upsert([point(item, version=4) for item in items])
    seen: list[uuid.UUID] = []
    after: uuid.UUID | None = None
    while True:
        points, after = await index.scan(OURS, after, 10)
        assert all(one.kind is MemoryKind.PASSAGE and one.reference.version == 4 for one in points)
        seen += [one.reference.item_id for one in points]
        if after is None:
            break
    assert len(seen) == 25
    assert set(seen) == items


async def test_filters(index: VectorIndex) -> None:
    plain, tagged, message = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    later = NOON + timedelta(days=1)
    tagged_point = point(
        tagged,
        tags=("a", "b"),
        metadata=(metadata_term("price", 3), key_term("price")),
        numbers={"price": 3.0},
        time_ms=int(later.timestamp() * 1000),
        agent_id=uuid.UUID(int=5),
    )
    said = point(message, kind=MemoryKind.MESSAGE, conversation_id=CONVERSATION, seq=7, role="user")
    await index.upsert([point(plain), tagged_point, said])
    both = {plain, tagged}
    messages: dict[str, object] = {"kind": MemoryKind.MESSAGE}
    cases: list[tuple[dict[str, object], set[uuid.UUID]]] = [
        ({}, both),
        ({"agent_id": uuid.UUID(int=5)}, {tagged}),
        ({"tags_any": ("b", "c")}, {tagged}),
        ({"tags_all": ("a", "b")}, {tagged}),
        ({"tags_all": ("a", "c")}, set()),
        ({"tags_none": ("a",)}, {plain}),
        ({"start_time": later}, {tagged}),
        ({"end_time": later}, {plain}),
        ({"metadata": (metadata_term("price", 3.0),)}, {tagged}),
        ({"metadata": (metadata_term("price", "3"),)}, set()),
        ({"metadata_any": ((metadata_term("price", 2), metadata_term("price", 3)),)}, {tagged}),
        ({"metadata_none": (key_term("price"),)}, {plain}),
        ({"metadata_numbers": (NumberBounds("price", at_least=3),)}, {tagged}),
        ({"metadata_numbers": (NumberBounds("price", above=3),)}, set()),
        (messages, {message}),
        (messages | {"roles": ("user", "tool")}, {message}),
        (messages | {"roles": ("assistant",)}, set()),
        (messages | {"conversation_id": CONVERSATION}, {message}),
        (messages | {"conversation_id": uuid.uuid4()}, set()),
        (messages | {"exclude_conversation_id": CONVERSATION, "exclude_from_seq": 7}, set()),
        (messages | {"exclude_conversation_id": CONVERSATION, "exclude_from_seq": 8}, {message}),
    ]
    for fields, expected in cases:
        assert set(await nearest(index, scope(**fields))) == expected, fields


async def test_what_does_not_hold_is_not_found(index: VectorIndex) -> None:
    always, once, soon, gone = (uuid.uuid4() for _ in range(4))
    at = int(NOON.timestamp() * 1000)
    await index.upsert(
        [
            point(always),
            point(once, valid_to_ms=at),
            point(soon, valid_from_ms=at + 1),
            point(gone, expire_ms=1_000),
        ]
    )
    assert set(await nearest(index, scope(valid_at=NOON))) == {always}
    assert set(await nearest(index, scope(valid_at=NOON - timedelta(hours=1)))) == {always, once}
    assert set(await nearest(index, scope(valid_at=NOON + timedelta(hours=1)))) == {always, soon}


async def test_opening_again_keeps_what_is_there(index: VectorIndex) -> None:
    await index.upsert([point(uuid.uuid4())])
    await index.flush()
    await index.open()
    assert await index.count() == 1


async def test_what_the_metadata_of_keys_may_hold_is_no_path(index: VectorIndex) -> None:
    item = uuid.uuid4()
    await index.upsert([point(item, numbers={'a.b["c"] ☃': 2.0})])
    assert await nearest(index, scope(metadata_numbers=(NumberBounds('a.b["c"] ☃', at_most=2),))) == [item]
    assert await nearest(index, scope(metadata_numbers=(NumberBounds("a", at_most=2),))) == []
