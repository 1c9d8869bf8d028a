"""`hearth issuer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hearth_client.cli._accounts import ROLES, confirm, role_value, scope_option, yes_option
from hearth_client.cli._output import first, label, note, print_fields, print_json, print_table, when
from hearth_client.cli._session import Session, examples, json_option, limit_option, pass_session

if TYPE_CHECKING:
    from hearth.type.v1.access_pb2 import Role
    from hearth.user.v1.trusted_issuer_pb2 import TrustedIssuer

_GRANTED = ROLES[:3]


@click.group(
    epilog=examples(
        "hearth issuer create https://login.example.com --audience hearth --default-role viewer", "hearth issuer list"
    )
)
def issuer() -> None:
    """Trusted issuers: whose OpenID Connect tokens your organization accepts like Hearth's own. For organization administrators."""


@issuer.command("list", epilog=examples("hearth issuer list --json"))
@limit_option
@json_option
@pass_session
def list_issuers(session: Session, limit: int, as_json: bool) -> None:
    """List the issuers that your organization trusts, oldest first."""
    found = first(session.client.trusted_issuers.list(), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("issuer", "audience", "state", "name", "problem", "id"),
        ((i.issuer, i.audience, label(i, "state"), i.display_name, i.problem, i.id) for i in found),
    )


@issuer.command("show", epilog=examples("hearth issuer show issuer_…"))
@click.argument("issuer_id", metavar="ISSUER")
@json_option
@pass_session
def show_issuer(session: Session, issuer_id: str, as_json: bool) -> None:
    """Show the trusted issuer with the id ISSUER. If its keys cannot be read, this says why."""
    found = session.client.trusted_issuers.get(issuer_id)
    if as_json:
        print_json(found)
        return
    claim = found.required_claim
    print_fields(
        {
            "issuer": found.issuer,
            "id": found.id,
            "display name": found.display_name,
            "audience": found.audience,
            "required claim": f"{claim.name}={claim.value}" if found.HasField("required_claim") else "",
            "role claim": found.role_claim,
            "roles": "\n".join(f"{one.value} → {label(one, 'role')}" for one in found.role_mappings),
            "others": label(found, "default_role") or "are refused",
            "scopes": " ".join(found.scopes) or "all",
            "state": label(found, "state"),
            "problem": found.problem,
            "created": when(found, "create_time"),
            "changed": when(found, "update_time"),
        }
    )


