"""`hearth secret`."""

import sys

import click

from hearth_client.cli._output import first, note, print_json, print_table, when
from hearth_client.cli._session import Session, examples, json_option, limit_option, pass_session


@click.group()
def secret() -> None:
    """Set, list and delete the secrets that tools get.

    A tool gets the secrets that its settings name, as environment variables, for the time of a call. Their values are encrypted at rest and
    cannot be read back; where a tool prints one, it is masked.
    """


@secret.command(
    "set", epilog=examples("hearth secret set WEATHER_TOKEN", "hearth secret set WEATHER_TOKEN < token.txt")
)
@click.argument("name")
@json_option
@pass_session
def set_secret(session: Session, name: str, as_json: bool) -> None:
    """Set the secret NAME to what is typed, or comes on standard input (a line's end at its very end is dropped).

    The value is no argument, so that it is in no history and no list of processes.
    """
    if sys.stdin.isatty():
        value: str = click.prompt("Value", hide_input=True, confirmation_prompt=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    made = session.client.secrets.set(name, value)
    if as_json:
        print_json(made)
        return
    click.echo(made.id)
    note(f"set secret {made.name}; a tool names it in its settings to get it")


@secret.command("list", epilog=examples("hearth secret list"))
@limit_option
@json_option
@pass_session
def list_secrets(session: Session, limit: int, as_json: bool) -> None:
    """List secrets by name, without values."""
    found = first(session.client.secrets.list(), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "set", "created", "id"),
        ((s.name, when(s, "update_time"), when(s, "create_time"), s.id) for s in found),
    )


@secret.command(epilog=examples("hearth secret delete WEATHER_TOKEN"))
@click.argument("name")
@pass_session
def delete(session: Session, name: str) -> None:
    """Delete the secret NAME. Tools that need it fail until it is set again."""
    session.client.secrets.delete(name)
    note(f"deleted secret {name}")
