"""Recall memory: takes in messages, finds them, and forgets them with their conversation or agent."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memory_svc.domain.consistency import consistency_position, consistency_token
from memory_svc.domain.messages import RecallMessage, Span
from memory_svc.domain.search import MemoryKind, Scope, SearchMode, SearchPage, SearchResult
from memory_svc.interfaces.indexing import IndexProgress
from memory_svc.interfaces.search import Searcher
from memory_svc.interfaces.unit_of_work import UnitOfWork

DEFAULT_TOP_K = 10


@dataclass(frozen=True, slots=True)
class Surroundings:
    """How many messages before and after each hit to return with it."""

    before: int = 0
    after: int = 0


class RecallManager:
    """What happens to messages here. Whoever wrote them owns them."""

    def __init__(self, work: UnitOfWork, searcher: Searcher, progress: IndexProgress) -> None:
        self._work = work
        self._searcher = searcher
        self._progress = progress

    async def index(self, organization_id: uuid.UUID, messages: Sequence[RecallMessage]) -> str:
        """Makes messages searchable. Those that are known, blank, or of something forgotten are passed over.

        Returns the token with which a search finds all of them.
        """
        worth = [message for message in messages if message.text.strip()]
        async with self._work.begin(organization_id) as transaction:
            new, position = await transaction.messages.add(worth)
        if new:
            self._progress.poke()
        return consistency_token(position)

    async def forget_conversation(self, organization_id: uuid.UUID, conversation_id: uuid.UUID) -> None:
        """Removes a conversation's messages, and takes no more of them."""
        async with self._work.begin(organization_id) as transaction:
            await transaction.messages.forget_conversation(conversation_id)
        self._progress.poke()

    async def forget_agent(self, organization_id: uuid.UUID, agent_id: uuid.UUID) -> None:
        """Removes an agent's messages, passages, and blocks that no other agent has; it gets no new memory."""
        async with self._work.begin(organization_id) as transaction:
            await transaction.messages.forget_agent(agent_id)
            await transaction.passages.delete_of_agent(agent_id)
            await transaction.blocks.detach_all(agent_id)
        self._progress.poke()

    async def search(
        self,
        scope: Scope,
        query: str,
        mode: SearchMode,
        top_k: int,
        surroundings: Surroundings,
        consistency_token: str = "",
    ) -> SearchPage[RecallMessage]:
        """Raises InvalidArgument for a blank query or a token that is none."""
        page = await self._searcher.search(
            lambda transaction: transaction.messages,
            replace(scope, kind=MemoryKind.MESSAGE),
            query,
            mode=mode,
            top_k=top_k or DEFAULT_TOP_K,
            after_position=consistency_position(consistency_token) if consistency_token else 0,
        )
        if not surroundings.before and not surroundings.after:
            return page
        items = [result.item for result in page.results]
        spans = [Span(item.conversation_id, item.seq, item.seq) for item in items]
        async with self._work.begin(scope.organization_id) as transaction:
            found = await transaction.messages.around(spans, max(surroundings.before, surroundings.after))
        results: list[SearchResult[RecallMessage]] = []
        for result, around in zip(page.results, found, strict=True):
            earlier = [message for message in around if message.seq < result.item.seq]
            later = [message for message in around if message.seq > result.item.seq]
            before = tuple(earlier[len(earlier) - min(surroundings.before, len(earlier)) :])
            results.append(replace(result, before=before, after=tuple(later[: surroundings.after])))
        return replace(page, results=tuple(results))