@issuer.command(
    "create",
    epilog=examples(
        "hearth issuer create https://login.example.com --audience hearth --default-role viewer",
        "hearth issuer create https://sso.example.com/realms/acme --audience hearth --role-claim realm_access.roles"
        " --role hearth-admins=organization_admin --role staff=member",
        "hearth issuer create https://login.example.com --audience hearth --require tid=acme --default-role member",
    ),
)
@click.argument("address", metavar="ISSUER")
@click.option("--audience", required=True, help="What `aud` of its tokens must hold.")
@click.option("--display-name", default="", help="Free text for people.")
@click.option("--require", metavar="CLAIM=VALUE", help="What else its tokens must say, where others share the issuer.")
@click.option("--role-claim", default="", metavar="CLAIM", help="The claim that says what its bearer may do.")
@click.option("--role", "roles", multiple=True, metavar="VALUE=ROLE", help="What a value of it means; repeat it.")
@click.option("--default-role", type=click.Choice(_GRANTED), help="The role of everybody else; default: refused.")
@scope_option
@json_option
@pass_session
def create_issuer(
    session: Session,
    address: str,
    audience: str,
    display_name: str,
    require: str | None,
    role_claim: str,
    roles: tuple[str, ...],
    default_role: str | None,
    scopes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Trust an issuer. ISSUER is the `iss` of its tokens, an https address; its keys are found from there."""
    made = session.client.trusted_issuers.create(
        address,
        audience,
        display_name=display_name,
        required_claim=_pair(require, "--require") if require is not None else None,
        role_claim=role_claim,
        roles=_roles(roles),
        default_role=role_value(default_role or ""),
        scopes=tuple(dict.fromkeys(scopes)),
    )
    if as_json:
        print_json(made)
        return
    click.echo(made.id)
    note(f"tokens of {made.issuer} for {made.audience} are accepted within seconds; hearth issuer show {made.id}")


@issuer.command("update", epilog=examples("hearth issuer update issuer_… --default-role member"))
@click.argument("issuer_id", metavar="ISSUER")
@click.option("--display-name", help="Free text for people.")
@click.option("--role-claim", metavar="CLAIM", help="The claim that says what its bearer may do.")
@click.option(
    "--role", "roles", multiple=True, metavar="VALUE=ROLE", help="What a value of it means, instead of before."
)
@click.option("--default-role", type=click.Choice((*_GRANTED, "none")), help="The role of everybody else.")
@json_option
@pass_session
def update_issuer(
    session: Session,
    issuer_id: str,
    display_name: str | None,
    role_claim: str | None,
    roles: tuple[str, ...],
    default_role: str | None,
    as_json: bool,
) -> None:
    """Change what an issuer's tokens mean. It counts within seconds, for those in use too. ISSUER is the trusted issuer's id."""
    found = session.client.trusted_issuers.get(issuer_id)
    paths: list[str] = []
    if display_name is not None:
        found.display_name = display_name
        paths.append("display_name")
    if role_claim is not None:
        found.role_claim = role_claim
        paths.append("role_claim")
    if roles or role_claim == "":
        del found.role_mappings[:]
        for value, role in _roles(roles).items():
            found.role_mappings.add(value=value, role=role)
        paths.append("role_mappings")
    if default_role is not None:
        found.default_role = role_value("" if default_role == "none" else default_role)
        paths.append("default_role")
    if not paths:
        raise click.UsageError("say what to change: --display-name, --role-claim, --role or --default-role")
    _print(session.client.trusted_issuers.update(found, *paths), "changed", as_json)


@issuer.command("disable", epilog=examples("hearth issuer disable issuer_…"))
@click.argument("issuer_id", metavar="ISSUER")
@yes_option
@json_option
@pass_session
def disable_issuer(session: Session, issuer_id: str, yes: bool, as_json: bool) -> None:
    """Refuse an issuer's tokens. Those in use stop working within seconds. ISSUER is the trusted issuer's id."""
    from hearth.user.v1.trusted_issuer_pb2 import TrustedIssuerState

    confirm(f"Refuse the tokens of {issuer_id}? Who came with them is shut out.", yes)
    found = session.client.trusted_issuers.get(issuer_id)
    found.state = TrustedIssuerState.TRUSTED_ISSUER_STATE_DISABLED
    _print(session.client.trusted_issuers.update(found, "state"), "disabled", as_json)


@issuer.command("enable", epilog=examples("hearth issuer enable issuer_…"))
@click.argument("issuer_id", metavar="ISSUER")
@json_option
@pass_session
def enable_issuer(session: Session, issuer_id: str, as_json: bool) -> None:
    """Accept the tokens of a disabled issuer again."""
    from hearth.user.v1.trusted_issuer_pb2 import TrustedIssuerState

    found = session.client.trusted_issuers.get(issuer_id)
    found.state = TrustedIssuerState.TRUSTED_ISSUER_STATE_ENABLED
    _print(session.client.trusted_issuers.update(found, "state"), "enabled", as_json)


@issuer.command("delete", epilog=examples("hearth issuer delete issuer_… --yes"))
@click.argument("issuer_id", metavar="ISSUER")
@yes_option
@pass_session
def delete_issuer(session: Session, issuer_id: str, yes: bool) -> None:
    """Trust an issuer no longer. Users that came with its tokens stay, with their API keys. ISSUER is the trusted issuer's id."""
    confirm(f"No longer trust {issuer_id}? Who came with its tokens is shut out.", yes)
    session.client.trusted_issuers.delete(issuer_id)
    note(f"deleted trusted issuer {issuer_id}")


def _roles(given: tuple[str, ...]) -> dict[str, Role.ValueType]:
    found: dict[str, Role.ValueType] = {}
    for one in given:
        value, role = _pair(one, "--role")
        if role not in _GRANTED:
            raise click.BadParameter(f"{role!r} is none of {', '.join(_GRANTED)}", param_hint="--role")
        found[value] = role_value(role)
    return found


def _pair(text: str, option: str) -> tuple[str, str]:
    """Split at the last `=`: values may hold one, roles do not."""
    name, mark, value = text.partition("=") if option == "--require" else text.rpartition("=")
    if not mark or not name or not value:
        raise click.BadParameter(f"{text!r} has not the form of NAME=VALUE", param_hint=option)
    return name, value


def _print(changed: TrustedIssuer, what: str, as_json: bool) -> None:
    if as_json:
        print_json(changed)
        return
    note(f"{what} trusted issuer {changed.issuer} ({changed.id})")
