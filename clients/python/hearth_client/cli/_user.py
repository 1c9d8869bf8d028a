"""`hearth user`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hearth_client.cli._accounts import ROLES, confirm, find_user, organization_option, role_value, yes_option
from hearth_client.cli._output import first, label, note, print_fields, print_json, print_table, when
from hearth_client.cli._session import Session, examples, json_option, limit_option, pass_session

if TYPE_CHECKING:
    from hearth.user.v1.user_pb2 import User


@click.group(epilog=examples("hearth user list", "hearth user create ada --role member", "hearth user disable ada"))
def user() -> None:
    """Users of your organization: show, create, change, disable and delete them."""


@user.command("list", epilog=examples("hearth user list"))
@limit_option
@json_option
@pass_session
def list_users(session: Session, limit: int, as_json: bool) -> None:
    """List your organization's users, oldest first. Those who came with the token of a trusted issuer are `from` there."""
    found = first(session.client.users.list(), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "role", "email", "from", "disabled", "created", "id"),
        (
            (
                u.name,
                label(u, "role"),
                u.email,
                u.external_issuer,
                "yes" if u.disabled else "",
                when(u, "create_time"),
                u.id,
            )
            for u in found
        ),
    )


@user.command("show", epilog=examples("hearth user show ada"))
@click.argument("user_name", metavar="USER")
@json_option
@pass_session
def show_user(session: Session, user_name: str, as_json: bool) -> None:
    """Show USER, given by name or id."""
    found = find_user(session, user_name)
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "name": found.name,
            "id": found.id,
            "display name": found.display_name,
            "email": found.email,
            "role": label(found, "role"),
            "disabled": "yes" if found.disabled else "no",
            "from": found.external_issuer,
            "there": found.external_subject,
            "created": when(found, "create_time"),
            "changed": when(found, "update_time"),
        }
    )


@user.command("create", epilog=examples("hearth user create ada --role member --email ada@example.com"))
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="member", show_default=True, help="What it may do.")
@click.option("--email", default="", help="E-mail address.")
@click.option("--display-name", default="", help="Free text for people.")
@organization_option
@json_option
@pass_session
def create_user(
    session: Session, name: str, role: str, email: str, display_name: str, organization: str, as_json: bool
) -> None:
    """Create the user NAME."""
    made = session.client.users.create(
        name, role=role_value(role), email=email, display_name=display_name, organization_id=organization
    )
    if as_json:
        print_json(made)
        return
    click.echo(made.id)
    elsewhere = f" --organization {organization}" if organization else ""
    note(f"created user {made.name}; a key for it: hearth key create --user {made.id}{elsewhere}")


@user.command(
    "update", epilog=examples("hearth user update ada --role organization_admin", 'hearth user update ada --email ""')
)
@click.argument("user_name", metavar="USER")
@click.option("--role", type=click.Choice(ROLES), help="What it may do; counts within 15 minutes.")
@click.option("--email", help="E-mail address; empty: none.")
@click.option("--display-name", help="Free text for people.")
@json_option
@pass_session
def update_user(
    session: Session, user_name: str, role: str | None, email: str | None, display_name: str | None, as_json: bool
) -> None:
    """Change USER, given by name or id."""
    given = {"role": role, "email": email, "display_name": display_name}
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise click.UsageError("say what to change: --role, --email or --display-name")
    found = find_user(session, user_name)
    for name, value in wanted.items():
        setattr(found, name, role_value(value) if name == "role" else value)
    _print(session.client.users.update(found, *wanted), "changed", as_json)


@user.command("disable", epilog=examples("hearth user disable ada"))
@click.argument("user_name", metavar="USER")
@yes_option
@json_option
@pass_session
def disable_user(session: Session, user_name: str, yes: bool, as_json: bool) -> None:
    """Refuse all credentials of USER, given by name or id, within seconds."""
    found = find_user(session, user_name)
    confirm(f"Disable user {found.name}? Its keys, tokens and open streams stop working.", yes)
    found.disabled = True
    _print(session.client.users.update(found, "disabled"), "disabled", as_json)


@user.command("enable", epilog=examples("hearth user enable ada"))
@click.argument("user_name", metavar="USER")
@json_option
@pass_session
def enable_user(session: Session, user_name: str, as_json: bool) -> None:
    """Let a disabled USER, given by name or id, work again."""
    found = find_user(session, user_name)
    found.disabled = False
    _print(session.client.users.update(found, "disabled"), "enabled", as_json)


@user.command("delete", epilog=examples("hearth user delete ada --yes"))
@click.argument("user_name", metavar="USER")
@yes_option
@pass_session
def delete_user(session: Session, user_name: str, yes: bool) -> None:
    """Delete USER, given by name or id, and revoke its keys. Who came with the token of a trusted issuer comes back with the next one: to keep
    somebody out, disable.
    """
    found = find_user(session, user_name)
    confirm(f"Delete user {found.name} and revoke its keys?", yes)
    session.client.users.delete(found.id)
    note(f"deleted user {found.name} ({found.id})")


def _print(changed: User, what: str, as_json: bool) -> None:
    if as_json:
        print_json(changed)
        return
    note(f"{what} user {changed.name} ({changed.id})")
