"""Revocations: which tokens are void before they expire, and for how long that must be remembered."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from user_svc.domain.token import LIFETIME

# No token lives longer; the rest is for clocks that differ.
REMEMBERED = LIFETIME + timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens of a subject (`key_…`, `user_…`, `org_…`, `issuer_…`) issued before `void_before`, None: all of them.

    `position` grows with each revocation that is recorded, whatever replica does it.
    """

    subject: str
    position: int
    void_before: datetime | None
    expire_time: datetime


def restored_from(disabled: datetime, now: datetime) -> datetime:
    """From when on tokens are good again for a subject that was disabled and is not any more.

    Tokens count in whole seconds, so none of the second in which it was disabled can be told apart from those before.
    """
    return max(disabled.replace(microsecond=0) + timedelta(seconds=1), now.replace(microsecond=0))
