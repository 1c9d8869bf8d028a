"""Ids: sortable, reversible, and everything that is not one does not exist."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import ids
from chassis.errors import NotFound


@given(st.uuids())
def test_encode_and_decode_are_inverse(value: uuid.UUID) -> None:
    text = ids.encode("run", value)
    assert ids.decode("run", text) == value
    assert len(text) == len("run_") + 26


@given(st.text(max_size=64))
def test_what_is_no_id_is_not_found(text: str) -> None:
    with pytest.raises(NotFound, match="was not found") as raised:
        ids.decode("run", text)
    assert raised.value.reason == "RESOURCE_NOT_FOUND"


def test_new_ids_are_uuid7_and_grow() -> None:
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(value.version == 7 and value.variant == uuid.RFC_4122 for value in made)
    texts = [ids.encode("run", value) for value in made]
    assert texts == sorted(texts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run_",
        "agent_01m8335f5qe00azd7eabk8989k",
        "01m8335f5qe00azd7eabk8989k",
        "run_01m8335f5qe00azd7eabk8989",
        "run_01M8335F5QE00AZD7EABK8989K",
        "run_01m8335f5qe00azd7eabk8989u",
        "run_81m8335f5qe00azd7eabk8989k",
        "run_01m8335f5qe00azd7eabk8989k\n",
        "run_٠١m8335f5qe00azd7eabk8989k",
    ],
)
def test_malformed_ids_answer_as_absent_ones_do(text: str) -> None:
    with pytest.raises(NotFound) as raised:
        ids.decode("run", text)
    absent = ids.absent("run", ids.new())
    assert isinstance(absent, NotFound)
    assert (raised.value.reason, raised.value.code) == (absent.reason, absent.code)
    assert raised.value.message == f"run {text} was not found"


def test_absent_and_malformed_are_the_same_error_for_the_same_text() -> None:
    value = ids.new()
    text = ids.encode("agent", value)
    absent = ids.absent("agent", value)
    with pytest.raises(NotFound) as raised:
        ids.decode("agent", text + "x")
    assert isinstance(absent, NotFound)
    assert raised.value.message.replace(text + "x", text) == absent.message
    assert raised.value.metadata == {"resource": text + "x"}
    assert absent.metadata == {"resource": text}
