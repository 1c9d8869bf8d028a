"""What an agent's tool rules say about a run, from its own messages, however far back they go."""

from __future__ import annotations

from agent_svc.domain.conversation import MessageRole
from agent_svc.domain.tool_rules import rule
from agent_svc.interfaces.run_log import RunLog
from agent_svc.managers.progress import Progress
from agent_svc.managers.run_writer import LogAway
from chassis.errors import ResourceExhausted, Unavailable

# A seq that no conversation reaches.
_NEVER = 2**62


class Rulings:
    """Sets `progress.ruling`. Agents without rules need none of this."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    async def renew(self, progress: Progress) -> None:
        """After something was persisted. Raises LogAway when older messages must be read and cannot be."""
        own = progress.own
        if not progress.earlier and (not own or own[0].role is not MessageRole.USER):
            # Another worker began this run, which is longer than what is read of a conversation.
            before = own[0].seq if own else _NEVER
            try:
                progress.earlier = await self._log.run_messages(progress.turn.lease, progress.turn.run, before)
            except (Unavailable, ResourceExhausted) as error:
                raise LogAway from error
        offered = [tool.name for tool in progress.tools]
        progress.ruling = rule(progress.agent.tool_rules, offered, [*progress.earlier, *own])
