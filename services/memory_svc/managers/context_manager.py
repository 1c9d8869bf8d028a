"""What memory contributes to a turn: the agent's blocks, rendered, and what its input recalls."""

import asyncio
import hashlib
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from memory_svc.domain.blocks import Block
from memory_svc.domain.chunking import CHUNK_CHARACTERS, chunks
from memory_svc.domain.messages import RecallMessage
from memory_svc.domain.passages import Passage
from memory_svc.domain.rendering import (
    LAYOUT_VERSION,
    blocks_text,
    estimated_tokens,
    message_entry,
    passage_entry,
    recalled_text,
)
from memory_svc.domain.search import MemoryKind, Scope, SearchPage, SearchResult
from memory_svc.interfaces.repositories import AgentMemory, AgentMemorySummaries
from memory_svc.interfaces.search import Searcher
from memory_svc.interfaces.unit_of_work import UnitOfWork

DEFAULT_TOP_K = 8
_LONGEST_QUERY = 16_384
_Versions = tuple[tuple[uuid.UUID, int], ...]


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """For whom, and for what input. Messages of the conversation from `exclude_from_seq` on are not recalled (0: all may be)."""

    organization_id: uuid.UUID
    agent_id: uuid.UUID
    input: str
    budget_tokens: int
    top_k: int = 0
    conversation_id: uuid.UUID | None = None
    exclude_from_seq: int = 0


@dataclass(frozen=True, slots=True)
class RecalledHit:
    """A passage or message that fits the input, with the part of its text that was rendered."""

    item: Passage | RecallMessage
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class CompiledContext:
    """What goes into the context, how much memory there is, and versions to know it again by."""

    blocks_text: str
    blocks_version: str
    recalled_text: str
    hits: Sequence[RecalledHit]
    passage_count: int
    message_count: int
    degraded: bool = False
    layout_version: int = LAYOUT_VERSION


class ContextManager:
    """Compiles contexts. Rendered blocks are kept by agent and checked against the blocks' revisions in every call."""

    def __init__(
        self, work: UnitOfWork, summaries: AgentMemorySummaries, searcher: Searcher, *, cache_size: int = 4096
    ) -> None:
        self._work = work
        self._summaries = summaries
        self._searcher = searcher
        self._cache_size = cache_size
        self._rendered: OrderedDict[tuple[uuid.UUID, uuid.UUID], tuple[_Versions, str]] = OrderedDict()

    async def compile(self, request: ContextRequest) -> CompiledContext:
        """One call for each turn. An agent without memory has an empty one."""
        (memory, text), (hits, degraded) = await asyncio.gather(self._blocks(request), self._recall(request))
        entries = [_entry(hit.item, hit.text) for hit in hits]
        return CompiledContext(
            blocks_text=text,
            blocks_version=_fingerprint(memory.blocks),
            recalled_text=recalled_text(entries),
            hits=hits,
            passage_count=memory.passage_count,
            message_count=memory.message_count,
            degraded=degraded,
        )

    async def _blocks(self, request: ContextRequest) -> tuple[AgentMemory, str]:
        key = (request.organization_id, request.agent_id)
        memory = await self._summaries.summary(*key)
        known = self._rendered.get(key)
        if known is not None and known[0] == memory.blocks:
            self._rendered.move_to_end(key)
            return memory, known[1]
        async with self._work.begin(request.organization_id) as transaction:
            blocks = await transaction.blocks.of_agent(request.agent_id)
        # Read again with the text, so that what is kept belongs to exactly these revisions.
        versions = tuple((block.id, block.revision) for block in blocks)
        return self._keep(key, versions, blocks, memory)

    def _keep(
        self, key: tuple[uuid.UUID, uuid.UUID], versions: _Versions, blocks: Sequence[Block], memory: AgentMemory
    ) -> tuple[AgentMemory, str]:
        text = blocks_text(blocks)
        self._rendered[key] = (versions, text)
        while len(self._rendered) > self._cache_size:
            self._rendered.popitem(last=False)
        return AgentMemory(versions, memory.passage_count, memory.message_count), text

    async def _recall(self, request: ContextRequest) -> tuple[list[RecalledHit], bool]:
        query = request.input[:_LONGEST_QUERY]
        if not query.strip() or request.budget_tokens <= 0:
            return [], False
        top_k = request.top_k or DEFAULT_TOP_K
        passages, messages = await asyncio.gather(
            self._searcher.search(lambda work: work.passages, _passage_scope(request), query, top_k=top_k),
            self._searcher.search(lambda work: work.messages, _message_scope(request), query, top_k=top_k),
        )
        hits = _fitting(_best_first(passages, messages), top_k, request.budget_tokens)
        return hits, passages.degraded or messages.degraded


def _passage_scope(request: ContextRequest) -> Scope:
    return Scope(request.organization_id, MemoryKind.PASSAGE, agent_id=request.agent_id, valid_at=datetime.now(UTC))


def _message_scope(request: ContextRequest) -> Scope:
    return Scope(
        request.organization_id,
        MemoryKind.MESSAGE,
        agent_id=request.agent_id,
        # What tools said is long and seldom what is meant; the answer made of it is in memory too.
        roles=("user", "assistant", "summary"),
        exclude_conversation_id=request.conversation_id,
        exclude_from_seq=request.exclude_from_seq,
    )


def _best_first(passages: SearchPage[Passage], messages: SearchPage[RecallMessage]) -> list[RecalledHit]:
    """Both kinds in one order, each in its own: compared by what the lists say, which means the same for both."""
    left: list[SearchResult[Passage]] = list(reversed(passages.results))
    right: list[SearchResult[RecallMessage]] = list(reversed(messages.results))
    hits: list[RecalledHit] = []
    while left or right:
        take_left = bool(left) and (not right or left[-1].fused >= right[-1].fused)
        hits.append(_hit(left.pop() if take_left else right.pop()))
    return hits


def _hit(result: SearchResult[Passage] | SearchResult[RecallMessage]) -> RecalledHit:
    text = result.item.text
    if len(text) > CHUNK_CHARACTERS:
        pieces = chunks(text)
        at = min(result.chunk, len(pieces) - 1)
        text = f"{'…' if at else ''}{pieces[at].strip()}{'…' if at < len(pieces) - 1 else ''}"
    return RecalledHit(result.item, text, result.score)


def _fitting(hits: Sequence[RecalledHit], top_k: int, budget_tokens: int) -> list[RecalledHit]:
    """The best hits whose rendering fits into the budget; a long one is passed over for shorter ones behind it."""
    taken: list[RecalledHit] = []
    left = budget_tokens - estimated_tokens(recalled_text([""]))
    for hit in hits:
        cost = estimated_tokens(_entry(hit.item, hit.text) + "\n")
        if cost <= left:
            taken.append(hit)
            left -= cost
        if len(taken) == top_k:
            break
    return taken


def _entry(item: Passage | RecallMessage, text: str) -> str:
    return passage_entry(item, text) if isinstance(item, Passage) else message_entry(item, text)


def _fingerprint(versions: _Versions) -> str:
    digest = hashlib.blake2b(str(LAYOUT_VERSION).encode(), digest_size=8)
    for block_id, revision in versions:
        digest.update(block_id.bytes + revision.to_bytes(8))
    return digest.hexdigest()
