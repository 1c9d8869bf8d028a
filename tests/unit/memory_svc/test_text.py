"""Chunks, windows, identifiers, times."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidArgument
from memory_svc.domain.chunking import chunks, window
from memory_svc.domain.consistency import consistency_position, consistency_token
from memory_svc.domain.lexical_text import for_ranking, identifier_share, identifiers
from memory_svc.domain.passages import content_hash, metadata_terms
from memory_svc.domain.times import end_of, start_of


@given(st.text(max_size=3000), st.integers(min_value=1, max_value=900))
def test_chunks_are_the_text(text: str, limit: int) -> None:
    pieces = chunks(text, limit)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces) or pieces == [""]


def test_chunks_end_at_sentences() -> None:
    text = "The first sentence is here. " * 60
    assert all(piece.endswith("here. ") for piece in chunks(text)[:-1])


def test_a_window_takes_the_nearest_and_one_on_each_side_at_least() -> None:
    texts = [str(number) * 100 for number in range(10)]
    assert window(texts, 5, 500) == "\n".join(texts[3:8])
    assert window(texts, 0, 300) == "\n".join(texts[0:3])
    assert window(["a" * 1000, "b" * 1000, "c" * 1000], 1, 600) == "\n".join(["a" * 1000, "b" * 1000, "c" * 1000])
    assert window(["alone"], 0) == "alone"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it failed with ERR-48211-C37 today", {"err-48211-c37"}),
        ("versions 2.14.3 and v3", {"2.14.3"}),
        ("10.0.0.1:8080", {"10.0.0.1:8080"}),
        ("commit a1b2c3d4", {"a1b2c3d4"}),
        ("well-known e.g. words, 42 and 1999", set[str]()),
        ("", set[str]()),
    ],
)
def test_identifiers(text: str, found: set[str]) -> None:
    assert identifiers(text) == found


@pytest.mark.parametrize("text", ["a." * 200_000, "a" * 400_000, "a-" * 200_000 + "1", "1" * 400_000, "a1." * 130_000])
def test_a_long_text_of_little_parts_is_read_once(text: str) -> None:
    begin = time.process_time()
    identifiers(text)
    for_ranking(text)
    assert time.process_time() - begin < 2, "slower than linear"


def test_an_identifier_counts_only_as_a_whole() -> None:
    wanted = identifiers("what is ERR-48211-C37?")
    assert identifier_share(wanted, "saw err-48211-c37.") == 1.0
    assert identifier_share(wanted, "saw ERR-48211-C371 and ERR-48211-C3") == 0.0
    assert identifier_share(identifiers("AB-1 or AB-2"), "AB-2 it is") == 0.5
    assert identifier_share(frozenset(), "anything") == 0.0


def test_text_for_ranking_joins_identifiers_and_spaces_scripts_without_spaces() -> None:
    assert for_ranking("ERR-48211-C37 failed") == "ERR-48211-C37 failed ERR48211C37"
    assert for_ranking("plain words") == "plain words"
    assert for_ranking("猫は").split() == ["猫", "は"]


def test_a_date_as_the_end_means_the_end_of_that_day() -> None:
    assert start_of("2026-03-01", "f") == datetime(2026, 3, 1, tzinfo=UTC)
    assert end_of("2026-03-01", "f") == datetime(2026, 3, 2, tzinfo=UTC)
    assert start_of("2026-03-01T12:00:00+02:00", "f") == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert end_of("2026-03-01T12:00:00Z", "f") == datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
    assert end_of("9999-12-31", "f") == end_of("9999-12-31T23:59:59.999999Z", "f") == datetime.max.replace(tzinfo=UTC)
    assert start_of("", "f") is None
    assert end_of("", "f") is None


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-13-01",
        "2026-02-30",
        "2026-03-01T12:00:00",
        "2026",
    ],
)
def test_bad_times_name_the_field(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        end_of(text, "time_range.to")
    assert refused.value.field_violations[0].field == "time_range.to"


@given(st.text(max_size=40))
def test_no_text_is_a_crash(text: str) -> None:
    for bound in (start_of, end_of):
        try:
            bound(text, "f")
        except InvalidArgument:
            continue


def test_metadata_terms_compare_as_people_do() -> None:
    assert metadata_terms({"n": 3.0}) == metadata_terms({"n": 3})
    assert metadata_terms({"n": 3.0}) != metadata_terms({"n": "3"})
    assert metadata_terms({"n": True}) != metadata_terms({"n": 1.0})
    assert metadata_terms({"b": "x", "a": "y"}) == metadata_terms({"a": "y", "b": "x"})


def test_exact_duplicates() -> None:
    assert content_hash(" a b ") == content_hash("a b")
    assert content_hash("a  b") != content_hash("a b")


def test_consistency_tokens() -> None:
    assert consistency_position(consistency_token(123456)) == 123456
    for wrong in ("", "ct1-", "ct1-xyz", "ct2-1", "ct1-" + "f" * 17, "1"):
        with pytest.raises(InvalidArgument):
            consistency_position(wrong)
