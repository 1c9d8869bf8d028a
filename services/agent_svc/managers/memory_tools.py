"""Executes the built-in memory tools."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec

from agent_svc.domain import memory_tools as names
from agent_svc.domain.conversation import ToolCallOutcome
from agent_svc.domain.model import ToolCall
from agent_svc.domain.tool import ToolResult, failed
from agent_svc.interfaces.memory import AgentMemory, MemoryChange
from agent_svc.managers.patience import Patience
from chassis.errors import DomainError

_TIMEOUT_S = 10.0

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=100_000)]


class _Append(msgspec.Struct, forbid_unknown_fields=True):
    label: _Text
    content: _Text


class _Replace(msgspec.Struct, forbid_unknown_fields=True):
    label: _Text
    old_content: _Text
    new_content: Annotated[str, msgspec.Meta(max_length=100_000)]


class _Insert(msgspec.Struct, forbid_unknown_fields=True):
    content: _Text
    tags: Annotated[list[Annotated[str, msgspec.Meta(min_length=1, max_length=128)]], msgspec.Meta(max_length=16)] = []


class _Search(msgspec.Struct, forbid_unknown_fields=True):
    query: Annotated[str, msgspec.Meta(min_length=1, max_length=16_384)]
    top_k: Annotated[int, msgspec.Meta(ge=1, le=names.MAX_RESULTS)] = names.DEFAULT_RESULTS


class MemoryToolRunner:
    """The five tools over an AgentMemory. Arguments that do not fit, and refusals of memory's, go back to the model."""

    def __init__(self, memory: AgentMemory, patience: Patience) -> None:
        self._memory = memory
        self._patience = patience

    async def run(self, agent_id: UUID, run_id: UUID, call: ToolCall) -> ToolResult:
        """Never raises DomainError: what went wrong is the result."""
        request_id = uuid.uuid5(run_id, call.id)
        try:
            # Changes carry the request id, so repeating them is safe.
            return await self._patience.with_retries(
                lambda: self._dispatch(agent_id, request_id, call), timeout_s=_TIMEOUT_S
            )
        except msgspec.ValidationError as error:
            return failed(f"The arguments do not fit the tool's schema: {error}. Call it again with arguments that do.")
        except DomainError as error:
            return failed(f"{error.message}.")

    async def _dispatch(self, agent_id: UUID, request_id: UUID, call: ToolCall) -> ToolResult:
        memory, arguments = self._memory, call.arguments_json
        match call.name:
            case names.CORE_MEMORY_APPEND:
                append = msgspec.json.decode(arguments, type=_Append)
                return _changed(await memory.append(agent_id, append.label, append.content, request_id))
            case names.CORE_MEMORY_REPLACE:
                edit = msgspec.json.decode(arguments, type=_Replace)
                return _changed(
                    await memory.replace(agent_id, edit.label, edit.old_content, edit.new_content, request_id)
                )
            case names.ARCHIVAL_MEMORY_INSERT:
                insert = msgspec.json.decode(arguments, type=_Insert)
                return _changed(await memory.insert(agent_id, insert.content, _unique(insert.tags), request_id))
            case names.ARCHIVAL_MEMORY_SEARCH:
                search = msgspec.json.decode(arguments, type=_Search)
                return _found(await memory.search_passages(agent_id, search.query, search.top_k))
            case names.CONVERSATION_SEARCH:
                search = msgspec.json.decode(arguments, type=_Search)
                return _found(await memory.search_messages(agent_id, search.query, search.top_k))
            case _:
                return failed(f"There is no built-in tool named {call.name!r}.")


def _changed(change: MemoryChange) -> ToolResult:
    return ToolResult(ToolCallOutcome.SUCCEEDED, "Done.", (change.resource_id,), change.block_label)


def _found(lines: Sequence[str]) -> ToolResult:
    return ToolResult(ToolCallOutcome.SUCCEEDED, "\n".join(lines) if lines else "Nothing was found.")


def _unique(tags: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(tags))
