"""How a run begins to wait for a person: it says what it asks, and nobody holds it any more."""

from __future__ import annotations

from collections.abc import Sequence

from agent_svc.domain.approval import ApprovalRequest
from agent_svc.domain.conversation import Message
from agent_svc.domain.event import ApprovalRequested
from agent_svc.domain.log import Committed
from agent_svc.domain.model import ToolCall
from agent_svc.managers.progress import Progress
from agent_svc.managers.run_writer import RunWriter
from chassis import ids
from chassis.failpoints import failpoint


async def ask_approval(writer: RunWriter, progress: Progress, message: Message, calls: Sequence[ToolCall]) -> Committed:
    """Asks about the calls together. Raises Fenced, LogAway."""
    versions = [tool.version if (tool := progress.tool_named(call.name)) else 0 for call in calls]
    request = ApprovalRequest(ids.new(), message.id, tuple(calls), tuple(versions))
    await failpoint("approval.requesting")
    committed = await writer.write(
        progress.turn, progress.history, [ApprovalRequested(request)], waits=True, approval=request
    )
    await failpoint("approval.requested")
    return committed
