"""`hearth key`."""

import re
from datetime import UTC, datetime, timedelta

import click

from hearth_client.cli._accounts import confirm, find_user, organization_option, scope_option, yes_option
from hearth_client.cli._output import first, note, print_json, print_table, when
from hearth_client.cli._session import Session, examples, is_id, json_option, limit_option, pass_session

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


@click.group(epilog=examples("hearth key create --name ci --scope agent.write --expires-in 90d", "hearth key list"))
def key() -> None:
    """API keys: create, list and revoke them. (Keys that sign tokens: hearth keys.)"""


@key.command("list", epilog=examples("hearth key list", "hearth key list --user ada"))
@click.option("--user", "user_name", default="", metavar="USER", help="Only keys of this user, by name or id.")
@limit_option
@json_option
@pass_session
def list_keys(session: Session, user_name: str, limit: int, as_json: bool) -> None:
    """List API keys, oldest first. Yours, or all for organization administrators."""
    user_id = _user_id(session, user_name)
    found = first(session.client.api_keys.list(user_id=user_id), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "begins with", "user", "name", "scopes", "created", "expires", "last used", "revoked"),
        (
            (
                k.id,
                k.hint,
                k.user_id,
                k.display_name,
                " ".join(k.scopes) or "all",
                when(k, "create_time"),
                when(k, "expire_time"),
                when(k, "last_used_time"),
                when(k, "revoke_time"),
            )
            for k in found
        ),
    )


@key.command(
    "create",
    epilog=examples(
        "hearth key create --name ci --expires-in 90d",
        "hearth key create --user ada --scope agent.read --scope memory.read",
    ),
)
@click.option("--name", "display_name", default="", help="Free text to know it by.")
@click.option(
    "--user", "user_name", default="", metavar="USER", help="The user it acts as, by name or id; default: you."
)
@organization_option
@click.option(
    "--expires-in", default="", metavar="TIME", help="Until when it is good: 30m, 12h, 90d; default: for ever."
)
@scope_option
@json_option
@pass_session
def create_key(
    session: Session,
    display_name: str,
    user_name: str,
    organization: str,
    expires_in: str,
    scopes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Create an API key and print its secret, this once."""
    made = session.client.api_keys.create(
        display_name=display_name,
        # Those of another organization can only be named by id.
        user_id=user_name if organization else _user_id(session, user_name),
        organization_id=organization,
        expire_time=_expiry(expires_in) if expires_in else None,
        scopes=tuple(dict.fromkeys(scopes)),
    )
    if as_json:
        print_json(made)
        return
    click.echo(made.secret)
    note(f"created key {made.api_key.id}; keep the secret, it is not shown again")


@key.command("revoke", epilog=examples("hearth key revoke key_… --yes"))
@click.argument("key_id", metavar="KEY")
@yes_option
@pass_session
def revoke_key(session: Session, key_id: str, yes: bool) -> None:
    """Make the key with the id KEY useless. The tokens that were issued for it are refused within seconds; this cannot be undone."""
    confirm(f"Revoke {key_id}? Whatever uses it stops working.", yes)
    session.client.api_keys.revoke(key_id)
    note(f"revoked {key_id}")


def _user_id(session: Session, reference: str) -> str:
    if not reference or is_id("user", reference):
        return reference
    return find_user(session, reference).id


def _expiry(text: str) -> datetime:
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter(f"{text!r} is not a time like 30m, 12h or 90d", param_hint="--expires-in")
    return datetime.now(UTC) + int(match[1]) * _UNITS[match[2]]
