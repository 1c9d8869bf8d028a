"""`hearth org`, `user`, `key`, `keys`, `token` and `whoami`."""

import re
from datetime import UTC, datetime, timedelta

import click

from hearth_client.cli._output import (
    first,
    label,
    note,
    print_fields,
    print_json,
    print_table,
    to_dict,
    when,
)
from hearth_client.cli._quotas import delete_organization, print_limits, print_purge, set_limits
from hearth_client.cli._session import Session, examples, json_option, limit_option, pass_session

_ROLES = ("viewer", "member", "organization_admin", "platform_admin")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}

_organization_option = click.option(
    "--organization", default="", metavar="ID", help="Organization id; default: yours. For platform administrators."
)


@click.group()
def org() -> None:
    """Show, list, create, limit and delete organizations."""


@org.command("show", epilog=examples("hearth org show", "hearth org show org_01h… --deleted --json"))
@click.argument("organization_id", metavar="[ORGANIZATION]", default="")
@click.option("--deleted", is_flag=True, help="Also find a deleted one. For platform administrators.")
@json_option
@pass_session
def show_organization(session: Session, organization_id: str, deleted: bool, as_json: bool) -> None:
    """Show your organization, or the one with the id ORGANIZATION: its state, its limits, and what it uses of them now."""
    found = session.client.organizations.get(organization_id, include_usage=True, include_deleted=deleted)
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "name": found.name,
            "id": found.id,
            "display name": found.display_name,
            "state": label(found, "state"),
            "created": when(found, "create_time"),
            "deleted": when(found, "delete_time"),
        }
    )
    print_limits(found)
    print_purge(found)


@org.command("list", epilog=examples("hearth org list --json"))
@limit_option
@json_option
@pass_session
def list_organizations(session: Session, limit: int, as_json: bool) -> None:
    """List all organizations, oldest first. For platform administrators."""
    found = first(session.client.organizations.list(), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "state", "display name", "created", "id"),
        ((o.name, label(o, "state"), o.display_name, when(o, "create_time"), o.id) for o in found),
    )


@org.command("create", epilog=examples('hearth org create acme --display-name "Acme Ltd."'))
@click.argument("name")
@click.option("--display-name", default="", help="Free text for people.")
@json_option
@pass_session
def create_organization(session: Session, name: str, display_name: str, as_json: bool) -> None:
    """Create the organization NAME. For platform administrators."""
    made = session.client.organizations.create(name, display_name=display_name)
    if as_json:
        print_json(made)
        return
    click.echo(made.id)
    note(
        f"created organization {made.name}; its first user: hearth user create NAME --role organization_admin --organization {made.id}"
    )


org.add_command(set_limits)
org.add_command(delete_organization)


@click.group()
def user() -> None:
    """List and create users."""


@user.command("list", epilog=examples("hearth user list"))
@limit_option
@json_option
@pass_session
def list_users(session: Session, limit: int, as_json: bool) -> None:
    """List the users of your organization, oldest first."""
    found = first(session.client.users.list(), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "role", "email", "disabled", "created", "id"),
        ((u.name, label(u, "role"), u.email, "yes" if u.disabled else "", when(u, "create_time"), u.id) for u in found),
    )


@user.command("create", epilog=examples("hearth user create ada --role member --email ada@example.com"))
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), default="member", show_default=True, help="What it may do.")
@click.option("--email", default="", help="E-mail address.")
@click.option("--display-name", default="", help="Free text for people.")
@_organization_option
@json_option
@pass_session
def create_user(
    session: Session, name: str, role: str, email: str, display_name: str, organization: str, as_json: bool
) -> None:
    """Create the user NAME."""
    from hearth.type.v1.access_pb2 import Role

    made = session.client.users.create(
        name,
        role=Role.Value(f"ROLE_{role.upper()}"),
        email=email,
        display_name=display_name,
        organization_id=organization,
    )
    if as_json:
        print_json(made)
        return
    click.echo(made.id)
    elsewhere = f" --organization {organization}" if organization else ""
    note(f"created user {made.name}; a key for it: hearth key create --user {made.id}{elsewhere}")


