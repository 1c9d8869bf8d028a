"""`hearth tool`."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from hearth_client._tool_decorator import ToolOptions


@click.group()
def tool() -> None:
    """Push, list, show, run and delete tools.

    A tool is a Python file. Its last top-level function is what agents call: name, description and arguments come from its signature and
    docstring. It runs in a sandbox, without network and files.
    """


@tool.command(
    epilog=examples(
        "hearth tool push roll_dice.py",
        "hearth tool push my_tools.py --function roll_dice --tag games",
        "hearth tool push - --name roll_dice < dice.py",
    )
)
@click.argument("file")
@click.option("--function", default="", help="Push this function of FILE and what it uses, instead of the whole file.")
@click.option("--name", default="", help="Name; default: the function's.")
@click.option("--description", default="", help="What it does, told to the model; default: from the docstring.")
@click.option("--tag", "tags", multiple=True, help="A label. Repeatable.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.001, 600), help="Seconds a call may take; default 30.")
@json_option
@pass_session
def push(
    session: Session,
    file: str,
    function: str,
    name: str,
    description: str,
    tags: tuple[str, ...],
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Create the tool in FILE, or change the tool of that name to it. - reads standard input.

    A file whose functions have the decorator @hearth_client.tool is pushed function by function. Nothing of it is executed.
    """
    from hearth_client._tool_decorator import ToolOptions

    given: dict[str, Any] = {"name": name, "description": description, "tags": tags, "timeout_s": timeout_s}
    chosen = {option: value for option, value in given.items() if value}
    found = list(_sources(read_text(file if file == "-" else f"@{file}"), function))
    if len(found) > 1 and (name or description):
        raise Failure("FILE has several tools", "--function chooses the one that --name or --description is for.")
    pushed: list[Any] = []
    for source, decorated in found:
        try:
            options = ToolOptions(**{**decorated, **chosen})
        except TypeError as error:
            raise Failure(f"@tool: {error}") from None
        pushed.append(_push(session, source, options))
        if not as_json:
            _tell_pushed(pushed[-1])
    if as_json:
        print_json(pushed[0] if len(pushed) == 1 else pushed)


def _sources(text: str, function: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each tool of a file: its source, and the keywords of its decorator."""
    from hearth_client._tool_source import decorated_tools, extract

    try:
        decorated = {one.function: one.options for one in decorated_tools(text)}
        for name in [function] if function else decorated:
            yield extract(text, name), decorated.get(name, {})
    except ValueError as error:
        raise Failure(str(error)) from None
    if not function and not decorated:
        yield text, {}


def _push(session: Session, source: str, options: "ToolOptions") -> Any:
    return session.client.tools.upsert(
        source,
        name=options.name,
        description=options.description,
        tags=options.tags,
        settings=options.settings(),
    )


def _tell_pushed(pushed: Any) -> None:
    click.echo(pushed.tool.id)
    arguments = ", ".join(sorted(to_dict(pushed.tool).get("parameters", {}).get("properties", {})))
    done = "created" if pushed.created else "stored"
    note(f"{done} tool {pushed.tool.name}({arguments}), version {pushed.tool.version}")


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
        }
    )
    print_heading("arguments")
    click.echo(to_json(to_dict(found).get("parameters", {}), indent=2))
    if found.source_code:
        print_heading("source")
        click.echo(for_terminal(found.source_code))


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
