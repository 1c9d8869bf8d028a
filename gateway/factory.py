"""The composition root: builds a gateway from its settings."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chassis.channels import open_channel
from chassis.identity import Identity
from chassis.revocations import RevocationList
from chassis.trust import trust
from gateway.calls import GrpcCaller
from gateway.encoder import FrameEncoder
from gateway.hub import Hub
from gateway.origins import OriginPolicy
from gateway.requests import Services
from gateway.server import Gateway
from gateway.settings import GatewaySettings
from gateway.watch import WatchStreams


@dataclass(frozen=True, slots=True)
class Built:
    """A gateway, its parts, and how to let go of what it holds. `revocations` is to be started before sockets come."""

    gateway: Gateway
    hub: Hub
    watches: WatchStreams
    encoder: FrameEncoder
    services: Services
    revocations: RevocationList
    close: Callable[[], Awaitable[None]]


def build(settings: GatewaySettings) -> Built:
    """Nothing is connected before the first socket needs it. Raises ValueError when a setting is missing."""
    channels = {
        domain: open_channel(address)
        for domain, address in {
            "user": settings.user_svc_address,
            "tool": settings.tool_svc_address,
            "memory": settings.memory_svc_address,
            "agent": settings.agent_svc_address,
        }.items()
        if address
    }
    if not {"user", "agent"} <= channels.keys():
        raise ValueError("HEARTH_USER_SVC_ADDRESS and HEARTH_AGENT_SVC_ADDRESS must be set")
    trusted = trust(channels["user"], settings)

    async def own_identity() -> Identity:
        return await trusted.tokens.identity_for(None)

    encoder = FrameEncoder()
    watches = WatchStreams(channels["agent"], own_identity, encoder)
    hub = Hub(watches)
    services = Services(
        verifier=trusted.verifier.verify,
        revocations=trusted.revocations,
        caller=GrpcCaller(channels),
        hub=hub,
        clock=time.monotonic,
        wall=time.time,
    )

    async def close() -> None:
        await watches.stop()
        await trusted.revocations.stop()
        for channel in channels.values():
            await channel.close()

    gateway = Gateway(services, OriginPolicy(settings.origins()), max_connections=settings.max_connections)
    return Built(gateway, hub, watches, encoder, services, trusted.revocations, close)
