"""`hearth mcp`."""

from typing import Any

import click

from hearth_client.cli._output import (
    first,
    label,
    note,
    print_fields,
    print_heading,
    print_json,
    print_table,
    shorten,
    when,
)
from hearth_client.cli._session import Failure, Session, examples, is_id, json_option, limit_option, pass_session

# How a header refers to a stored value.
_REFERENCE = "secret:"


@click.group()
def mcp() -> None:
    """Add, list, show, sync and remove MCP servers.

    A server of the Model Context Protocol offers tools. Once synced they are tools of your organization, named after their server: `add` of
    the server `math` is math_add.
    """


@mcp.command(
    epilog=examples(
        "hearth mcp add docs https://mcp.example.org/mcp",
        "hearth mcp add github https://mcp.example.org/mcp --header Authorization=secret:GITHUB_TOKEN",
        "hearth mcp add notes --secret NOTES_KEY -- /opt/servers/notes --read-only",
    )
)
@click.argument("name")
@click.argument("target", nargs=-1, required=True, metavar="URL | -- COMMAND [ARGUMENT]...")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=secret:SECRET",
    help="A header whose value is that secret; a bearer token where it is Authorization. Repeatable.",
)
@click.option("--secret", "secrets", multiple=True, help="A secret that COMMAND gets in its environment. Repeatable.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.001, 600), help="Seconds a call may take; default 30.")
@click.option("--sync/--no-sync", "syncs", default=True, help="Read its tools now; default: yes.")
@json_option
@pass_session
def add(
    session: Session,
    name: str,
    target: tuple[str, ...],
    headers: tuple[str, ...],
    secrets: tuple[str, ...],
    timeout_s: float | None,
    syncs: bool,
    as_json: bool,
) -> None:
    """Register the server NAME: at URL, or run as COMMAND where the operator allows that."""
    is_url = len(target) == 1 and "://" in target[0]
    server = session.client.mcp_servers.create(
        name,
        url=target[0] if is_url else "",
        command=() if is_url else target,
        header_secrets=_headers(headers),
        secrets=secrets,
        timeout_s=timeout_s or 0,
    )
    if syncs:
        _sync(session, server.id, as_json)
    elif as_json:
        print_json(server)
    else:
        click.echo(server.id)
        note(f"added MCP server {name}; `hearth mcp sync {name}` reads its tools")


@mcp.command("list", epilog=examples("hearth mcp list", "hearth mcp list --json"))
@limit_option
@json_option
@pass_session
def list_servers(session: Session, limit: int, as_json: bool) -> None:
    """List MCP servers by name."""
    found = first(session.client.mcp_servers.list(), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "transport", "target", "synced", "problem", "id"),
        (
            (s.name, label(s, "transport"), shorten(_target(s)), when(s, "sync_time"), shorten(s.sync_error), s.id)
            for s in found
        ),
    )


@mcp.command(epilog=examples("hearth mcp show github"))
@click.argument("name", metavar="SERVER")
@json_option
@pass_session
def show(session: Session, name: str, as_json: bool) -> None:
    """Show SERVER, given by name or id, and its tools."""
    server = _get(session, name)
    if as_json:
        print_json(server)
        return
    print_fields(
        {
            "name": server.name,
            "id": server.id,
            "transport": label(server, "transport"),
            "target": _target(server),
            "headers": ", ".join(f"{header}={_REFERENCE}{secret}" for header, secret in server.header_secrets.items()),
            "secrets": ", ".join(server.secrets),
            "timeout": f"{server.timeout_ms / 1000:g} s" if server.timeout_ms else "",
            "synced": when(server, "sync_time"),
            "problem": server.sync_error,
        }
    )
    from hearth.tool.v1.tool_pb2 import ToolKind

    found = session.client.tools.list(name_prefix=f"{server.name}_", kind=ToolKind.TOOL_KIND_MCP)
    print_heading("tools")
    print_table(("name", "version", "description"), ((t.name, t.version, shorten(t.description)) for t in found))


@mcp.command(epilog=examples("hearth mcp sync github"))
@click.argument("name", metavar="SERVER")
@json_option
@pass_session
def sync(session: Session, name: str, as_json: bool) -> None:
    """Read the tools of SERVER again: what is new, what changed, what is gone."""
    _sync(session, _get(session, name).id, as_json)


@mcp.command(epilog=examples("hearth mcp remove github"))
@click.argument("name", metavar="SERVER")
@pass_session
def remove(session: Session, name: str) -> None:
    """Remove SERVER and its tools."""
    server = _get(session, name)
    session.client.mcp_servers.delete(server.id)
    note(f"removed MCP server {server.name} ({server.id}) and its tools")


def _sync(session: Session, server_id: str, as_json: bool) -> None:
    synced = session.client.mcp_servers.sync(server_id)
    if as_json:
        print_json(synced)
        return
    click.echo(synced.mcp_server.id)
    for what, names in (("added", synced.added), ("changed", synced.updated), ("removed", synced.removed)):
        if names:
            note(f"{what} {', '.join(names)}")
    for refusal in synced.refused:
        note(f"refused {refusal.name or 'a tool without a name'}: {refusal.problem}")
    if not (synced.added or synced.updated or synced.removed):
        note("nothing changed")


def _headers(given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        header, _, value = one.partition("=")
        if not header or not value.startswith(_REFERENCE):
            hint = f"not NAME={_REFERENCE}SECRET, as Authorization={_REFERENCE}GITHUB_TOKEN (the value itself is not given here)"
            raise click.BadParameter(hint, param_hint="--header")
        found[header] = value.removeprefix(_REFERENCE)
    return found


def _target(server: Any) -> str:
    return server.url or " ".join(server.command)


def _get(session: Session, name: str) -> Any:
    from hearth_client.errors import NotFoundError

    try:
        if is_id("mcp", name):
            return session.client.mcp_servers.get(name)
    except NotFoundError:
        pass
    for server in session.client.mcp_servers.list():
        if server.name == name:
            return server
    raise Failure(f"no MCP server {name!r}", "`hearth mcp list` shows them.")
