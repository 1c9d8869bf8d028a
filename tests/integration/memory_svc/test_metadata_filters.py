"""Conditions on metadata mean the same before a passage is indexed, when it is, and when the index is down."""

import pytest
from google.protobuf.struct_pb2 import Struct, Value

from chassis.errors import DomainError
from hearth.memory.v1 import archival_memory_service_pb2 as pb
from hearth.memory.v1 import search_pb2
from tests.integration.memory_svc.service import Organization, is_error

NOTES = {
    "cheap": {"price": 3, "shop.name": "Ida's"},
    "dear": {"price": 30.5, "shop.name": "Olaf's", "gift": True},
    "text": {"price": "3"},
    "bare": {},
}


def condition(key: str, **one: object) -> search_pb2.MetadataCondition:
    return search_pb2.MetadataCondition(key=key, **one)  # pyright: ignore[reportArgumentType]


def above(key: str, **bounds: float) -> search_pb2.MetadataCondition:
    return condition(key, number=search_pb2.NumberRange(**bounds))


def any_of(key: str, *values: str | float | bool) -> search_pb2.MetadataCondition:
    return condition(key, any_of=search_pb2.ValueList(values=[_value(value) for value in values]))


def _value(value: str | float | bool) -> Value:
    if isinstance(value, str):
        return Value(string_value=value)
    return Value(bool_value=value) if isinstance(value, bool) else Value(number_value=value)


CASES = [
    ([above("price", min=3)], {"cheap", "dear"}),
    ([above("price", above=3)], {"dear"}),
    ([above("price", max=3)], {"cheap"}),
    ([above("price", below=3)], set[str]()),
    ([above("price", min=1, below=30.5)], {"cheap"}),
    ([any_of("price", 3, 4)], {"cheap"}),
    ([any_of("price", "3", 30.5)], {"text", "dear"}),
    ([any_of("shop.name", "Olaf's"), any_of("gift", True)], {"dear"}),
    ([any_of("gift", False)], set[str]()),
    ([condition("shop.name", exists=True)], {"cheap", "dear"}),
    ([condition("price", exists=False)], {"bare"}),
    ([condition("price", exists=True), condition("gift", exists=False)], {"cheap", "text"}),
]


async def write(organization: Organization) -> str:
    specs: list[pb.PassageSpec] = []
    for name, values in NOTES.items():
        metadata = Struct()
        metadata.update(values)
        specs.append(pb.PassageSpec(text=f"The note {name}.", metadata=metadata))
    request = pb.InsertPassagesRequest(agent_id=organization.agent, passages=specs)
    return (await organization.member.archival.InsertPassages(request)).consistency_token


async def found(organization: Organization, conditions: list[search_pb2.MetadataCondition], token: str) -> set[str]:
    request = pb.SearchPassagesRequest(
        query="note",
        agent_id=organization.agent,
        metadata=search_pb2.MetadataFilter(conditions=conditions),
        consistency_token=token,
    )
    hits = (await organization.viewer.archival.SearchPassages(request)).hits
    return {hit.passage.text.removeprefix("The note ").removesuffix(".") for hit in hits}


@pytest.mark.parametrize("indexed", [False, True])
async def test_conditions(organization: Organization, indexed: bool) -> None:
    token = await write(organization)
    for conditions, expected in CASES:
        assert await found(organization, conditions, token if indexed else "") == expected, conditions


@pytest.mark.parametrize(
    "wrong",
    [
        condition("price"),
        condition("price", number=search_pb2.NumberRange()),
        above("price", min=float("nan")),
        condition("price", any_of=search_pb2.ValueList()),
        condition("price", any_of=search_pb2.ValueList(values=[Value(null_value=0)])),  # pyright: ignore[reportArgumentType]
        condition("", exists=True),
    ],
)
async def test_what_is_no_condition_is_refused(organization: Organization, wrong: search_pb2.MetadataCondition) -> None:
    with pytest.raises(DomainError) as refused:
        await found(organization, [wrong], "")
    assert is_error(refused.value, "INVALID_ARGUMENT", "VALIDATION_FAILED")
