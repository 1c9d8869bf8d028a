"""What an agent's tool rules say about a run, from its own messages, however far back they go."""

from __future__ import annotations

from collections.abc import Sequence

from agent_svc.domain.conversation import Message, MessageRole
from agent_svc.domain.log import NEVER
from agent_svc.domain.tool_rules import rule
from agent_svc.interfaces.run_log import RunLog
from agent_svc.managers.progress import Progress
from agent_svc.managers.run_writer import LogAway
from chassis.errors import ResourceExhausted, Unavailable


class Rulings:
    """Sets `progress.ruling`. Agents without rules need none of this."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    async def renew(self, progress: Progress) -> None:
        """After something was persisted. Raises LogAway when older messages must be read and cannot be."""
        own = progress.own
        if not progress.earlier and not _complete(own):
            # Another worker began this run and it is longer than what is read of a conversation, or a part of it was summed up.
            try:
                progress.earlier = await self._log.run_messages(progress.turn.lease, progress.turn.run, NEVER)
            except (Unavailable, ResourceExhausted) as error:
                raise LogAway from error
        if progress.earlier:
            by_seq = {message.seq: message for message in (*progress.earlier, *own)}
            own = [by_seq[seq] for seq in sorted(by_seq)]
        offered = [tool.name for tool in progress.tools]
        progress.ruling = rule(progress.agent.tool_rules, offered, own)


def _complete(own: Sequence[Message]) -> bool:
    """Whether these are all messages of a run."""
    return bool(own) and own[0].role is MessageRole.USER and all(one.role is not MessageRole.SUMMARY for one in own)
