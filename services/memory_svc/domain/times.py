"""Time bounds as people write them."""

import re
from datetime import UTC, date, datetime, timedelta

from chassis.errors import InvalidArgument, invalid_field

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def start_of(text: str, field: str) -> datetime | None:
    """The first moment that a bound includes: a time, or the beginning of a date (UTC). Empty: none.

    Raises InvalidArgument naming `field` for anything else.
    """
    if not text:
        return None
    if _DATE.fullmatch(text):
        return _day(text, field)
    return _moment(text, field)


def end_of(text: str, field: str) -> datetime | None:
    """The first moment that a bound excludes: right after a time, or the end of that day for a date (UTC). Empty: none."""
    if not text:
        return None
    is_date = _DATE.fullmatch(text) is not None
    last = _day(text, field) if is_date else _moment(text, field)
    try:
        return last + (timedelta(days=1) if is_date else timedelta(microseconds=1))
    except OverflowError:
        # The end of the calendar, which people write for "for ever".
        return datetime.max.replace(tzinfo=UTC)


def _day(text: str, field: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise _wrong(field) from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _moment(text: str, field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        # Without an offset a time means nothing; at the edges of the calendar it has no other zone.
        return moment.astimezone(UTC) if moment.tzinfo is not None else _refuse(field)
    except (ValueError, OverflowError):
        raise _wrong(field) from None


def _refuse(field: str) -> datetime:
    raise _wrong(field)


def _wrong(field: str) -> InvalidArgument:
    return invalid_field(field, "must be a date (2026-03-01) or an RFC 3339 time (2026-03-01T12:00:00Z)")
