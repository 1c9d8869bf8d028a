"""`hearth tool push`: the functions of a file become tools, read from its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hearth_client.cli._output import note, print_json, to_dict
from hearth_client.cli._session import Failure, Session, examples, json_option, pass_session, read_text

if TYPE_CHECKING:
    from hearth_client._tool_options import ToolOptions

Command = TypeVar("Command", bound=Callable[..., Any])

_WHOLE = click.IntRange(min=1)
# The options of the decorator, under the same names.
_OPTIONS = (
    click.option("--name", help="Name; default: the function's."),
    click.option("--description", help="What it does, told to the model; default: from the docstring."),
    click.option("--tag", "tags", multiple=True, help="A label. Repeatable."),
    click.option(
        "--timeout", "timeout_s", type=click.FloatRange(0.001, 600), help="Seconds a call may take; default 30."
    ),
    click.option("--memory", "memory_mib", type=_WHOLE, metavar="MIB", help="Memory a call may use; default 256 MiB."),
    click.option("--output", "output_kib", type=_WHOLE, metavar="KIB", help="Kept of what it prints; default 64 KiB."),
    click.option(
        "--return-limit", type=_WHOLE, metavar="CHARACTERS", help="What the model sees of a result; default 50,000."
    ),
    click.option(
        "--approval/--no-approval",
        "requires_approval",
        default=None,
        help="Whether a person must approve each call; default: no.",
    ),
    click.option(
        "--idempotent/--not-idempotent",
        "idempotent",
        default=None,
        help="Whether an interrupted call may be repeated; default: no.",
    ),
    click.option(
        "--allow-host",
        "allowed_hosts",
        multiple=True,
        metavar="HOST[:PORT]",
        help="A host that it may reach, as in api.example.com or *.example.org:8443; default: none. Repeatable.",
    ),
    click.option("--secret", "secrets", multiple=True, help="A secret that it gets in its environment. Repeatable."),
    click.option(
        "--requirement",
        "requirements",
        multiple=True,
        metavar="PACKAGE",
        help="A Python package that it imports, as in humanize==4.9.0, where the operator allows that. Repeatable.",
    ),
)


def _tool_options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(
    epilog=examples(
        "hearth tool push roll_dice.py",
        "hearth tool push my_tools.py --function roll_dice --tag games",
        "hearth tool push weather.py --allow-host api.example.com --secret WEATHER_KEY --timeout 10",
        "hearth tool push - --name roll_dice < dice.py",
    )
)
@click.argument("file")
@click.option("--function", default="", help="Push this function of FILE and what it uses, instead of the whole file.")
@_tool_options
@json_option
@pass_session
def push(session: Session, file: str, function: str, as_json: bool, **given: Any) -> None:
    """Create the tool in FILE, or change the tool of that name to it. - reads standard input.

    A file whose functions have the decorator @hearth_client.tool is pushed function by function, each with the options of its decorator;
    those given here come before them. Nothing of the file is executed, so the decorator's options must be literals.
    """
    from hearth_client._tool_options import ToolOptions

    chosen = {option: value for option, value in given.items() if value not in (None, "", ())}
    found = list(_sources(read_text(file if file == "-" else f"@{file}"), function))
    if len(found) > 1 and ("name" in chosen or "description" in chosen):
        raise Failure("FILE has several tools", "--function chooses the one that --name or --description is for.")
    pushed: list[Any] = []
    for source, decorated in found:
        try:
            options = ToolOptions(**{**decorated, **chosen})
        except TypeError as error:
            raise Failure(str(error)) from None
        pushed.append(_push(session, source, options))
        if not as_json:
            _tell_pushed(pushed[-1])
    if as_json:
        print_json(pushed[0] if len(pushed) == 1 else pushed)


def _sources(text: str, function: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each tool of a file: its source, and the options of its decorator."""
    from hearth_client._tool_source import decorated_tools, extract

    try:
        decorated = {one.function: one.options for one in decorated_tools(text)}
        for name in [function] if function else decorated:
            yield extract(text, name), decorated.get(name, {})
    except ValueError as error:
        raise Failure(str(error)) from None
    if not function and not decorated:
        yield text, {}


def _push(session: Session, source: str, options: ToolOptions) -> Any:
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