@click.group()
def key() -> None:
    """Create, list and revoke API keys."""


@key.command("list", epilog=examples("hearth key list"))
@click.option("--user", "user_id", default="", metavar="ID", help="Only keys of this user.")
@limit_option
@json_option
@pass_session
def list_keys(session: Session, user_id: str, limit: int, as_json: bool) -> None:
    """List API keys, oldest first: yours, or all for organization administrators."""
    found = first(session.client.api_keys.list(user_id=user_id), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "begins with", "user", "name", "created", "expires", "revoked"),
        (
            (
                k.id,
                k.hint,
                k.user_id,
                k.display_name,
                when(k, "create_time"),
                when(k, "expire_time"),
                when(k, "revoke_time"),
            )
            for k in found
        ),
    )


@key.command("create", epilog=examples("hearth key create --name ci --expires-in 90d"))
@click.option("--name", "display_name", default="", help="Free text to know it by.")
@click.option("--user", "user_id", default="", metavar="ID", help="The user it acts as; default: you.")
@_organization_option
@click.option(
    "--expires-in", default="", metavar="TIME", help="Until when it is good: 30m, 12h, 90d; default: for ever."
)
@json_option
@pass_session
def create_key(
    session: Session, display_name: str, user_id: str, organization: str, expires_in: str, as_json: bool
) -> None:
    """Create an API key and print its secret, this once."""
    made = session.client.api_keys.create(
        display_name=display_name,
        user_id=user_id,
        organization_id=organization,
        expire_time=_expiry(expires_in) if expires_in else None,
    )
    if as_json:
        print_json(made)
        return
    click.echo(made.secret)
    note(f"created key {made.api_key.id}; keep the secret, it is not shown again")


@key.command("revoke", epilog=examples("hearth key revoke key_…"))
@click.argument("key_id", metavar="KEY")
@pass_session
def revoke_key(session: Session, key_id: str) -> None:
    """Make the key with the id KEY useless."""
    session.client.api_keys.revoke(key_id)
    note(f"revoked {key_id}")


@click.group()
def token() -> None:
    """Issue a token."""


@token.command("issue", epilog=examples('curl -H "Authorization: Bearer $(hearth token issue)" …'))
@json_option
@pass_session
def issue_token(session: Session, as_json: bool) -> None:
    """Print a token for your API key, good for 15 minutes, to use with curl or another client."""
    issued = session.client.tokens.issue()
    if as_json:
        print_json(issued)
        return
    click.echo(issued.token)


@click.group()
def keys() -> None:
    """Rotate the keys that sign tokens. (API keys: hearth key.)"""


@keys.command("rotate", epilog=examples("hearth keys rotate"))
@json_option
@pass_session
def rotate_keys(session: Session, as_json: bool) -> None:
    """Let a new key sign tokens, without a pause: it is published now and signs once everybody can know it; tokens of the old one stay good
    until they expire. For platform administrators.
    """
    rotation = session.client.tokens.rotate_signing_key()
    if as_json:
        print_json(rotation)
        return
    click.echo(rotation.key_id)
    signs, retires = when(rotation, "activate_time"), when(rotation, "previous_retire_time")
    note(f"the key is published, and signs from {signs} on; the one before it is withdrawn at {retires}")


@click.command(epilog=examples("hearth whoami"))
@json_option
@pass_session
def whoami(session: Session, as_json: bool) -> None:
    """Show who you are, in which organization, and what you may do."""
    me = session.client.tokens.whoami()
    if as_json:
        print_json(to_dict(me))
        return
    print_fields(
        {
            "user": f"{me.user.name} ({me.user.id})" if me.HasField("user") else me.subject,
            "role": label(me, "role"),
            "organization": f"{me.organization.name} ({me.organization.id})",
            "at": f"{session.settings.url} (from {session.settings.source})",
        }
    )


def _expiry(text: str) -> datetime:
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter(f"{text!r} is not a time like 30m, 12h or 90d", param_hint="--expires-in")
    return datetime.now(UTC) + int(match[1]) * _UNITS[match[2]]
