"""`hearth audit`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from hearth_client.cli._output import first, note, print_fields, print_json, print_table, when
from hearth_client.cli._session import Failure, Session, examples, json_option, limit_option, pass_session

if TYPE_CHECKING:
    from hearth.user.v1.audit_event_pb2 import AuditEvent
    from hearth_client._audit_chain import Mark

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


@click.group()
def audit() -> None:
    """Read and verify the audit log: who did what, when, on whose behalf. For organization administrators."""


@audit.command(
    "list",
    epilog=examples(
        "hearth audit list --since 24h",
        "hearth audit list --outcome PERMISSION_DENIED",
        "hearth audit list --resource run_…",
    ),
)
@click.option("--actor", default="", metavar="ID", help="Only what this user (user_…) or service (svc:…) did.")
@click.option("--on-behalf-of", default="", metavar="ID", help="Only what was done on behalf of this user.")
@click.option(
    "--action", default="", metavar="METHOD", help="Only this method, as hearth.user.v1.ApiKeyService.CreateApiKey."
)
@click.option("--resource", default="", metavar="ID", help="Only what was done to this.")
@click.option("--outcome", default="", metavar="CODE", help="Only with this outcome, as OK or PERMISSION_DENIED.")
@click.option("--request-id", default="", metavar="ID", help="Only of the call with this request id.")
@click.option(
    "--since", default="", metavar="TIME", help="Only from then on: 30m, 12h, 7d ago, or 2026-05-04T03:02:01Z."
)
@click.option("--until", default="", metavar="TIME", help="Only before then.")
@limit_option
@json_option
@pass_session
def list_events(
    session: Session,
    actor: str,
    on_behalf_of: str,
    action: str,
    resource: str,
    outcome: str,
    request_id: str,
    since: str,
    until: str,
    limit: int,
    as_json: bool,
) -> None:
    """List records, newest first."""
    events = session.client.audit.list(
        actor=actor,
        on_behalf_of=on_behalf_of,
        action=action,
        resource=resource,
        outcome=outcome.upper(),
        request_id=request_id,
        from_time=_time(since, "--since"),
        to_time=_time(until, "--until"),
        page_size=min(limit or 200, 200),
    )
    found = first(events, limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("seq", "time", "actor", "action", "resource", "outcome", "request"),
        ((e.seq, when(e, "create_time"), _actor(e), _action(e), e.resource, _outcome(e), e.request_id) for e in found),
    )


@audit.command(epilog=examples("hearth audit verify", "hearth audit verify --expect 1042:9f86d081884c7d65…"))
@click.option(
    "--expect",
    "expected",
    default="",
    metavar="SEQ:HASH",
    help="The log must have this record: what an earlier verify printed as its head.",
)
@json_option
@pass_session
def verify(session: Session, expected: str, as_json: bool) -> None:
    """Recompute the chain of hashes here, from the records, and name the first that does not fit.

    Prints the head of the log as SEQ:HASH. Keep it somewhere else: with --expect a later verify finds out if the end of the log was cut off or the
    log was rewritten as a whole, which no chain can show by itself. Exits with 1 when something is wrong.
    """
    verdict = session.client.audit.verify(_mark(expected) if expected else None)
    problem = verdict.problem
    if as_json:
        print_json(
            {
                "verified_count": verdict.verified_count,
                "head": str(verdict.head),
                "broken": None
                if problem is None
                else {"seq": problem.seq, "id": problem.id, "problem": problem.problem},
            }
        )
    else:
        print_fields({"records": verdict.verified_count, "head": str(verdict.head) if verdict.head.seq else ""})
    if problem is not None:
        name = f"record {problem.seq} ({problem.id})" if problem.id else f"record {problem.seq}"
        raise Failure(f"the audit log is broken at {name}: {problem.problem}")
    if not as_json:
        note("every record is what it was when it was written")


def _mark(text: str) -> Mark:
    from hearth_client._audit_chain import Mark

    try:
        return Mark.parse(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not like 1042:9f86…, 64 digits of hex", param_hint="--expect") from None


def _time(text: str, option: str) -> datetime | None:
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is not None:
        return datetime.now(UTC) - int(match[1]) * _UNITS[match[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is not a time like 30m, 12h, 7d or 2026-05-04T03:02:01Z"
        raise click.BadParameter(message, param_hint=option) from None
    return moment if moment.tzinfo else moment.astimezone()


def _actor(event: AuditEvent) -> str:
    return f"{event.actor} for {event.on_behalf_of}" if event.on_behalf_of else event.actor


def _action(event: AuditEvent) -> str:
    """The method without its package: services have names of their own."""
    return ".".join(event.action.split(".")[-2:])


def _outcome(event: AuditEvent) -> str:
    return event.outcome if event.count == 1 else f"{event.outcome} × {event.count}"
