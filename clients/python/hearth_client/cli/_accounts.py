"""What the commands about accounts share: roles, scopes, finding users by name, asking before something is gone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hearth_client.cli._session import Failure, Session, is_id

if TYPE_CHECKING:
    from hearth.type.v1.access_pb2 import Role
    from hearth.user.v1.user_pb2 import User

ROLES = ("viewer", "member", "organization_admin", "platform_admin")
SCOPES = tuple(f"{domain}.{kind}" for domain in ("agent", "memory", "tool", "user") for kind in ("read", "write"))

Command = TypeVar("Command", bound=Callable[..., Any])


def role_value(name: str) -> Role.ValueType:
    """The API's value of a role; empty means none."""
    from hearth.type.v1.access_pb2 import Role

    return Role.Value(f"ROLE_{name.upper()}" if name else "ROLE_UNSPECIFIED")


def scope_option(command: Command) -> Command:
    """`--scope`: what a credential is limited to, as often as needed."""
    text = "Limit it to this, as agent.read or memory.write (which includes reading); repeat it for more. Default: all that the role allows."
    option = click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), metavar="SCOPE", help=text)
    return option(command)


def organization_option(command: Command) -> Command:
    """`--organization`: another than the caller's."""
    text = "Organization id; default: yours. For platform administrators."
    return click.option("--organization", default="", metavar="ID", help=text)(command)


def yes_option(command: Command) -> Command:
    """`--yes`: nobody is asked."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)


def confirm(question: str, yes: bool) -> None:
    """Asks at a terminal; in scripts nobody is there to answer. Aborts the command if the answer is no."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def find_user(session: Session, reference: str) -> User:
    """A user of the caller's organization, by id or by name."""
    from hearth_client.errors import NotFoundError

    try:
        if is_id("user", reference):
            return session.client.users.get(reference)
    except NotFoundError:
        pass
    else:
        for user in session.client.users.list(page_size=200):
            if user.name == reference:
                return user
    raise Failure(f"no user {reference!r} in your organization", "`hearth user list` shows them.")
