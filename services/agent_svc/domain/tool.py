"""Tools as the loop sees them: what can be called, and what a call gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from agent_svc.domain.conversation import ToolCallOutcome
from agent_svc.domain.model import ToolSpec
from agent_svc.domain.tokens import estimate_tokens

_OVERHEAD_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of tool_svc, or a built-in one (`id` None, version 0). `idempotent`: may be repeated after a crash.

    `requires_approval`: a person must agree to each call.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    id: UUID | None = None
    version: int = 0
    idempotent: bool = False
    requires_approval: bool = False
    # As the model sees it, and the estimated tokens of that: made once, since every turn needs them.
    spec: ToolSpec = field(init=False, compare=False, repr=False)
    tokens: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        text = self.name + self.description + msgspec.json.encode(self.parameters).decode()
        object.__setattr__(self, "spec", ToolSpec(self.name, self.description, self.parameters))
        object.__setattr__(self, "tokens", estimate_tokens(text) + _OVERHEAD_TOKENS)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call gave. `memory_ids` are wire ids of what it changed in memory, `block_label` the block's if one changed."""

    outcome: ToolCallOutcome
    text: str
    memory_ids: tuple[str, ...] = ()
    block_label: str = ""


def failed(text: str) -> ToolResult:
    """A result that tells the model what went wrong."""
    return ToolResult(ToolCallOutcome.FAILED, text)


UNKNOWN_OUTCOME = ToolResult(
    ToolCallOutcome.UNKNOWN,
    "The outcome of this call is not known: it was interrupted after it had begun, so its effect may or may not have "
    "happened. It was not repeated. Check before you call it again.",
)
