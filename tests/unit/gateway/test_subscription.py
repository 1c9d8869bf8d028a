"""Flow control of one subscription, against a log and a client that are small enough to see through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import DomainError, Unauthenticated
from chassis.identity import Identity, Role
from gateway import frames
from gateway.hub import Hub, parse_topic
from gateway.interfaces import EncodedDelta, EncodedEvent, Topic, WatchListener
from gateway.protocol import WINDOW, CloseCode
from gateway.subscription import MAX_PARKED_EVENTS

ME = Identity(UUID(int=1), "user_1", Role.MEMBER, "token")
TOPIC = Topic("conversation", "conv_1")


def event(seq: int, size: int = 10) -> EncodedEvent:
    return frames.event_body(seq, "t", "run_1", "run_queued", {"x": "x" * size})


@dataclass
class FakeClient:
    """Takes what its room allows."""

    room: int = 10**9
    got: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[Callable[[], None]] = field(default_factory=list)
    closed: CloseCode | None = None

    def send_event(self, sub: str, event: EncodedEvent) -> bool:
        return self._take(frames.head("event", sub) + event.body)

    def send_delta(self, sub: str, delta: EncodedDelta) -> bool:
        return self._take(frames.head(delta.kind, sub) + delta.body)

    def send(self, frame: bytes) -> bool:
        self.got.append(orjson.loads(frame))
        return True

    def close(self, code: CloseCode, message: str = "", *, retry_after_ms: int = 0, announce: bool = True) -> None:
        self.closed = code

    def on_room(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def make_room(self, room: int) -> None:
        self.room = room
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()

    def _take(self, frame: bytes) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        self.got.append(orjson.loads(frame))
        return True

    def __hash__(self) -> int:
        return id(self)

    @property
    def seqs(self) -> list[int]:
        return [frame["seq"] for frame in self.got if frame["type"] == "event"]


class FakeSource:
    """A log in memory; a watch gets what is there when `pump` is called."""

    def __init__(self, head: int = 0) -> None:
        self.head = head
        self.first = 1
        self.numbers = 0
        self.watches: dict[int, list[Any]] = {}
        self.openings = 0

    def open(self, topic: Topic, listener: WatchListener) -> int:
        self.numbers += 1
        self.openings += 1
        self.watches[self.numbers] = [listener, None]
        return self.numbers

    def close(self, watch: int) -> None:
        self.watches.pop(watch, None)

    def renew(self, watch: int) -> None:
        pass

    def pump(self, most: int = 10**9) -> None:
        for number, state in list(self.watches.items()):
            listener, place = state
            if place is None:
                after = listener.resume_after()
                place = state[1] = self.head if after is None else after
                listener.opened(self.first - 1 <= place <= self.head, self.head, self.first)
            while state[1] < self.head and number in self.watches and most > 0:
                state[1] += 1
                most -= 1
                listener.event(event(state[1]))


@dataclass
class Stage:
    source: FakeSource
    client: FakeClient
    hub: Hub
    opened: list[tuple[bool, int, int]] = field(default_factory=list)
    failed: list[DomainError] = field(default_factory=list)

    def subscribe(self, after_seq: int | None = 0, name: str = "s", topic: Topic = TOPIC) -> None:
        self.hub.subscribe(
            self.client,
            name=name,
            topic=topic,
            after_seq=after_seq,
            identity=lambda: ME,
            on_opened=lambda *where: self.opened.append(where),
            on_failed=self.failed.append,
        )


@pytest.fixture
def stage() -> Stage:
    source = FakeSource()
    return Stage(source, FakeClient(), Hub(source))


def test_events_come_in_order_and_once(stage: Stage) -> None:
    stage.source.head = 5
    stage.subscribe(2)
    stage.source.pump()
    assert stage.opened == [(True, 5, 1)]
    assert stage.client.seqs == [3, 4, 5]
    listener = next(iter(stage.source.watches.values()))[0]
    listener.event(event(5))
    listener.event(event(4))
    assert stage.client.seqs == [3, 4, 5]


def test_a_gap_is_read_again(stage: Stage) -> None:
    stage.subscribe(0)
    stage.source.pump()
    stage.source.head = 3
    listener = next(iter(stage.source.watches.values()))[0]
    listener.event(event(3))
    assert stage.client.seqs == []
    stage.source.pump()
    assert stage.client.seqs == [1, 2, 3]


def test_a_log_with_a_hole_ends_in_reset_not_in_a_loop(stage: Stage) -> None:
    stage.subscribe(0)
    stage.source.pump()
    for _ in range(20):
        for listener, _ in list(stage.source.watches.values()):
            listener.opened(True, 9, 1)
            listener.event(event(7))
    assert stage.client.got[-1] == {"type": "reset", "sub": "s", "reason": "lagging"}
    assert stage.hub.subscriptions == 0


def test_window_parks_then_pauses_then_resumes(stage: Stage) -> None:
    stage.source.head = WINDOW + MAX_PARKED_EVENTS + 1000
    stage.subscribe(0)
    stage.source.pump()
    assert stage.client.seqs == list(range(1, WINDOW + 1))
    assert not stage.source.watches, "the watch is closed while the client is behind"
    stage.hub.ack(stage.client, "s", 10)
    assert not stage.source.watches, "ten acknowledged events are not worth a new watch"
    stage.hub.ack(stage.client, "s", WINDOW)
    stage.source.pump()
    assert stage.client.seqs == list(range(1, 2 * WINDOW + 1))


def test_a_little_behind_needs_no_new_watch(stage: Stage) -> None:
    stage.source.head = WINDOW + 100
    stage.subscribe(0)
    stage.source.pump()
    stage.hub.ack(stage.client, "s", 200)
    assert stage.client.seqs == list(range(1, WINDOW + 101))
    assert stage.source.openings == 1


def test_a_full_client_pauses_until_there_is_room(stage: Stage) -> None:
    stage.source.head = 50
    stage.client.room = 20
    stage.subscribe(0)
    stage.source.pump()
    assert stage.client.seqs == list(range(1, 21))
    assert not stage.source.watches
    stage.hub.ack(stage.client, "s", 20)
    assert not stage.source.watches, "an acknowledgement is not room"
    stage.client.make_room(1000)
    stage.source.pump()
    assert stage.client.seqs == list(range(1, 51))


def test_dropped_deltas_are_made_good_by_opening_again(stage: Stage) -> None:
    stage.source.head = WINDOW + 1
    stage.subscribe(0)
    stage.source.pump()
    listener = next(iter(stage.source.watches.values()))[0]
    listener.delta(frames.delta_body("delta", {"text": "x"}))
    assert stage.client.got[-1]["type"] == "event"
    stage.hub.ack(stage.client, "s", WINDOW)
    assert stage.source.openings == 2
    for seq in range(WINDOW, WINDOW + 2):
        stage.hub.ack(stage.client, "s", seq)
    assert stage.source.openings == 2, "acknowledging while it opens opens nothing more"
    stage.source.pump()
    assert stage.client.seqs == list(range(1, WINDOW + 2))


def test_end_never_overtakes_parked_events(stage: Stage) -> None:
    stage.source.head = WINDOW + 3
    stage.subscribe(0)
    stage.source.pump()
    listener = next(iter(stage.source.watches.values()))[0]
    stage.source.watches.clear()
    listener.ended("complete", None)
    assert stage.client.got[-1]["seq"] == WINDOW
    stage.hub.ack(stage.client, "s", WINDOW)
    stage.source.pump()
    next(iter(stage.source.watches.values()))[0].ended("complete", None)
    assert stage.client.seqs == list(range(1, WINDOW + 4))
    assert stage.client.got[-1] == {"type": "end", "sub": "s", "reason": "complete"}


def test_reopening_past_a_truncated_log_resets(stage: Stage) -> None:
    stage.source.head = 10
    stage.client.room = 3
    stage.subscribe(0)
    stage.source.pump()
    stage.source.first = 8
    stage.client.make_room(100)
    stage.source.pump()
    assert stage.client.got[-1] == {"type": "reset", "sub": "s", "reason": "log_truncated"}
    assert stage.hub.subscriptions == 0


def test_failure_before_and_after_opening(stage: Stage) -> None:
    stage.subscribe(0, "early")
    error = Unauthenticated("no", reason="TOKEN_EXPIRED")
    next(iter(stage.source.watches.values()))[0].ended("revoked", error)
    assert stage.failed == [error]
    assert stage.client.got == []
    stage.source.watches.clear()
    stage.subscribe(0, "late")
    stage.source.pump()
    next(iter(stage.source.watches.values()))[0].ended("revoked", error)
    assert stage.client.got[-1]["error"]["reason"] == "TOKEN_EXPIRED"
    assert stage.hub.subscriptions == 0


def test_release_leaves_nothing(stage: Stage) -> None:
    for number in range(10):
        stage.subscribe(0, f"s{number}")
    stage.source.pump()
    stage.hub.release(stage.client)
    stage.hub.ack(stage.client, "s1", 5)
    assert not stage.source.watches
    assert stage.hub.subscriptions == 0


def test_from_now_on_begins_at_the_head(stage: Stage) -> None:
    stage.source.head = 7
    stage.subscribe(None)
    stage.source.pump()
    stage.source.head = 9
    stage.source.pump()
    assert stage.client.seqs == [8, 9]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("grow"), st.integers(1, 400)),
            st.tuples(st.just("pump"), st.integers(1, 400)),
            st.tuples(st.just("ack"), st.integers(0, 300)),
            st.tuples(st.just("room"), st.integers(0, 200)),
            st.tuples(st.just("cut"), st.just(0)),
        ),
        max_size=40,
    )
)
def test_whatever_happens_the_client_ends_with_the_whole_log(steps: list[tuple[str, int]]) -> None:
    source, client = FakeSource(), FakeClient()
    stage = Stage(source, client, Hub(source))
    stage.subscribe(0)
    source.pump()
    for what, amount in steps:
        if what == "grow":
            source.head += amount
        elif what == "pump":
            source.pump(amount)
        elif what == "ack" and client.seqs:
            stage.hub.ack(client, "s", max(0, client.seqs[-1] - amount))
        elif what == "room":
            client.make_room(amount)
        elif what == "cut":
            for state in source.watches.values():
                state[1] = None
        assert client.seqs == list(range(1, len(client.seqs) + 1))
        assert all(frame["type"] != "reset" for frame in client.got)
    for _ in range(source.head // 50 + 10):
        client.make_room(10**6)
        stage.hub.ack(client, "s", len(client.seqs))
        source.pump()
    assert client.seqs == list(range(1, source.head + 1))


@pytest.mark.parametrize("text", ["", "run", "run:", ":x", "agent:agent_1", "conversation"])
def test_malformed_topics(text: str) -> None:
    with pytest.raises(DomainError) as caught:
        parse_topic(text)
    assert caught.value.reason == "VALIDATION_FAILED"


@pytest.mark.parametrize("text", ["run:x", "run:RUN_1", "run:run_" + "a" * 99, "conversation:conv_1\0", "run:run_1 "])
def test_topics_that_cannot_exist(text: str) -> None:
    with pytest.raises(DomainError) as caught:
        parse_topic(text)
    assert caught.value.reason == "RESOURCE_NOT_FOUND"
