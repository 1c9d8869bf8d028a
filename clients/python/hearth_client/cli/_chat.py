"""`hearth chat`."""

import contextlib
import signal
import sys
import threading
from collections.abc import Generator
from types import FrameType
from typing import TYPE_CHECKING

import click

from hearth_client.cli._output import clean, model_label, note, print_heading
from hearth_client.cli._session import (
    Failure,
    Session,
    busy_policy,
    examples,
    is_id,
    pass_session,
    read_text,
    when_busy_option,
)

if TYPE_CHECKING:
    from hearth.agent.v1.agent_pb2 import Agent
    from hearth_client._blocking import BlockingRunStream
    from hearth_client.cli._printer import Outcome

_HISTORY = 20


@click.command(
    epilog=examples(
        "hearth chat",
        'hearth chat --agent demo "My dog is called Rex."',
        "git diff | hearth chat --agent reviewer -",
    )
)
@click.argument("message", required=False)
@click.option(
    "--agent",
    "agent_name",
    metavar="AGENT",
    default="assistant",
    show_default=True,
    help="Whom to talk to, by name or id.",
)
@click.option("--model", default="", help="Model of the agent, if it has to be created.")
@click.option(
    "--conversation", "conversation_id", metavar="ID", default="", help="Which conversation; default: the agent's own."
)
@when_busy_option
@pass_session
def chat(
    session: Session, message: str | None, agent_name: str, model: str, conversation_id: str, when_busy: str
) -> None:
    """Talk to an agent. It is created if there is none of that name.

    With MESSAGE: says it, streams the answer to standard output (tool calls and memory updates to standard error), and exits with 1 if the run
    failed. - reads the message from standard input.

    Without MESSAGE: a conversation. Ctrl-C stops the answer, Ctrl-D leaves.
    """
    said = read_text(message) if message == "-" else message
    if said is not None and not said.strip():
        raise click.UsageError("the message is empty")
    agent = _agent(session, agent_name, model)
    conversation_id = conversation_id or agent.default_conversation_id
    if said is None:
        _converse(session, agent, conversation_id, when_busy)
        return
    outcome = _turn(session, conversation_id, said, when_busy)
    if outcome is None or outcome.state != "succeeded":
        raise _failure(session, outcome)


def _agent(session: Session, name: str, model: str) -> "Agent":
    from hearth_client.errors import AlreadyExistsError, NotFoundError

    if is_id("agent", name):
        return session.agent(name)
    agents = session.client.agents
    try:
        found = agents.get(name=name)
    except NotFoundError:
        try:
            made = agents.create(name, model=model)
        except AlreadyExistsError:
            # Somebody else was faster.
            return agents.get(name=name)
        note(f"(created agent {made.name} with {model_label(made.model)})")
        return made
    if model and found.model != model:
        note(f"(agent {found.name} keeps its model {found.model}; --model is for new agents)")
    return found


def _turn(session: Session, conversation_id: str, text: str, when_busy: str) -> "Outcome | None":
    """One message and its answer. Ctrl-C cancels the run, and then waits for its end; a second one leaves at once."""
    from hearth_client.cli._printer import RunPrinter

    printer = RunPrinter()
    with (
        session.client.runs.send(text, conversation_id=conversation_id, busy_policy=busy_policy(when_busy)) as stream,
        _cancelled_by_interrupt(session, stream),
    ):
        try:
            return printer.show_all(stream)
        finally:
            printer.end_line()


@contextlib.contextmanager
def _cancelled_by_interrupt(session: Session, stream: "BlockingRunStream") -> Generator[None, None, None]:
    """While it lasts, the first Ctrl-C cancels the run, without an exception in the middle of whatever goes on."""
    stopping = False

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping or not stream.run_id:
            raise KeyboardInterrupt
        stopping = True
        threading.Thread(target=_cancel, args=(session, stream.run_id), daemon=True).start()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _cancel(session: Session, run_id: str) -> None:
    from hearth_client.errors import FailedPreconditionError, HearthError

    note("\n(stopping; Ctrl-C again leaves it running)")
    try:
        session.client.runs.cancel(run_id)
    except FailedPreconditionError:
        note("(it had just ended)")
    except HearthError as error:
        session.failure(error).show()


def _failure(session: Session, outcome: "Outcome | None") -> Failure:
    if outcome is None:
        return Failure("the run ended without saying how")
    if outcome.state == "cancelled":
        return Failure("the run was cancelled")
    from hearth_client.errors import HearthError

    return session.failure(HearthError(f"the run failed: {outcome.message}", reason=outcome.reason or "FAILED"))


def _converse(session: Session, agent: "Agent", conversation_id: str, when_busy: str) -> None:
    interactive = sys.stdin.isatty()
    if interactive:
        # Arrow keys and history at the prompt, where there is readline.
        with contextlib.suppress(ImportError):
            import readline as readline
        _print_history(session, agent.name, conversation_id)
        note(f"{agent.name} · {model_label(agent.model)} · Ctrl-C stops an answer, Ctrl-D leaves")
    while True:
        try:
            text = input("you> " if interactive else "")
        except EOFError:
            break
        except KeyboardInterrupt:
            click.echo(err=True)
            continue
        if text.strip() and not _said(session, conversation_id, text, when_busy) and not interactive:
            raise click.exceptions.Exit(1)
    if interactive:
        click.echo(err=True)


def _said(session: Session, conversation_id: str, text: str, when_busy: str) -> bool:
    """One turn of a conversation that goes on whatever happens. False if there was no answer."""
    from hearth_client.errors import HearthError

    try:
        outcome = _turn(session, conversation_id, text, when_busy)
    except HearthError as error:
        session.failure(error).show()
        return False
    except KeyboardInterrupt:
        note("(left)")
        return False
    if outcome is not None and outcome.state == "succeeded":
        return True
    _failure(session, outcome).show()
    return False


def _print_history(session: Session, agent_name: str, conversation_id: str) -> None:
    from itertools import islice

    from hearth.agent.v1.conversation_pb2 import MessageRole

    newest = islice(
        session.client.conversations.messages(conversation_id, newest_first=True, page_size=_HISTORY), _HISTORY
    )
    names = {MessageRole.MESSAGE_ROLE_USER: "you", MessageRole.MESSAGE_ROLE_ASSISTANT: agent_name}
    for message in reversed(list(newest)):
        if message.role in names and message.text:
            print_heading(f"{names[message.role]}>")
            click.echo(clean(message.text))
