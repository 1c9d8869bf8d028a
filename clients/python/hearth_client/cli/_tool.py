"""`hearth tool`."""

import json
from typing import Any

import click

from hearth_client.cli._output import (
    clean,
    first,
    for_terminal,
    label,
    note,
    print_fields,
    print_heading,
    print_json,
    print_table,
    shorten,
    to_dict,
    to_json,
    when,
)
from hearth_client.cli._push import push
from hearth_client.cli._session import (
    Failure,
    Session,
    examples,
    is_id,
    json_option,
    limit_option,
    pass_session,
    read_text,
)


@click.group()
def tool() -> None:
    """Push, list, show, run and delete tools.

    A tool is a Python file. Its last top-level function is what agents call: name, description and arguments come from its signature and
    docstring. It runs in a sandbox, without files, and without network unless it names hosts.
    """


tool.add_command(push)


@tool.command("list", epilog=examples("hearth tool list", "hearth tool list --prefix roll --json"))
@click.option("--prefix", default="", help="Only names that begin so.")
@click.option("--tag", "tags", multiple=True, help="Only those with this label. Repeatable: with all of them.")
@click.option("--kind", type=click.Choice(["python", "mcp"]), help="Only these: of Python source, or of MCP servers.")
@limit_option
@json_option
@pass_session
def list_tools(
    session: Session, prefix: str, tags: tuple[str, ...], kind: str | None, limit: int, as_json: bool
) -> None:
    """List tools by name."""
    from hearth.tool.v1.tool_pb2 import ToolKind

    wanted = ToolKind.Value(f"TOOL_KIND_{kind.upper()}") if kind else ToolKind.TOOL_KIND_UNSPECIFIED
    found = first(session.client.tools.list(name_prefix=prefix, tags=tags, kind=wanted), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "kind", "version", "description", "changed", "id"),
        ((t.name, label(t, "kind"), t.version, shorten(t.description), when(t, "update_time"), t.id) for t in found),
    )


@tool.command(epilog=examples("hearth tool show roll_dice"))
@click.argument("name", metavar="TOOL")
@json_option
@pass_session
def show(session: Session, name: str, as_json: bool) -> None:
    """Show TOOL, given by name or id: its schema and its source."""
    found = _get(session, name)
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "name": found.name,
            "id": found.id,
            "kind": label(found, "kind"),
            "version": found.version,
            "description": found.description,
            "tags": ", ".join(found.tags),
            "changed": when(found, "update_time"),
            **_settings(found.settings),
        }
    )
    print_heading("arguments")
    click.echo(to_json(to_dict(found).get("parameters", {}), indent=2))
    if found.source_code:
        print_heading("source")
        click.echo(for_terminal(found.source_code))


def _settings(settings: Any) -> dict[str, object]:
    """What was said of how it runs; the rest is as Hearth's defaults are."""
    units = {"timeout_ms": "ms", "memory_mib": "MiB", "output_kib": "KiB", "return_limit": "characters"}
    given = {field.name: value for field, value in settings.ListFields()}
    return {
        **{name.rpartition("_")[0]: f"{given[name]:,} {unit}" for name, unit in units.items() if name in given},
        **{name.replace("_", " "): "yes" for name in ("requires_approval", "idempotent") if given.get(name)},
        "hosts": ", ".join(settings.network.allowed_hosts),
        "secrets": ", ".join(settings.secrets),
        "packages": ", ".join(settings.requirements),
    }


@tool.command(epilog=examples("""hearth tool run roll_dice --args '{"sides": 20}'"""))
@click.argument("name", metavar="TOOL")
@click.option(
    "--args", "arguments", default="{}", metavar="JSON", help="Its arguments, a JSON object; @FILE reads a file."
)
@click.option("--version", type=click.IntRange(min=1), default=None, help="This version of it; default: the newest.")
@json_option
@pass_session
def run(session: Session, name: str, arguments: str, version: int | None, as_json: bool) -> None:
    """Run TOOL, in its sandbox or at its MCP server, and print what it returns.

    What it prints itself goes to standard error. Exits with 1 if it fails.
    """
    values = _arguments(arguments)
    by_id = is_id("tool", name)
    responses = session.client.tools.execute(
        name if by_id else "", values, name="" if by_id else name, version=version or 0
    )
    result = None
    for response in responses:
        if response.HasField("output"):
            click.echo(clean(response.output.text), nl=False, err=True)
        else:
            result = response.result
    if result is None:
        raise Failure("the server ended the call without a result")
    if as_json:
        print_json(result)
    elif not result.HasField("error"):
        click.echo(for_terminal(result.text))
    if result.HasField("error"):
        trace = clean(result.error.traceback.rstrip())
        raise Failure(
            f"{name} {label(result, 'state')}: {result.error.type}: {result.error.message}", "" if as_json else trace
        )


@tool.command(epilog=examples("hearth tool delete roll_dice"))
@click.argument("name", metavar="TOOL")
@pass_session
def delete(session: Session, name: str) -> None:
    """Delete TOOL, given by name or id."""
    found = _get(session, name)
    session.client.tools.delete(found.id)
    note(f"deleted tool {found.name} ({found.id})")


@tool.command(epilog=examples("hearth tool versions roll_dice"))
@click.argument("name", metavar="TOOL")
@limit_option
@json_option
@pass_session
def versions(session: Session, name: str, limit: int, as_json: bool) -> None:
    """List what TOOL was, newest first."""
    found = first(session.client.tools.versions(_get(session, name).id), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("version", "changed", "author", "description"),
        ((v.tool.version, when(v.tool, "update_time"), v.author, shorten(v.tool.description)) for v in found),
    )


def _get(session: Session, name: str) -> Any:
    from hearth_client.errors import NotFoundError

    try:
        return session.client.tools.get(name) if is_id("tool", name) else session.client.tools.get(name=name)
    except NotFoundError:
        raise Failure(f"no tool {name!r}", "`hearth tool list` shows them.") from None


def _arguments(text: str) -> dict[str, Any]:
    try:
        values = json.loads(read_text(text))
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--args") from None
    if not isinstance(values, dict):
        raise click.BadParameter('not a JSON object, as {"sides": 20}', param_hint="--args")
    return values
