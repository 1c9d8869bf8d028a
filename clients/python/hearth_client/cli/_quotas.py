"""What an organization may use, what it uses, and its end: `hearth org limits`, and parts of `hearth org show`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hearth_client.cli._output import note, print_fields, print_heading, print_json, print_table, when
from hearth_client.cli._session import Failure, Session, examples, json_option, pass_session

if TYPE_CHECKING:
    from hearth.user.v1.organization_pb2 import Organization

Command = TypeVar("Command", bound=Callable[..., Any])

# Limit, the least that it can be, what it means, and where its use stands in OrganizationUsage.
_LIMITS = (
    ("requests_per_second", 1, "Calls a second.", ""),
    ("user_requests_per_second", 1, "Calls a second of each user.", ""),
    ("concurrent_runs", 0, "Runs that have not ended.", "active_runs"),
    ("user_concurrent_runs", 0, "Runs of each user that have not ended.", ""),
    ("stored_passages", 0, "Passages in archival memory.", "stored_passages"),
    ("tool_calls_per_minute", 0, "Executions of tools in a minute.", "tool_calls_last_minute"),
    ("max_tool_timeout_s", 1, "Seconds that a call of a tool may take.", ""),
    ("max_tool_memory_mib", 16, "MiB of memory that a call of a tool may use.", ""),
    ("max_tool_output_kib", 1, "KiB that are kept of what a tool prints.", ""),
    ("max_tool_packages", 0, "Python packages that a tool may name.", ""),
)
_NAMES = tuple(name for name, _, _, _ in _LIMITS)


def _limit_options(command: Command) -> Command:
    for name, least, meaning, _ in reversed(_LIMITS):
        option = click.option(f"--{name.replace('_', '-')}", name, type=click.IntRange(min=least), help=meaning)
        command = option(command)
    return command


@click.command(
    "limits",
    epilog=examples(
        "hearth org limits org_01h… --concurrent-runs 20 --tool-calls-per-minute 600",
        "hearth org limits org_01h… --default concurrent-runs",
    ),
)
@click.argument("organization_id", metavar="ORGANIZATION")
@_limit_options
@click.option(
    "--default",
    "defaults",
    multiple=True,
    type=click.Choice([name.replace("_", "-") for name in _NAMES]),
    help="Take this limit back to the operator's default. May be given several times.",
)
@json_option
@pass_session
def set_limits(
    session: Session, organization_id: str, defaults: tuple[str, ...], as_json: bool, **given: int | None
) -> None:
    """Set what ORGANIZATION (an id) may use; limits that are not named stay. For platform administrators.

    Without options: show the limits. They are in force everywhere within five seconds. 0 means none at all. For tools the
    operator's own limits hold too, whatever is set here.
    """
    from hearth.user.v1.organization_pb2 import Organization, OrganizationLimits

    values = {name: value for name, value in given.items() if value is not None}
    unset = [name.replace("-", "_") for name in defaults]
    if both := sorted(set(values) & set(unset)):
        raise Failure(f"{both[0].replace('_', '-')} cannot be set and be the default at the same time", "")
    if values or unset:
        change = Organization(id=organization_id, limits=OrganizationLimits(**values))
        session.client.organizations.update(change, *(f"limits.{name}" for name in (*values, *unset)))
    found = session.client.organizations.get(organization_id, include_usage=True)
    if as_json:
        print_json(found)
        return
    print_limits(found)


def print_limits(organization: Organization) -> None:
    """Limits and usage as a table. Nothing for an organization whose usage nobody was asked about."""
    if not organization.HasField("usage"):
        return
    click.echo()
    print_table(("limit", "in force", "in use"), _rows(organization))
    if organization.usage.unanswered:
        note(f"did not answer: {', '.join(organization.usage.unanswered)}")


def _rows(organization: Organization) -> Iterator[tuple[str, str, str]]:
    own = {field.name for field, _ in organization.limits.ListFields()}
    in_force = {field.name: value for field, value in organization.usage.limits.ListFields()}
    in_use = {field.name: value for field, value in organization.usage.ListFields()}
    for name, _, _, used in _LIMITS:
        value = in_force.get(name)
        # What any tool may use at most, only tool_svc knows.
        unlimited = "as the operator allows" if name.startswith("max_tool_") else "no limit"
        shown = unlimited if value is None else f"{value:,}"
        yield name.replace("_", " "), shown if name in own else f"{shown} (default)", _used(in_use, used)


def _used(in_use: dict[str, Any], name: str) -> str:
    if not name:
        return ""
    return f"{in_use[name]:,}" if name in in_use else "?"


def print_purge(organization: Organization) -> None:
    """How far the removal of a deleted organization's data is."""
    if not organization.HasField("purge"):
        return
    purge = organization.purge
    click.echo()
    print_heading("Removal of its data")
    print_fields({"begins": when(purge, "start_time"), "ended": when(purge, "end_time") or "not yet"})
    print_table(
        ("service", "ended", "removed"),
        (
            (
                one.service,
                when(one, "end_time") or "not yet",
                ", ".join(f"{count:,} {table}" for table, count in sorted(one.removed.items())),
            )
            for one in purge.services
        ),
    )
