"""Edits of a block's value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import FailedPrecondition, OutOfRange
from memory_svc.domain.blocks import Append, Edit, Insert, Replace, Rethink, check_limit, difference, edited


@pytest.mark.parametrize(
    ("value", "edit", "after"),
    [
        ("", Append("a"), "a"),
        ("a", Append("b"), "a\nb"),
        ("a\n", Append("b"), "a\nb"),
        ("one two", Replace("two", "2"), "one 2"),
        ("one two", Replace(" two", ""), "one"),
        ("a.b", Replace(".", "*"), "a*b"),
        ("x", Replace("x", r"\1 \g<0>"), r"\1 \g<0>"),
        ("a\nb", Insert("x", 0), "x\na\nb"),
        ("a\nb", Insert("x", 1), "a\nx\nb"),
        ("a\nb", Insert("x", 2), "a\nb\nx"),
        ("a\nb", Insert("x", -1), "a\nb\nx"),
        ("", Insert("x", 0), "x"),
        ("", Insert("x", -1), "x"),
        ("a", Rethink(""), ""),
    ],
)
def test_edits(value: str, edit: Edit, after: str) -> None:
    assert edited(value, edit) == after


@pytest.mark.parametrize(
    ("value", "old", "matches"), [("abc", "x", "0"), ("a b a", "a", "2"), ("aaa", "aa", "2"), ("A", "a", "0")]
)
def test_what_is_replaced_occurs_exactly_once(value: str, old: str, matches: str) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        edited(value, Replace(old, "new"))
    assert refused.value.reason == "EDIT_MATCH_COUNT"
    assert refused.value.metadata == {"matches": matches}
    assert ("not found" if matches == "0" else f"occurs {matches} times") in refused.value.message


@pytest.mark.parametrize(("value", "line"), [("", 1), ("a", 2), ("a\nb", 3)])
def test_a_line_beyond_the_end(value: str, line: int) -> None:
    with pytest.raises(OutOfRange) as refused:
        edited(value, Insert("x", line))
    assert f"between 0 and {line - 1}" in refused.value.message


def test_the_limit_counts_characters() -> None:
    check_limit("äöü", 3)
    with pytest.raises(FailedPrecondition) as refused:
        check_limit("äöü!", 3)
    assert refused.value.metadata == {"limit": "3", "length": "4"}


def test_a_difference_shows_what_changed_only() -> None:
    assert difference("a\nb\nc\nd\ne", "a\nb\nc\nD\ne") == "@@ -3,3 +3,3 @@\n c\n-d\n+D\n e"
    assert difference("same", "same") == ""


@given(st.text(), st.text(min_size=1))
def test_appending_keeps_what_was_there(value: str, text: str) -> None:
    after = edited(value, Append(text))
    assert after.startswith(value)
    assert after.endswith(text)
