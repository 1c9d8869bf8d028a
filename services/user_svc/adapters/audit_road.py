"""The way of this service's own audit records: straight from its outbox into the chain, which is in the same database."""

from collections.abc import Sequence

from chassis.audit import AuditRecord
from chassis.audit.relay import Relay
from user_svc.interfaces.audit_log import AuditChain


class LocalRoad:
    """A Road that needs no NATS."""

    def __init__(self, chain: AuditChain) -> None:
        self._chain = chain
        self._relay: Relay | None = None

    async def open(self, relay: Relay) -> None:
        self._relay = relay

    async def send(self, records: Sequence[AuditRecord]) -> bool:
        assert self._relay is not None
        there = await self._chain.append(records)
        await self._relay.arrived(list(there))
        return True
