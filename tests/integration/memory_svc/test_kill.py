"""kill -9 in the middle of inserts and deletes, again and again: what was acknowledged holds, and the index agrees.

HEARTH_TEST_KILL_OPERATIONS=10000 makes it the long test; by default there are 600 operations.
"""

import asyncio
import os
import random
from dataclasses import dataclass, field

import grpc
import pytest

from chassis.channels import open_channel
from chassis.errors import DomainError
from hearth.memory.v1 import archival_memory_service_pb2 as pb
from hearth.memory.v1 import search_pb2
from tests.integration.memory_svc.service import MemoryProcess, Organization
from tests.integration.memory_svc.test_archival import insert
from tests.integration.memory_svc.test_index import counts, reconcile, settled
from tests.support.issuer import Issuer

OPERATIONS = int(os.environ.get("HEARTH_TEST_KILL_OPERATIONS", "600"))
KILLS = 4
CALLERS = 4


@dataclass
class History:
    """What callers were told."""

    written: dict[str, str] = field(default_factory=dict[str, str])
    deleted: set[str] = field(default_factory=set[str])
    # Asked for, and the answer never came: either may be true.
    unsure: set[str] = field(default_factory=set[str])
    done: int = 0
    target: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)


def text_of(serial: int) -> str:
    return f"Crate {serial} of the harbour holds {serial * 7} lemons and {serial % 13} letters."


async def caller(organization: Organization, history: History, share: range, seed: int) -> None:
    """Inserts, and deletes some of what it inserted, until told that the service is gone."""
    chance = random.Random(seed)
    mine: list[str] = []
    for serial in share:
        if mine and chance.random() < 0.4:
            doomed = mine.pop(chance.randrange(len(mine)))
            history.unsure.add(doomed)
            await organization.member.archival.DeletePassage(pb.DeletePassageRequest(passage_id=doomed))
            history.unsure.discard(doomed)
            history.deleted.add(doomed)
        [passage] = (await insert(organization, text_of(serial))).passages
        history.written[passage.id] = passage.text
        mine.append(passage.id)
        history.done += 1
        if history.done >= history.target:
            history.reached.set()


@pytest.mark.timeout(60 + OPERATIONS // 5)
async def test_acknowledged_writes_and_deletes_hold(own_service: MemoryProcess, issuer: Issuer) -> None:
    history = History()
    chance = random.Random(9)
    organization: Organization | None = None
    for life in range(KILLS + 1):
        await asyncio.to_thread(own_service.start)
        async with open_channel(own_service.address, retry=False) as channel:
            if organization is None:
                organization = Organization(channel, issuer)
            organization.connect(channel)
            each = OPERATIONS // (KILLS + 1) // CALLERS
            shares = [
                range(start, start + each) for start in range(life * 1_000_000, life * 1_000_000 + CALLERS * each, each)
            ]
            history.target = history.done + int(CALLERS * each * chance.uniform(0.3, 0.9))
            history.reached.clear()
            at_work = [
                asyncio.create_task(caller(organization, history, share, life * 10 + place))
                for place, share in enumerate(shares)
            ]
            if life < KILLS:
                await history.reached.wait()
                own_service.kill()
            for outcome in await asyncio.gather(*at_work, return_exceptions=True):
                assert outcome is None or (life < KILLS and isinstance(outcome, DomainError)), outcome
            if life == KILLS:
                await check(organization, history, channel)


async def check(organization: Organization, history: History, channel: grpc.aio.Channel) -> None:
    await settled(organization)
    alive = {key: text for key, text in history.written.items() if key not in history.deleted | history.unsure}
    assert len(alive) > OPERATIONS // 4
    assert len(history.deleted) > OPERATIONS // 10
    listed = await everything(organization)
    assert alive.keys() <= listed
    assert not listed & history.deleted
    for key in random.Random(1).sample(sorted(alive), min(len(alive), max(100, OPERATIONS // 10))):
        request = pb.SearchPassagesRequest(
            query=alive[key], agent_id=organization.agent, mode=search_pb2.SEARCH_MODE_LEXICAL, top_k=3
        )
        hits = (await organization.viewer.archival.SearchPassages(request)).hits
        assert key in {hit.passage.id for hit in hits}, alive[key]
        assert not {hit.passage.id for hit in hits} & history.deleted
    assert counts(await reconcile(organization, channel)) == (0, 0, 0)


async def everything(organization: Organization) -> set[str]:
    found: set[str] = set()
    token = ""
    while True:
        request = pb.ListPassagesRequest(agent_id=organization.agent, page_size=200, page_token=token)
        page = await organization.viewer.archival.ListPassages(request)
        found |= {passage.id for passage in page.passages}
        token = page.next_page_token
        if not token:
            return found
