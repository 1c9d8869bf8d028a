"""How long a provider wants to be left alone, read from the many places where providers say it."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from datetime import datetime

# A reset further away than this is no wait but a number that was misread.
_FARTHEST_S = 7 * 24 * 3600.0
_RESET = re.compile(r"^(?:x-|anthropic-)?ratelimit-(?:reset(?P<after>-.+)?|(?P<before>.+)-reset)$")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_IN_WORDS = re.compile(r"(?:try again|retry) (?:in|after) ((?:\d+(?:\.\d+)?(?:ms|h|m|s))+)", re.IGNORECASE)


def retry_after_s(headers: Mapping[str, str], reason: str = "") -> float | None:
    """Seconds to wait; None when nothing says so.

    First `retry-after-ms` and `Retry-After` (seconds or an HTTP date), then the reset times of the limits that are used up
    (OpenAI's `x-ratelimit-reset-requests: 1s`, Anthropic's `anthropic-ratelimit-tokens-reset`, OpenRouter's
    `X-RateLimit-Reset` in milliseconds), at last the provider's own words.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds = _number(lower.get("retry-after-ms", ""))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    if value := lower.get("retry-after", ""):
        seconds = _number(value)
        if seconds is None:
            seconds = _until_http_date(value)
        if seconds is not None:
            return max(0.0, seconds)
    resets = [_until_reset(value) for name, value in lower.items() if _is_used_up(name, lower)]
    known = [seconds for seconds in resets if seconds is not None]
    if known:
        return max(known)
    found = _IN_WORDS.search(reason)
    return duration_s(found[1]) if found else None


def duration_s(text: str) -> float | None:
    """Seconds of a duration such as `6m0s`, `20ms` or `1.5s`; None for anything else."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _is_used_up(name: str, headers: Mapping[str, str]) -> bool:
    """Whether `name` is the reset of a limit of which nothing remains, as far as the headers tell."""
    match = _RESET.match(name)
    if match is None:
        return False
    remaining = headers.get(name.replace("reset", "remaining"))
    return remaining is None or _number(remaining) == 0


def _until_reset(value: str) -> float | None:
    """A reset is a duration, seconds from now, a date, or a point in time in seconds or milliseconds since 1970."""
    number, now = _number(value), time.time()
    if number is None:
        seconds = duration_s(value)
        if seconds is None:
            seconds = _until_iso_date(value)
    elif number > 1e11:
        seconds = number / 1000 - now
    else:
        seconds = number - now if number > 1e8 else number
    return None if seconds is None or seconds > _FARTHEST_S else max(0.0, seconds)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _until_http_date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None


def _until_iso_date(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
