"""The audit log: each call that does more than read leaves one record, in the transaction of its effect.

The edge opens the record of a call (`trail`), the database commits it with the first transaction that writes (`statements`), a relay takes it from the outbox
to user_svc (`outbox`, `relay`, `stream`). Handlers and managers need nothing of that; what they may have to say is here.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

from chassis.audit.record import OK, AuditRecord, PendingRecord
from chassis.callcontext import current_call, set_call

__all__ = [
    "OK",
    "AuditRecord",
    "PendingRecord",
    "acting_as",
    "answered",
    "aside",
    "concerning",
    "concluded",
    "nothing_new",
    "owed",
]


def concerning(resource: str) -> None:
    """Names what the call is about, where neither the request nor an answer kept for its request id does."""
    if (pending := _pending()) is not None:
        pending.resource = resource


def acting_as(organization_id: UUID, actor: str) -> None:
    """Says who calls, where no token does: whoever signs in."""
    if (pending := _pending()) is not None:
        pending.act_as(organization_id, actor)


def answered(response: bytes) -> None:
    """The answer that is kept with the effect: it names what the call made."""
    if (pending := _pending()) is not None:
        pending.answer = response


def concluded() -> None:
    """The effect of the call is complete: a caller who leaves now, with the answer, has not cancelled it."""
    if (pending := _pending()) is not None:
        pending.concluded = True


def nothing_new() -> None:
    """The call is answered as it was before: its record is there already."""
    if (pending := _pending()) is not None:
        pending.settle()


@contextmanager
def aside() -> Generator[None]:
    """A block that is not what the call is for: transactions in it do not hold the call's record."""
    call = current_call()
    if call is None or call.record is None:
        yield
        return
    set_call(replace(call, record=None))
    try:
        yield
    finally:
        set_call(call)


def owed() -> PendingRecord | None:
    """The record that the next transaction of this call which writes something must hold."""
    pending = _pending()
    return pending if pending is not None and pending.owed else None


def _pending() -> PendingRecord | None:
    call = current_call()
    return None if call is None else call.record
