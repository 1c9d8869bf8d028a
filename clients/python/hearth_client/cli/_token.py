"""`hearth token`, `keys` and `whoami`."""

import click

from hearth_client.cli._output import label, note, print_fields, print_json, print_table, to_dict, when
from hearth_client.cli._session import Session, examples, json_option, pass_session


@click.group()
def token() -> None:
    """Tokens: what an API key is exchanged for."""


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


@click.group(epilog=examples("hearth keys list", "hearth keys rotate"))
def keys() -> None:
    """The keys that sign tokens: list and rotate them. (API keys: hearth key.)"""


@keys.command("list", epilog=examples("hearth keys list"))
@json_option
@pass_session
def list_signing_keys(session: Session, as_json: bool) -> None:
    """List the public keys that tokens may be signed with, newest first."""
    found = session.client.tokens.signing_keys()
    if as_json:
        print_json(found)
        return
    print_table(("id", "algorithm", "public key"), ((k.kid, k.alg, k.x) for k in found))


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
            "scopes": " ".join(me.scopes),
            "organization": f"{me.organization.name} ({me.organization.id})",
            "at": f"{session.settings.url} (from {session.settings.source})",
        }
    )
