"""`hearth conversation`."""

import click

from hearth_client.cli._output import (
    first,
    for_terminal,
    label,
    note,
    print_heading,
    print_json,
    print_table,
    shorten,
    when,
)
from hearth_client.cli._session import Session, examples, is_id, json_option, limit_option, pass_session


@click.group()
def conversation() -> None:
    """List conversations and read their messages."""


@conversation.command(
    "list", epilog=examples("hearth conversation list", "hearth conversation list --agent demo --json")
)
@click.option("--agent", "agent_name", metavar="AGENT", default="", help="Only this agent's, by name or id.")
@limit_option
@json_option
@pass_session
def list_conversations(session: Session, agent_name: str, limit: int, as_json: bool) -> None:
    """List conversations, newest first."""
    agent_id = session.agent(agent_name).id if agent_name else ""
    found = first(session.client.conversations.list(agent_id=agent_id), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "agent", "events", "last changed", "name"),
        ((c.id, c.agent_id, c.head_seq, when(c, "update_time"), c.display_name) for c in found),
    )


@conversation.command(
    epilog=examples("hearth conversation messages demo", "hearth conversation messages conv_… --limit 0 --json")
)
@click.argument("where", metavar="AGENT|CONVERSATION")
@limit_option
@json_option
@pass_session
def messages(session: Session, where: str, limit: int, as_json: bool) -> None:
    """Print the newest messages of a conversation (its id, or the agent whose default conversation it is), oldest first."""
    conversation_id = where if is_id("conv", where) else session.agent(where).default_conversation_id
    found = first(session.client.conversations.messages(conversation_id, newest_first=True), limit)
    found.reverse()
    if as_json:
        print_json(found)
        return
    for message in found:
        print_heading(f"{label(message, 'role')} · {when(message, 'create_time')} · {message.id}")
        if message.text:
            click.echo(for_terminal(message.text))
        for call in message.tool_calls:
            note(f"calls {call.name}({shorten(call.arguments_json, 200)})")
        click.echo()
