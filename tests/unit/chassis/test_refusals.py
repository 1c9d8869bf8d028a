"""Refused calls are recorded once a minute and counted in between, and a call's record is settled once."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chassis import audit, ids
from chassis.audit import AuditRecord, PendingRecord
from chassis.audit.declared import AuditRule, Declared
from chassis.audit.refusals import WINDOW_S, Refusals
from chassis.callcontext import Call, set_call
from chassis.identity import NO_ORGANIZATION, Identity, Role

_ALWAYS = Declared(AuditRule.ALWAYS)


@pytest.fixture(autouse=True)
def _no_call() -> Iterator[None]:
    yield
    set_call(None)


def _refusal(actor: str = "user_1", action: str = "shop.Sell", outcome: str = "PERMISSION_DENIED") -> AuditRecord:
    organization_id = ids.new()
    return AuditRecord(ids.new(), organization_id, actor, "", action, "shoe_1", outcome, "request-1", datetime.now(UTC))


def test_the_first_is_recorded_and_the_others_become_one_with_their_count() -> None:
    refusals = Refusals()
    refusal = _refusal()
    assert refusals.is_first(refusal)
    for _ in range(41):
        assert not refusals.is_first(replace(refusal, id=ids.new()))
    assert refusals.collect() == []
    (summary,) = refusals.collect(everything=True)
    assert (summary.count, summary.actor, summary.action) == (41, refusal.actor, refusal.action)
    assert (summary.resource, summary.request_id) == ("", "")
    assert summary.id != refusal.id
    assert refusals.collect(everything=True) == []


def test_one_more_is_recorded_as_it_was() -> None:
    refusals = Refusals()
    refusal = _refusal()
    assert refusals.is_first(refusal)
    second = replace(refusal, id=ids.new())
    assert not refusals.is_first(second)
    assert refusals.collect(everything=True) == [second]


@pytest.mark.parametrize("other", ["actor", "action", "outcome", "on_behalf_of"])
def test_what_differs_is_recorded_by_itself(other: str) -> None:
    refusals = Refusals()
    refusal = _refusal()
    assert refusals.is_first(refusal)
    assert refusals.is_first(replace(refusal, **{other: "another"}))
    assert not refusals.is_first(replace(refusal, resource="another"))


def test_after_a_minute_the_next_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = Refusals()
    refusal = _refusal()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert refusals.is_first(refusal)
    assert not refusals.is_first(refusal)
    monkeypatch.setattr(time, "monotonic", lambda: now + WINDOW_S + 1)
    assert len(refusals.collect()) == 1
    assert refusals.is_first(refusal)


def test_kinds_beyond_the_limit_are_written_early_and_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.audit.refusals._MAX_KINDS", 3)
    refusals = Refusals()
    for number in range(5):
        refusal = _refusal(actor=f"user_{number}")
        assert refusals.is_first(refusal)
        assert not refusals.is_first(refusal)
    assert [record.actor for record in refusals.collect()] == ["user_0", "user_1"]


def _pending(rule: AuditRule = AuditRule.ALWAYS, role: Role = Role.MEMBER) -> PendingRecord:
    pending = PendingRecord(Declared(rule), "shop.Sell", "request-1", lambda: None)
    set_call(Call("/shop/Sell", "request-1", "", None, pending))
    pending.identify(Identity(ids.new(), "user_1", role, ""))
    return pending


def test_a_record_is_owed_until_it_is_kept() -> None:
    pending = _pending()
    assert audit.owed() is pending
    pending.kept()
    assert audit.owed() is None
    set_call(None)
    assert audit.owed() is None


def test_what_is_done_aside_owes_nothing() -> None:
    pending = _pending()
    with audit.aside():
        assert audit.owed() is None
    assert audit.owed() is pending


def test_an_answer_given_again_owes_nothing() -> None:
    _pending()
    audit.nothing_new()
    assert audit.owed() is None


def test_a_service_s_read_is_a_tool_call_and_a_person_s_is_not() -> None:
    assert not _pending(AuditRule.SERVICES, Role.PLATFORM_ADMIN).open
    assert _pending(AuditRule.SERVICES, Role.SERVICE).open


def test_without_an_organization_there_is_no_log_to_write_to() -> None:
    pending = PendingRecord(_ALWAYS, "shop.Sell", "request-1", lambda: None)
    assert not pending.open
    pending.identify(Identity(NO_ORGANIZATION, "svc:x", Role.SERVICE, ""))
    assert not pending.open
    pending.act_as(ids.new(), "user_1")
    assert pending.open


@pytest.mark.parametrize(
    ("resource", "refused", "done"),
    [
        ("tool_01h45ntb4pexnvskng1042k02q", True, True),
        ("hk_" + "A" * 43, False, True),
        ("my password is secret", False, False),
        ("SECRET_NAME", False, True),
        ("a\x00b", False, False),
        ("x" * 129, False, False),
    ],
)
def test_a_refused_call_leaves_no_text_that_is_no_id(resource: str, refused: bool, done: bool) -> None:
    pending = _pending()
    audit.concerning(resource)
    assert pending.record("NOT_FOUND").resource == (resource if refused else "")
    assert pending.record("OK").resource == (resource if done else "")
    assert pending.record("OK").id == pending.record("NOT_FOUND").id
