"""The way of audit records over NATS: batches through JetStream to user_svc, receipts back.

Subjects:
  hearth.audit.<service>     batches, into the stream HEARTH_AUDIT; user_svc alone reads them
  hearth.audited.<service>   receipts: what is in the chain; one replica of the service acts on each

Publishing is acknowledged by the stream, which may still lose what it acknowledged. So a record stays in the outbox until its receipt.
"""

import hashlib
import logging
from collections.abc import Sequence
from datetime import UTC
from typing import Final
from uuid import UUID

import nats.errors
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.msg import Msg
from nats.js import errors as stream_errors

from chassis.audit.record import AuditRecord
from chassis.audit.relay import Relay
from chassis.nats_connection import NatsConnection
from hearth.user.internal.v1 import audit_record_pb2 as pb

_log = logging.getLogger(__name__)

STREAM: Final = "HEARTH_AUDIT"
SUBJECTS: Final = "hearth.audit."
RECEIPTS: Final = "hearth.audited."
_ACK_S = 3.0


class AuditStream:
    """A Road over a connection, for every service but user_svc. `service` is its name in the subjects."""

    def __init__(self, connection: NatsConnection, service: str) -> None:
        self._connection = connection
        self._service = service
        self._relay: Relay | None = None
        self._listening = False

    async def open(self, relay: Relay) -> None:
        self._relay = relay
        self._connection.on_connect(self._on_connect)
        if self._connection.connected:
            await self._on_connect()

    async def _on_connect(self) -> None:
        """Listens once: the client subscribes again by itself at each new connection."""
        assert self._relay is not None
        if not self._listening:
            self._listening = True
            await self._connection.client.subscribe(RECEIPTS + self._service, queue="relay", cb=self._on_receipt)
        self._relay.lost()

    async def send(self, records: Sequence[AuditRecord]) -> bool:
        if not self._connection.connected:
            return False
        # The same batch sent twice is dropped by the stream; what else comes twice is dropped by the chain.
        batch_id = hashlib.sha256(b"".join(record.id.bytes for record in records)).hexdigest()
        try:
            await self._connection.client.jetstream(timeout=_ACK_S).publish(
                SUBJECTS + self._service, encode(records), headers={"Nats-Msg-Id": batch_id}
            )
        except (nats.errors.Error, stream_errors.Error, OSError, TimeoutError) as error:
            _log.warning("audit records could not be sent", extra={"error": type(error).__name__})
            return False
        return True

    async def _on_receipt(self, message: Msg) -> None:
        assert self._relay is not None
        await self._relay.arrived(decode_receipt(message.data))


def encode(records: Sequence[AuditRecord]) -> bytes:
    """A batch as it travels."""
    return pb.AuditBatch(records=[_to_proto(record) for record in records]).SerializeToString()


def decode(batch: bytes) -> list[AuditRecord]:
    """The records of a batch. Raises ValueError for what is none."""
    try:
        return [_from_proto(record) for record in pb.AuditBatch.FromString(batch).records]
    except DecodeError as error:
        raise ValueError("not a batch of audit records") from error


def encode_receipt(ids: Sequence[UUID]) -> bytes:
    """A receipt as it travels."""
    return pb.AuditReceipt(ids=[one.bytes for one in ids]).SerializeToString()


def decode_receipt(receipt: bytes) -> list[UUID]:
    """The ids on a receipt."""
    return [UUID(bytes=one) for one in pb.AuditReceipt.FromString(receipt).ids]


def _to_proto(record: AuditRecord) -> pb.AuditRecord:
    moment = Timestamp()
    moment.FromDatetime(record.create_time)
    return pb.AuditRecord(
        id=record.id.bytes,
        organization_id=record.organization_id.bytes,
        actor=record.actor,
        on_behalf_of=record.on_behalf_of,
        action=record.action,
        resource=record.resource,
        outcome=record.outcome,
        count=record.count,
        request_id=record.request_id,
        create_time=moment,
    )


def _from_proto(record: pb.AuditRecord) -> AuditRecord:
    return AuditRecord(
        id=UUID(bytes=record.id),
        organization_id=UUID(bytes=record.organization_id),
        actor=record.actor,
        on_behalf_of=record.on_behalf_of,
        action=record.action,
        resource=record.resource,
        outcome=record.outcome,
        count=record.count,
        request_id=record.request_id,
        create_time=record.create_time.ToDatetime(tzinfo=UTC),
    )
