"""`hearth audit`: what it asks for, what it shows, and what it exits with."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from hearth.user.v1.audit_event_pb2 import AuditEvent
from hearth_client import Hearth
from hearth_client._audit_chain import AuditProblem, AuditVerdict, Mark
from hearth_client.cli import cli
from hearth_client.cli._session import Session

_HASH = "ab" * 32


class FakeHearth:
    """Answers what a test sets."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.verdict = AuditVerdict(7, Mark(7, _HASH))
        self.audit = SimpleNamespace(list=self._list, verify=self._verify)

    def close(self) -> None:
        pass

    def _list(self, **wanted: Any) -> Iterator[AuditEvent]:
        self.asked.append(wanted)
        yield AuditEvent(
            seq=2,
            id="audit_2",
            actor="svc:agent_svc",
            on_behalf_of="user_1",
            action="hearth.tool.v1.ToolExecutionService.ExecuteTool",
            resource="tool_1",
            outcome="OK",
            count=1,
        )
        yield AuditEvent(seq=1, actor="user_1", action="x.v1.Y.Z", outcome="NOT_FOUND", count=41)

    def _verify(self, expected: Mark | None) -> AuditVerdict:
        self.asked.append(expected)
        return self.verdict


@pytest.fixture
def fake() -> FakeHearth:
    return FakeHearth()


def run(fake: FakeHearth, *words: str) -> Result:
    session = Session("http://h:1", "hk_x", client=cast(Hearth, fake))
    return CliRunner().invoke(cli, ["audit", *words], obj=session, env={"HEARTH_DEBUG": ""})


def test_a_table_of_records(fake: FakeHearth) -> None:
    result = run(fake, "list")
    assert result.exit_code == 0
    assert "svc:agent_svc for user_1" in result.stdout
    assert "ToolExecutionService.ExecuteTool" in result.stdout
    assert "NOT_FOUND × 41" in result.stdout


def test_records_as_json_and_the_filters(fake: FakeHearth) -> None:
    result = run(
        fake,
        "list",
        "--json",
        "--outcome",
        "ok",
        "--actor",
        "user_1",
        "--since",
        "2h",
        "--until",
        "2026-05-04T03:02:01Z",
    )
    assert [event["seq"] for event in json.loads(result.stdout)] == ["2", "1"]
    (wanted,) = fake.asked
    assert (wanted["outcome"], wanted["actor"], wanted["resource"]) == ("OK", "user_1", "")
    assert abs(datetime.now(UTC) - timedelta(hours=2) - wanted["from_time"]) < timedelta(minutes=1)
    assert wanted["to_time"] == datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize("time", ["x", "5", "5w", "2026-13-01"])
def test_what_is_no_time_is_said(fake: FakeHearth, time: str) -> None:
    result = run(fake, "list", "--since", time)
    assert result.exit_code == 2
    assert "is not a time like" in result.stderr


def test_a_good_log(fake: FakeHearth) -> None:
    result = run(fake, "verify")
    assert result.exit_code == 0
    assert f"7:{_HASH}" in result.stdout
    assert fake.asked == [None]
    said = json.loads(run(fake, "verify", "--expect", f"3:{_HASH.upper()}", "--json").stdout)
    assert said == {"broken": None, "head": f"7:{_HASH}", "verified_count": 7}
    assert fake.asked[1] == Mark(3, _HASH)


def test_a_broken_log_is_named_and_exits_with_1(fake: FakeHearth) -> None:
    fake.verdict = AuditVerdict(2, Mark(2, _HASH), AuditProblem(3, "audit_3", "the hash does not fit"))
    result = run(fake, "verify")
    assert result.exit_code == 1
    assert "broken at record 3 (audit_3): the hash does not fit" in result.stderr
    as_json = run(fake, "verify", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["broken"] == {"seq": 3, "id": "audit_3", "problem": "the hash does not fit"}


@pytest.mark.parametrize("mark", ["7", "7:ab", f"0:{_HASH}", f"seven:{_HASH}"])
def test_what_is_no_mark_is_said(fake: FakeHearth, mark: str) -> None:
    result = run(fake, "verify", "--expect", mark)
    assert result.exit_code == 2
    assert "64 digits of hex" in result.stderr
