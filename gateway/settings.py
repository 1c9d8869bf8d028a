"""The gateway's environment variables."""

from pydantic import Field

from chassis.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """What the gateway needs to run; of the chassis' settings it uses listen, the addresses, the key file and the grace."""

    # Comma list of `scheme://host[:port]` that browsers may come from besides the page's own origin.
    allowed_origins: str = ""
    # Sockets held at the most; one more is told to come back later.
    max_connections: int = Field(default=20_000, ge=1)

    def origins(self) -> frozenset[str]:
        """The allowed origins, as browsers spell them."""
        return frozenset(part.strip().rstrip("/").lower() for part in self.allowed_origins.split(",") if part.strip())
