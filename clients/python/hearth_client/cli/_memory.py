"""`hearth memory`: what is remembered. The commands that look after it are in `_memory_upkeep`."""

import click

from hearth_client.cli._memory_upkeep import COMMANDS
from hearth_client.cli._output import (
    first,
    for_terminal,
    note,
    print_heading,
    print_json,
    print_table,
    shorten,
    when,
)
from hearth_client.cli._session import Failure, Session, examples, json_option, limit_option, pass_session, read_text

_MODES = ("hybrid", "dense", "lexical")


@click.group()
def memory() -> None:
    """Add to an agent's memory, search it, see its blocks; move it, restore it, look after its index."""


@memory.command(
    epilog=examples(
        'hearth memory add --agent demo "Rex is afraid of thunder."',
        "hearth memory add --agent demo --tag manual @manual.txt",
    )
)
@click.argument("text")
@click.option("--agent", "agent_name", metavar="AGENT", required=True, help="Whose memory, by name or id.")
@click.option("--tag", "tags", multiple=True, help="A label. Repeatable.")
@json_option
@pass_session
def add(session: Session, text: str, agent_name: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Store TEXT as a passage of archival memory. @FILE reads a file, - standard input."""
    content = read_text(text)
    if not content.strip():
        raise Failure("there is nothing to remember: the text is empty")
    agent_id = session.agent(agent_name).id
    from hearth.memory.v1.archival_memory_service_pb2 import PassageSpec

    stored = session.client.memory.insert(agent_id, [PassageSpec(text=content, tags=tags)]).passages[0]
    if as_json:
        print_json(stored)
        return
    click.echo(stored.id)
    if stored.near_duplicate_of:
        note(f"nearly the same was there already: {stored.near_duplicate_of}")


@memory.command(
    epilog=examples(
        'hearth memory search --agent demo "what is the dog afraid of"',
        'hearth memory search --agent demo --messages "dog"',
    )
)
@click.argument("query")
@click.option("--agent", "agent_name", metavar="AGENT", default="", help="Whose memory; default: all agents'.")
@click.option("--messages", "in_messages", is_flag=True, help="Search what was said, instead of the passages.")
@click.option(
    "--mode", type=click.Choice(_MODES), default="hybrid", show_default=True, help="By meaning, words or both."
)
@click.option("--limit", type=click.IntRange(1, 200), default=10, show_default=True, help="At most so many.")
@click.option("--explain", is_flag=True, help="Say why each hit has its place.")
@json_option
@pass_session
def search(
    session: Session,
    query: str,
    agent_name: str,
    in_messages: bool,
    mode: str,
    limit: int,
    explain: bool,
    as_json: bool,
) -> None:
    """Search an agent's memory for QUERY, best hits first."""
    agent_id = session.agent(agent_name).id if agent_name else ""
    from hearth.memory.v1.search_pb2 import SearchMode

    number = SearchMode.Value(f"SEARCH_MODE_{mode.upper()}")
    if in_messages:
        said = session.client.memory.search_messages(
            query, agent_id=agent_id, mode=number, top_k=limit, explain=explain
        )
        degraded = said.degraded
        if as_json:
            print_json(said.hits)
            return
        rows = [
            (f"{h.score:.3f}", h.message.role, shorten(h.message.text, 100), _why(h.explanation), h.message.message_id)
            for h in said.hits
        ]
    else:
        found = session.client.memory.search(query, agent_id=agent_id, mode=number, top_k=limit, explain=explain)
        degraded = found.degraded
        if as_json:
            print_json(found.hits)
            return
        rows = [
            (
                f"{h.score:.3f}",
                ", ".join(h.passage.tags),
                shorten(h.passage.text, 100),
                _why(h.explanation),
                h.passage.id,
            )
            for h in found.hits
        ]
    columns = ("score", "role" if in_messages else "tags", "text", "why", "id")
    shown = range(5) if explain else (0, 1, 2, 4)
    print_table([columns[i] for i in shown], ([row[i] for i in shown] for row in rows))
    if degraded:
        note("the vector index did not answer: found by words only")


@memory.command(epilog=examples("hearth memory blocks --agent demo"))
@click.option("--agent", "agent_name", metavar="AGENT", default="", help="Whose; default: all blocks.")
@limit_option
@json_option
@pass_session
def blocks(session: Session, agent_name: str, limit: int, as_json: bool) -> None:
    """Print the core memory blocks: what is always in the agent's context."""
    agent_id = session.agent(agent_name).id if agent_name else ""
    found = first(session.client.blocks.list(agent_id=agent_id), limit)
    if as_json:
        print_json(found)
        return
    for block in found:
        flags = " · read-only" if block.read_only else ""
        size = f"{len(block.value)} of {block.limit} characters"
        print_heading(
            f"{block.label} · {size} · version {block.version}{flags} · {when(block, 'update_time')} · {block.id}"
        )
        _print_value(block.value)
    if not found:
        note("none")


for _command in COMMANDS:
    memory.add_command(_command)


def _print_value(value: str) -> None:
    click.echo(f"{for_terminal(value)}\n" if value else "(empty)\n")


def _why(explanation: object) -> str:
    """What each signal added to the score, most first; in lists with the place."""
    signals = sorted(getattr(explanation, "signals", ()), key=lambda s: -abs(s.contribution))
    return ", ".join(f"{s.signal}{f' #{s.rank}' if s.rank else ''} {s.contribution:+.2f}" for s in signals)
