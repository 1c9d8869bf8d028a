"""What is added to the lists' scores: dates, speakers, neighbours, form."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from memory_svc.domain.questions import tells_when, understood
from memory_svc.domain.ranking import identified, ranked
from memory_svc.domain.search import Place, SearchResult, Signal
from memory_svc.domain.terms import terms

MAY = datetime(2023, 5, 8, 12, tzinfo=UTC)
TALK = uuid.UUID(int=99)


@dataclass(frozen=True)
class Line:
    id: uuid.UUID
    ranked_text: str
    create_time: datetime = MAY
    place: Place | None = None
    version: int = 1


def line(number: int, text: str, *, speaker: str = "", at: datetime = MAY, conversation: uuid.UUID = TALK) -> Line:
    return Line(uuid.UUID(int=number), text, at, Place(conversation, number, speaker))


def of(query: str, *lines: Line) -> list[dict[Signal, float]]:
    found = terms(understood(query), lines, {one.id: 0.5 for one in lines})
    return [found[one.id] for one in lines]


@pytest.mark.parametrize(
    ("query", "fit"),
    [
        ("What happened in May?", 1.0),
        ("What happened in June?", 0.0),
        ("What happened in 2023?", 1.0),
        ("What happened in May 2022?", 0.0),
        ("What happened on 8 May 2023?", 1.5),
        ("What happened on May 8th?", 1.5),
        ("What happened on 9 May?", 0.5),
        ("What happened on 2023-05-08?", 1.5),
        ("What may Ada like?", 0.0),
        ("Did they march in Oslo?", 0.0),
        ("What is Ada's plan?", 0.0),
    ],
)
def test_dates(query: str, fit: float) -> None:
    assert understood(query).fits(MAY) == fit


def test_a_word_that_is_also_a_month_is_one_only_beside_a_date() -> None:
    assert understood("since last march").months == {3}
    assert understood("may they march").months == set()


def test_asking_and_telling_when() -> None:
    assert understood("When did she move?").asks_when
    assert understood("Which year was it?").asks_when
    assert not understood("Whenever was nice").asks_when
    assert tells_when("I moved last week.")
    assert not tells_when("I moved to Bergen.")
    [told, untold] = of("When did she move?", line(1, "I moved last week."), line(2, "I moved away."))
    assert Signal.TELLS_WHEN in told
    assert Signal.TELLS_WHEN not in untold


def test_the_speaker_that_a_question_names() -> None:
    ada, ida = line(1, "x", speaker="Ada Berg"), line(2, "x", speaker="Ida")
    found = of("What did Ada buy?", ada, ida)
    assert [Signal.SPEAKER in one for one in found] == [True, False]


def test_neighbours_lend_their_score_within_a_session() -> None:
    asks, answers = line(1, "Where to?"), line(2, "To Bergen, of course.")
    later = line(3, "Something else.", at=MAY + timedelta(days=1))
    first, second, third = of("q", asks, answers, later)
    assert second[Signal.ANSWER] == second[Signal.PRECEDING] == first[Signal.FOLLOWING] == 0.5
    assert not third.keys() & {Signal.PRECEDING, Signal.FOLLOWING}
    assert third[Signal.SESSION] < first[Signal.SESSION] == 1.0
    assert Signal.ASKS in first
    assert Signal.ASKS not in second


def test_conversations_do_not_mix() -> None:
    one, other = line(1, "a"), line(2, "b", conversation=uuid.UUID(int=98))
    assert all(not found.keys() & {Signal.PRECEDING, Signal.FOLLOWING} for found in of("q", one, other))


def test_a_passage_has_no_terms_of_conversations() -> None:
    note = Line(uuid.UUID(int=1), "A note of last week?")
    assert of("q", note) == [{}]
    assert of("When was it in May 2023?", note) == [{Signal.DATE: 1.0, Signal.TELLS_WHEN: 1.0}]


def test_contributions_add_up_and_decide_the_order() -> None:
    plain, named = line(1, "It rained.", speaker="Ida"), line(5, "It rained.", speaker="Ada")
    results = [SearchResult(one, 0.5, 0.5) for one in (plain, named)]
    first, second = ranked("What did Ada say?", results)
    assert (first.item, second.item) == (named, plain)
    for result in (first, second):
        assert result.score == pytest.approx(result.fused + sum(part.contribution for part in result.signals))


def test_identifiers_come_before_everything() -> None:
    strong, exact = line(1, "all about ERR-48211-C38"), line(2, "ERR-48211-C37")
    results = [SearchResult(strong, 5.0, 1.0), SearchResult(exact, 0.1, 0.1)]
    assert identified("What of ERR-48211-C37?", results)[0].item is exact
    assert identified("What of it?", results)[0].item is strong


def test_a_long_query_is_read_quickly() -> None:
    assert understood("May " * 100_000).months == set()
