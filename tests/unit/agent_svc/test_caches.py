"""The history that is kept between turns: never a gap, never a duplicate, never more than it may be."""

from uuid import UUID

from agent_svc.domain.conversation import Message
from agent_svc.managers.caches import HistoryCache
from tests.unit.agent_svc.conversations import user

CONVERSATION = UUID(int=5)


def messages(*seqs: int, text: str = "word") -> tuple[Message, ...]:
    return tuple(user(text, seq) for seq in seqs)


def seqs(history: tuple[Message, ...]) -> list[int]:
    return [message.seq for message in history]


def test_only_what_is_new_is_read() -> None:
    cache = HistoryCache(10_000)
    assert cache.after_seq(CONVERSATION) == 0
    cache.join(CONVERSATION, 0, messages(2, 4), cut=False)
    assert cache.after_seq(CONVERSATION) == 4
    assert seqs(cache.join(CONVERSATION, 4, messages(7), cut=False)) == [2, 4, 7]


def test_a_cut_reading_replaces_what_was_kept() -> None:
    cache = HistoryCache(10_000)
    cache.join(CONVERSATION, 0, messages(2, 4), cut=False)
    assert seqs(cache.join(CONVERSATION, 4, messages(900, 902), cut=True)) == [900, 902]


def test_a_reading_from_elsewhere_replaces_what_was_kept() -> None:
    cache = HistoryCache(10_000)
    cache.join(CONVERSATION, 0, messages(2, 4), cut=False)
    assert seqs(cache.join(CONVERSATION, 0, messages(2, 4, 6), cut=False)) == [2, 4, 6]


def test_nothing_new_gives_what_is_kept() -> None:
    cache = HistoryCache(10_000)
    cache.join(CONVERSATION, 0, messages(2, 4), cut=False)
    assert seqs(cache.join(CONVERSATION, 4, (), cut=False)) == [2, 4]


def test_it_is_bounded_and_drops_the_oldest() -> None:
    cache = HistoryCache(500)
    after = 0
    for turn in range(1, 60):
        cache.join(CONVERSATION, after, messages(turn * 2, text="x" * 100), cut=False)
        after = cache.after_seq(CONVERSATION)
    kept = seqs(cache.join(CONVERSATION, after, (), cut=False))
    assert kept[-1] == 118
    assert len(kept) < 20
    assert kept == list(range(kept[0], 119, 2))
