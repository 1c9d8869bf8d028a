"""`hearth org`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hearth_client.cli._accounts import confirm, yes_option
from hearth_client.cli._output import first, label, note, print_fields, print_json, print_table, when
from hearth_client.cli._quotas import print_limits, print_purge, set_limits
from hearth_client.cli._session import Session, examples, json_option, limit_option, pass_session

if TYPE_CHECKING:
    from hearth.user.v1.organization_pb2 import Organization


@click.group(epilog=examples("hearth org show", "hearth org create acme", "hearth org disable org_…"))
def org() -> None:
    """Organizations: show yours; create, change and delete them as a platform administrator."""


@org.command("show", epilog=examples("hearth org show", "hearth org show org_… --deleted --json"))
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
            "changed": when(found, "update_time"),
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


@org.command("update", epilog=examples('hearth org update --display-name "Acme Inc."'))
@click.argument("organization_id", metavar="[ORGANIZATION]", default="")
@click.option("--display-name", required=True, help="Free text for people.")
@json_option
@pass_session
def update_organization(session: Session, organization_id: str, display_name: str, as_json: bool) -> None:
    """Change your organization, or the one with the id ORGANIZATION. For organization administrators."""
    found = session.client.organizations.get(organization_id)
    found.display_name = display_name
    _print(session.client.organizations.update(found, "display_name"), "changed", as_json)


@org.command("disable", epilog=examples("hearth org disable org_…"))
@click.argument("organization_id", metavar="ORGANIZATION")
@yes_option
@json_option
@pass_session
def disable_organization(session: Session, organization_id: str, yes: bool, as_json: bool) -> None:
    """Shut out the organization with the id ORGANIZATION. All its credentials are refused within seconds, its data is kept. For platform
    administrators.
    """
    from hearth.user.v1.organization_pb2 import OrganizationState

    found = session.client.organizations.get(organization_id)
    confirm(f"Disable organization {found.name}? Nobody of it can work then.", yes)
    found.state = OrganizationState.ORGANIZATION_STATE_DISABLED
    _print(session.client.organizations.update(found, "state"), "disabled", as_json)


@org.command("enable", epilog=examples("hearth org enable org_…"))
@click.argument("organization_id", metavar="ORGANIZATION")
@json_option
@pass_session
def enable_organization(session: Session, organization_id: str, as_json: bool) -> None:
    """Let a disabled organization work again. For platform administrators."""
    from hearth.user.v1.organization_pb2 import OrganizationState

    found = session.client.organizations.get(organization_id)
    found.state = OrganizationState.ORGANIZATION_STATE_ACTIVE
    _print(session.client.organizations.update(found, "state"), "enabled", as_json)


@org.command("delete", epilog=examples("hearth org delete org_… --yes", "hearth org delete org_… --purge-now"))
@click.argument("organization_id", metavar="ORGANIZATION")
@click.option("--purge-now", is_flag=True, help="Remove its data at once, without the time of grace.")
@yes_option
@pass_session
def delete_organization(session: Session, organization_id: str, purge_now: bool, yes: bool) -> None:
    """Delete the organization with the id ORGANIZATION. Its credentials are refused at once, its data is removed, for good. For platform
    administrators.
    """
    confirm(f"Delete organization {organization_id} with its users, agents and memory? This cannot be undone.", yes)
    session.client.organizations.delete(organization_id, purge_now=purge_now)
    note(f"deleted; how far the removal of its data is: hearth org show {organization_id} --deleted")


org.add_command(set_limits)


def _print(changed: Organization, what: str, as_json: bool) -> None:
    if as_json:
        print_json(changed)
        return
    note(f"{what} organization {changed.name} ({changed.id})")
