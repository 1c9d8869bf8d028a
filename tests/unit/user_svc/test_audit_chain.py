"""The chain of hashes: its encoding is fixed, and two implementations of it, the server's and the client's, agree."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from chassis.audit import AuditRecord
from hearth.user.v1.audit_event_pb2 import AuditEvent as Message
from hearth_client._audit_chain import Mark, digest, verify
from user_svc.domain.audit_event import AuditEvent, Break, BreakReason, Head, chained, encode, first_break
from user_svc.servicers.audit_servicer import to_proto

_ORGANIZATION = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
_RECORD = AuditRecord(
    id=UUID("01890a5d-ac96-774b-bcce-b302099a8058"),
    organization_id=_ORGANIZATION,
    actor="svc:agent_svc",
    on_behalf_of="user_01h45ntb4pexnvskng1042k01r",
    action="hearth.tool.v1.ToolExecutionService.ExecuteTool",
    resource="tool_01h45ntb4pexnvskng1042k01s",
    outcome="OK",
    request_id="run_01h45ntb4pexnvskng1042k01t/c1ü",
    create_time=datetime(2026, 5, 4, 3, 2, 1, 123, tzinfo=UTC),
)


def _log(length: int = 6) -> list[AuditEvent]:
    return chained(
        Head(), [replace(_RECORD, id=UUID(int=_RECORD.id.int + n), actor=f"user_{n}") for n in range(length)]
    )


def test_the_encoding_is_what_the_api_says() -> None:
    texts = [
        "hearth.audit.v1",
        "org_01h455vb4pex5vsknk084sn02q",
        "7",
        "audit_01h455vb4pex5vsknk084sn02r",
        "svc:agent_svc",
        "user_01h45ntb4pexnvskng1042k01r",
        "hearth.tool.v1.ToolExecutionService.ExecuteTool",
        "tool_01h45ntb4pexnvskng1042k01s",
        "OK",
        "1",
        "run_01h45ntb4pexnvskng1042k01t/c1ü",
        "2026-05-04T03:02:01.000123Z",
    ]
    spelled = b"".join(len(text.encode()).to_bytes(4, "big") + text.encode() for text in texts)
    assert encode(7, _RECORD) == spelled


def test_the_hash_of_a_record_never_changes() -> None:
    (first,) = chained(Head(), [_RECORD])
    assert first.hash == hashlib.sha256(bytes(32) + encode(1, _RECORD)).digest()
    assert first.hash.hex() == "b98ba88ba1fd2df4644fa61f86018ae844fb0d093e2562312f024fbdf5de5644"


def test_no_two_records_have_one_encoding() -> None:
    moved = replace(_RECORD, actor="svc:agent_svcuser", on_behalf_of=_RECORD.on_behalf_of.removeprefix("user"))
    assert encode(1, moved) != encode(1, _RECORD)


def test_client_and_server_agree() -> None:
    previous = "00" * 32
    for event in _log():
        assert digest(to_proto(event), previous) == event.hash.hex()
        previous = event.hash.hex()


def _edited(log: list[AuditEvent]) -> list[AuditEvent]:
    return [replace(e, record=replace(e.record, outcome="NOT_FOUND")) if e.seq == 3 else e for e in log]


def _rehashed(log: list[AuditEvent]) -> list[AuditEvent]:
    """Edited by someone who knows how hashes are made: the next record tells."""
    (forged,) = chained(Head(2, log[1].hash), [replace(log[2].record, actor="user_forged")])
    return [*log[:2], forged, *log[3:]]


def _removed(log: list[AuditEvent]) -> list[AuditEvent]:
    return [event for event in log if event.seq != 3]


def _swapped(log: list[AuditEvent]) -> list[AuditEvent]:
    return [*log[:2], replace(log[3], seq=3), replace(log[2], seq=4), *log[4:]]


def _twice(log: list[AuditEvent]) -> list[AuditEvent]:
    return [*log[:3], log[2], *log[3:]]


@pytest.mark.parametrize(
    ("tamper", "seq", "missing"),
    [(_edited, 3, False), (_rehashed, 4, False), (_removed, 3, True), (_swapped, 3, False), (_twice, 3, False)],
)
async def test_both_name_the_first_broken_record(
    tamper: Callable[[list[AuditEvent]], list[AuditEvent]], seq: int, missing: bool
) -> None:
    tampered = tamper(_log())
    verdict = await verify(_stream(tampered))
    assert verdict.problem is not None
    assert (verdict.problem.seq, verdict.problem.id == "") == (seq, missing)
    good, broken = first_break(Head(), tampered)
    assert broken is not None
    if tamper is _twice:
        # A primary key does not let this into the table; whoever lists it may.
        assert broken == Break(4, None, BreakReason.MISSING)
    else:
        assert (broken.seq, broken.id is None) == (seq, missing)
        assert good.seq == verdict.head.seq == verdict.verified_count == seq - 1


async def test_a_good_log_is_good() -> None:
    log = _log()
    assert first_break(Head(), log) == (Head(6, log[-1].hash), None)
    assert first_break(Head(2, log[1].hash), log[2:]) == (Head(6, log[-1].hash), None)
    verdict = await verify(_stream(log), Mark(4, log[3].hash.hex()))
    assert (verdict.verified_count, verdict.problem) == (6, None)
    assert verdict.head == Mark(6, log[-1].hash.hex())
    assert (await verify(_stream([]))).verified_count == 0


async def test_what_was_noted_elsewhere_shows_a_cut_end_and_a_rewritten_log() -> None:
    log = _log()
    end = Mark(6, log[-1].hash.hex())
    cut = await verify(_stream(log[:4]), end)
    assert cut.problem is not None
    assert (cut.problem.seq, cut.problem.id) == (5, "")
    rewritten = chained(Head(), [replace(event.record, actor="user_forged") for event in log])
    found = await verify(_stream(rewritten), end)
    assert found.problem is not None
    assert found.problem.seq == 6


@pytest.mark.parametrize("text", ["", "1", "1:", "x:" + "0" * 64, "0:" + "0" * 64, "1:" + "0" * 63, "1:" + "g" * 64])
def test_what_is_no_mark_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Mark.parse(text)


def test_a_mark_is_read_as_it_is_printed() -> None:
    mark = Mark(12, "ab" * 32)
    assert Mark.parse(str(mark)) == mark


async def _stream(events: Sequence[AuditEvent]) -> AsyncIterator[Message]:
    for event in events:
        yield to_proto(event)
