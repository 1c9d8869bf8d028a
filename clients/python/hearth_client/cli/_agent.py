"""`hearth agent`."""

import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from hearth_client.cli._output import first, model_label, note, print_fields, print_json, print_table, shorten, when
from hearth_client.cli._session import Session, examples, json_option, limit_option, pass_session, read_text

if TYPE_CHECKING:
    from hearth.agent.v1.agent_pb2 import ToolRule


@click.group()
def agent() -> None:
    """Create, list, show, export, import and delete agents."""


@agent.command(
    epilog=examples(
        "hearth agent create demo",
        'hearth agent create dm --model openai/gpt-4.1-mini --tool roll_dice --block persona="A fair dungeon master."',
        "hearth agent create clerk --instructions @clerk.md",
        "hearth agent create --template support --var customer=ACME",
    )
)
@click.argument("name", default="")
@click.option("--model", default="", help="Model, as `hearth model list` shows it; default: this Hearth's default.")
@click.option("--instructions", default="", metavar="TEXT", help="System prompt; @FILE reads a file, - standard input.")
@click.option("--description", default="", help="What it is for.")
@click.option("--tool", "tools", multiple=True, metavar="TOOL", help="A tool it may call, by name or id. Repeatable.")
@click.option("--block", "blocks", multiple=True, metavar="LABEL=TEXT", help="A core memory block. Repeatable.")
@click.option("--tag", "tags", multiple=True, help="A label to find it by. Repeatable.")
@click.option(
    "--template", default="", metavar="NAME", help="A template to begin with; what is said here differs from it."
)
@click.option("--template-version", type=click.IntRange(min=0), default=0, help="Of the template; default: the newest.")
@click.option("--var", "variables", multiple=True, metavar="K=V", help="A variable of the template. Repeatable.")
@json_option
@pass_session
def create(
    session: Session,
    name: str,
    model: str,
    instructions: str,
    description: str,
    tools: tuple[str, ...],
    blocks: tuple[str, ...],
    tags: tuple[str, ...],
    template: str,
    template_version: int,
    variables: tuple[str, ...],
    as_json: bool,
) -> None:
    """Create the agent NAME, with its default conversation and its memory.

    NAME may be left out if a template says it.
    """
    if not name and not template:
        raise click.UsageError("Missing argument 'NAME'.")
    made = session.client.agents.create(
        name,
        model=model,
        instructions=read_text(instructions),
        description=description,
        tools=tools,
        blocks=dict(_block(block) for block in blocks),
        tags=tags,
        template=template,
        template_version=template_version,
        variables=dict(_pair(one, "--var", "K=V") for one in variables),
    )
    if as_json:
        print_json(made)
        return
    click.echo(made.id)
    note(f"created agent {made.name} with {model_label(made.model)}; talk to it: hearth chat --agent {made.name}")


@agent.command("list", epilog=examples("hearth agent list", "hearth agent list --tag production --json"))
@click.option("--tag", "tags", multiple=True, help="Only those with this label. Repeatable: with all of them.")
@click.option("--text", default="", help="Only those with this in their name or description.")
@limit_option
@json_option
@pass_session
def list_agents(session: Session, tags: tuple[str, ...], text: str, limit: int, as_json: bool) -> None:
    """List agents, newest first."""
    agents = first(session.client.agents.list(tags=tags, text=text), limit)
    if as_json:
        print_json(agents)
        return
    print_table(
        ("name", "model", "description", "created", "id"),
        ((a.name, a.model or "(default)", shorten(a.description), when(a, "create_time"), a.id) for a in agents),
    )


@agent.command(epilog=examples("hearth agent show demo"))
@click.argument("agent_name", metavar="AGENT")
@json_option
@pass_session
def show(session: Session, agent_name: str, as_json: bool) -> None:
    """Show AGENT, given by name or id."""
    found = session.agent(agent_name)
    if as_json:
        print_json(found)
        return
    settings = ", ".join(f"{field.name}={value}" for field, value in found.settings.ListFields())
    print_fields(
        {
            "name": found.name,
            "id": found.id,
            "model": found.model or "(default)",
            "description": found.description,
            "instructions": found.instructions,
            "tools": ", ".join(found.tool_ids),
            "tool rules": "; ".join(_rule(one) for one in found.tool_rules),
            "tags": ", ".join(found.tags),
            "settings": settings,
            "conversation": found.default_conversation_id,
            "created": when(found, "create_time"),
            "changed": when(found, "update_time"),
        }
    )


@agent.command(epilog=examples("hearth agent delete demo --yes"))
@click.argument("agent_name", metavar="AGENT")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def delete(session: Session, agent_name: str, yes: bool) -> None:
    """Delete AGENT, given by name or id, with its conversations and its memory.

    Asks first when it runs in a terminal.
    """
    found = session.agent(agent_name)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete agent {found.name} with its conversations and its memory?", abort=True, err=True)
    session.client.agents.delete(found.id)
    note(f"deleted agent {found.name} ({found.id})")


def _rule(one: "ToolRule") -> str:
    """As `allowed_after search: read, answer`."""
    kind = one.WhichOneof("kind")
    if kind is None:
        return "unknown to this version"
    values = [value for _, value in getattr(one, kind).ListFields()]
    texts = [
        value if isinstance(value, str) else str(value) if isinstance(value, int) else ", ".join(value)
        for value in values
    ]
    if kind == "allowed_after" and len(texts) == 1:
        texts.append("none")
    return f"{kind} {': '.join(texts)}"


@agent.command(epilog=examples("hearth agent export demo > demo.jsonl", "hearth agent export demo --to demo.jsonl"))
@click.argument("agent_name", metavar="AGENT")
@click.option("--to", "file", type=click.File("wb", lazy=True), default="-", help="Where to; default: standard output.")
@pass_session
def export(session: Session, agent_name: str, file: BinaryIO) -> None:
    """Write AGENT, given by name or id, to a file: with its tools, memory blocks, conversations and messages."""
    found = session.agent(agent_name)
    size = 0
    for part in session.client.agents.export(found.id):
        size += len(part)
        file.write(part)
    note(f"exported agent {found.name}, {size:,} bytes")


@agent.command(
    "import", epilog=examples("hearth agent import demo.jsonl", "hearth agent import demo.jsonl --name twin")
)
@click.argument("file", type=click.File("rb"))
@click.option("--name", default="", help="What to call it; default: as it was called.")
@click.option(
    "--tools",
    type=click.Choice(["refuse", "keep", "replace"]),
    default="refuse",
    show_default=True,
    help="Where another tool has the name: import nothing, keep that tool, or replace it for all agents that have it.",
)
@json_option
@pass_session
def import_agent(session: Session, file: BinaryIO, name: str, tools: str, as_json: bool) -> None:
    """Make the agent that `hearth agent export` wrote to FILE."""
    from hearth.agent.v1.agent_service_pb2 import ToolConflict

    conflict = ToolConflict.Value(f"TOOL_CONFLICT_{tools.upper()}")
    made = session.client.agents.import_file(file.read(), name=name, tool_conflict=conflict)
    if as_json:
        print_json(made)
        return
    click.echo(made.id)
    note(f"imported agent {made.name}; talk to it: hearth chat --agent {made.name}")


def _block(text: str) -> tuple[str, str]:
    label, value = _pair(text, "--block", "LABEL=TEXT")
    return label, read_text(value)


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    left, separator, right = text.partition("=")
    if not separator:
        raise click.BadParameter(f"{text!r} is not {form}", param_hint=option)
    return left, right
