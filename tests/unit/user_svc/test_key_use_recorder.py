"""Uses of API keys: written together, at most once a minute for each, never lost by a pause of the database."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from chassis import ids
from chassis.errors import Unavailable
from user_svc.managers.key_use_recorder import EVERY, KeyUseRecorder

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Store:
    """A KeyUseRepository that remembers what it was given."""

    def __init__(self) -> None:
        self.saved: list[dict[UUID, datetime]] = []
        self.down = False
        self.hangs = False

    async def save(self, uses: Mapping[UUID, datetime]) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            raise Unavailable("down", reason="DEPENDENCY_UNAVAILABLE")
        self.saved.append(dict(uses))


async def test_many_uses_are_one_write() -> None:
    store = Store()
    recorder = KeyUseRecorder(store)
    keys = [ids.new() for _ in range(100)]
    for second in range(30):
        for key in keys:
            recorder.note(key, _NOW + timedelta(seconds=second))
    await recorder.flush()
    await recorder.flush()
    assert store.saved == [dict.fromkeys(keys, _NOW)]


async def test_a_key_is_written_once_a_minute() -> None:
    store = Store()
    recorder = KeyUseRecorder(store)
    key = ids.new()
    for second in range(0, 180, 5):
        recorder.note(key, _NOW + timedelta(seconds=second))
        await recorder.flush()
    assert [uses[key] for uses in store.saved] == [_NOW, _NOW + EVERY, _NOW + 2 * EVERY]


async def test_what_cannot_be_written_now_is_written_later() -> None:
    store = Store()
    recorder = KeyUseRecorder(store)
    first, second = ids.new(), ids.new()
    recorder.note(first, _NOW)
    store.down = True
    await recorder.flush()
    recorder.note(second, _NOW)
    store.down = False
    await recorder.flush()
    assert store.saved == [{first: _NOW, second: _NOW}]


async def test_stopping_writes_what_is_left_even_when_a_write_hangs() -> None:
    store = Store()
    recorder = KeyUseRecorder(store, interval_s=0.01)
    await recorder.start()
    key = ids.new()
    store.hangs = True
    recorder.note(key, _NOW)
    await asyncio.sleep(0.05)
    store.hangs = False
    await recorder.stop()
    assert store.saved == [{key: _NOW}]
