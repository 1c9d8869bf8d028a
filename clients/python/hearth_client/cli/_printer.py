"""Shows a run while it happens: the answer on standard output, what else is done on standard error."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from hearth_client.cli._output import for_terminal, label, note, shorten

if TYPE_CHECKING:
    from hearth.agent.v1.event_pb2 import Frame, RunEvent
    from hearth_client._assembler import MessageChange


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: state `succeeded`, `failed` or `cancelled`; message and reason if it failed."""

    state: str
    message: str = ""
    reason: str = ""


class RunPrinter:
    """Feed it the frames of a run. `outcome` is set by the run's last event.

    What is printed cannot be taken back. When a message starts again, it is silent as long as the new attempt says what is there already,
    and prints the whole new text only if it says something else.
    """

    def __init__(self, *, with_input: bool = False) -> None:
        from hearth_client._assembler import MessageAssembler

        self.outcome: Outcome | None = None
        self._assembler = MessageAssembler()
        self._with_input = with_input
        self._message_id = ""
        self._printed = ""

    def show_all(self, frames: "Iterable[Frame]") -> Outcome | None:
        """Shows frames until they end."""
        for frame in frames:
            self.show(frame)
        return self.outcome

    def show(self, frame: "Frame") -> None:
        """Shows one frame."""
        change = self._assembler.feed(frame)
        if change is not None:
            self._message(change)
        if frame.HasField("event"):
            self._event(frame.event)

    def end_line(self) -> None:
        """Ends a line of the answer that is not complete, so that something else can follow."""
        if self._printed and not self._printed.endswith("\n"):
            self._write("\n")
        self._printed = ""

    def _message(self, change: "MessageChange") -> None:
        from hearth.agent.v1.conversation_pb2 import MessageRole

        done = change.message
        if done is not None and done.role != MessageRole.MESSAGE_ROLE_ASSISTANT:
            if done.role == MessageRole.MESSAGE_ROLE_USER and self._with_input:
                note(f"you: {done.text}")
            return
        if change.message_id != self._message_id:
            self.end_line()
            self._message_id = change.message_id
        if change.text.startswith(self._printed):
            self._write(change.text[len(self._printed) :])
            self._printed = change.text
        elif not self._printed.startswith(change.text) or done is not None:
            self.end_line()
            note("(the answer starts again)")
            self._write(change.text)
            self._printed = change.text
        if done is not None:
            self.end_line()

    def _event(self, event: "RunEvent") -> None:
        kind = event.WhichOneof("payload")
        if kind == "tool_call_started":
            call = event.tool_call_started.tool_call
            note(f"· {call.name}({shorten(call.arguments_json, 200)})")
        elif kind == "tool_call_completed":
            done = event.tool_call_completed
            note(f"· {done.name} {label(done, 'outcome')} in {done.duration_ms} ms")
        elif kind == "memory_updated":
            updated = event.memory_updated
            note(f"· memory updated: {updated.block_label or ', '.join(updated.resource_ids)}")
        elif kind == "context_compacted":
            note("· older messages became a summary")
        elif kind == "approval_requested":
            calls = ", ".join(call.name for call in event.approval_requested.tool_calls)
            note(f"· waits for the approval of {calls}")
        elif kind == "approval_resolved":
            note(f"· {'approved' if event.approval_resolved.approved else 'rejected'} {event.approval_resolved.reason}")
        elif kind in ("run_succeeded", "run_failed", "run_cancelled"):
            self._ended(event)

    def _ended(self, event: "RunEvent") -> None:
        self.end_line()
        if event.HasField("run_failed"):
            failed = event.run_failed
            message = failed.error.message or label(failed, "stop_reason")
            self.outcome = Outcome("failed", message, failed.error.reason)
            return
        self.outcome = Outcome("cancelled" if event.HasField("run_cancelled") else "succeeded")
        stop = label(event.run_succeeded, "stop_reason")
        if stop not in ("", "final answer"):
            note(f"(stopped: {stop})")

    def _write(self, text: str) -> None:
        click.echo(for_terminal(text), nl=False)
        sys.stdout.flush()
