"""Implements interfaces.mcp.SecretReader where no secrets are kept."""

from collections.abc import Mapping, Sequence
from uuid import UUID


class NoSecrets:
    """Every organization has none."""

    async def read(self, organization_id: UUID, names: Sequence[str]) -> Mapping[str, str]:
        return {}
