"""How long a provider wants to be left alone, in all the forms in which providers say it."""

from __future__ import annotations

import email.utils
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from agent_svc.adapters.models.failures import from_error_object, from_response
from agent_svc.adapters.models.waiting import duration_s, retry_after_s
from agent_svc.domain.model import ModelRateLimited, ModelUnavailable


def test_retry_after_is_read_in_all_its_forms() -> None:
    in_ten = email.utils.formatdate(time.time() + 10, usegmt=True)
    assert retry_after_s({"Retry-After": "7"}) == 7
    assert retry_after_s({"retry-after-ms": "1500", "Retry-After": "2"}) == 1.5
    assert retry_after_s({"Retry-After": in_ten}) == pytest.approx(10, abs=2)
    assert retry_after_s({"Retry-After": "-3"}) == 0
    for nonsense in ("", "soon", "inf", "nan", "Mon, 99 Foo"):
        assert retry_after_s({"Retry-After": nonsense}) is None


def test_only_the_limits_that_are_used_up_count() -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1h",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0.5s",
    }
    assert retry_after_s(headers) == 360.5
    assert retry_after_s({**headers, "Retry-After": "3"}) == 3
    assert retry_after_s({**headers, "x-ratelimit-remaining-tokens": "1"}) is None


def test_reset_times_of_every_kind() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=1200)
    for header, value in (
        ("x-ratelimit-reset-requests", "20m"),
        ("x-ratelimit-reset", "1200"),
        ("X-RateLimit-Reset", str(int(moment.timestamp() * 1000))),
        ("x-ratelimit-reset", str(int(moment.timestamp()))),
        ("ratelimit-reset", "1200"),
        ("anthropic-ratelimit-tokens-reset", moment.isoformat()),
        ("anthropic-ratelimit-requests-reset", moment.strftime("%Y-%m-%dT%H:%M:%SZ")),
    ):
        assert retry_after_s({header: value}) == pytest.approx(1200, abs=60), header


def test_a_reset_that_cannot_be_a_wait_is_passed_over() -> None:
    for value in ("", "soon", "99999999", "9" * 30, "1.2.3s"):
        assert retry_after_s({"x-ratelimit-reset": value}) is None
    assert retry_after_s({"x-ratelimit-resetting": "5"}) is None


def test_a_limit_that_is_used_up_with_its_reset_before_the_name() -> None:
    headers = {"anthropic-ratelimit-tokens-reset": "40s", "anthropic-ratelimit-tokens-remaining": "900"}
    assert retry_after_s(headers) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("6m0s", 360), ("2m59.56s", 179.56), ("1h2m3s", 3723), ("7", None), ("", None), ("5 s", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


def test_what_stands_in_the_body_is_found() -> None:
    def wait(body: object) -> float | None:
        error = from_response("S", "m", 429, {}, json.dumps(body).encode())
        assert isinstance(error, ModelRateLimited)
        return error.retry_after_s

    assert wait({"error": {"message": "Rate limit reached. Please try again in 1m1.5s. Visit"}}) == 61.5
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "27s"}
    assert wait([{"error": {"code": 429, "message": "slow", "details": [{"@type": "x"}, info]}}]) == 27
    headers = {
        "X-RateLimit-Limit": "20",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str((time.time() + 9) * 1000),
    }
    assert wait({"error": {"code": 429, "message": "slow", "metadata": {"headers": headers}}}) == pytest.approx(
        9, abs=2
    )
    assert wait({"error": {"message": "Too many requests"}}) is None

    inside = from_error_object("S", "m", {"code": 429, "message": "slow down, retry after 3s"})
    assert isinstance(inside, ModelRateLimited)
    assert inside.retry_after_s == 3
    down = from_response("S", "m", 503, {"Retry-After": "4"}, b"")
    assert isinstance(down, ModelUnavailable)
    assert down.retry_after_s == 4
