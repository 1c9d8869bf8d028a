"""The asynchronous client."""

from __future__ import annotations

import functools
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hearth_client._settings import discover

if TYPE_CHECKING:
    from hearth_client._connection import Connection
    from hearth_client._faces.agents import Agents
    from hearth_client._faces.audit import Audit
    from hearth_client._faces.blocks import Blocks
    from hearth_client._faces.conversations import Conversations
    from hearth_client._faces.directory import ApiKeys, Organizations, Tokens, Users
    from hearth_client._faces.issuers import TrustedIssuers
    from hearth_client._faces.mcp_servers import McpServers
    from hearth_client._faces.memory import Memory
    from hearth_client._faces.models import Models
    from hearth_client._faces.runs import Runs
    from hearth_client._faces.secrets import Secrets
    from hearth_client._faces.templates import Templates
    from hearth_client._faces.tools import Tools


class AsyncHearth:
    """A Hearth, for asyncio programs. Use it as an async context manager, or `close` it.

    `url` is http://host:port or https://host:port. Times are seconds: `timeout_s` of one attempt at a call, `retry_for_s` how long a call is
    tried again while the server is unavailable, `reconnect_for_s` how long a broken stream is. Belongs to one event loop: that of its first
    call. Raises ValueError for an address that is none.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout_s: float = 10.0,
        retry_for_s: float = 10.0,
        reconnect_for_s: float = 120.0,
        silence_s: float = 45.0,
        root_certificates: bytes | None = None,
    ) -> None:
        # Here, so that `import hearth_client` does not load gRPC.
        from hearth_client._connection import Connection

        self._connection: Connection = Connection(
            url,
            api_key,
            timeout_s=timeout_s,
            retry_for_s=retry_for_s,
            reconnect_for_s=reconnect_for_s,
            silence_s=silence_s,
            root_certificates=root_certificates,
        )

    @classmethod
    def from_environment(cls) -> Self:
        """From HEARTH_URL and HEARTH_API_KEY, or the nearest `.hearth/env`. Raises ValueError if there is neither."""
        settings = discover()
        if not settings.url or not settings.api_key:
            raise ValueError("set HEARTH_URL and HEARTH_API_KEY, or run below a folder with a .hearth/env")
        return cls(settings.url, settings.api_key)

    async def close(self) -> None:
        """Ends all calls and streams, and the connection."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @functools.cached_property
    def agents(self) -> Agents:
        """Agents."""
        from hearth_client._faces.agents import Agents

        return Agents(self._connection)

    @functools.cached_property
    def conversations(self) -> Conversations:
        """Conversations and their messages."""
        from hearth_client._faces.conversations import Conversations

        return Conversations(self._connection)

    @functools.cached_property
    def runs(self) -> Runs:
        """Runs: say something and follow what happens."""
        from hearth_client._faces.runs import Runs

        return Runs(self._connection)

    @functools.cached_property
    def secrets(self) -> Secrets:
        """Secrets of tools."""
        from hearth_client._faces.secrets import Secrets

        return Secrets(self._connection)

    @functools.cached_property
    def templates(self) -> Templates:
        """Recipes for agents."""
        from hearth_client._faces.templates import Templates

        return Templates(self._connection)

    @functools.cached_property
    def tools(self) -> Tools:
        """Tools."""
        from hearth_client._faces.tools import Tools

        return Tools(self._connection)

    @functools.cached_property
    def mcp_servers(self) -> McpServers:
        """MCP servers."""
        from hearth_client._faces.mcp_servers import McpServers

        return McpServers(self._connection)

    @functools.cached_property
    def blocks(self) -> Blocks:
        """Core memory blocks."""
        from hearth_client._faces.blocks import Blocks

        return Blocks(self._connection)

    @functools.cached_property
    def memory(self) -> Memory:
        """Archival and recall memory."""
        from hearth_client._faces.memory import Memory

        return Memory(self._connection)

    @functools.cached_property
    def organizations(self) -> Organizations:
        """Organizations."""
        from hearth_client._faces.directory import Organizations

        return Organizations(self._connection)

    @functools.cached_property
    def users(self) -> Users:
        """Users."""
        from hearth_client._faces.directory import Users

        return Users(self._connection)

    @functools.cached_property
    def api_keys(self) -> ApiKeys:
        """API keys."""
        from hearth_client._faces.directory import ApiKeys

        return ApiKeys(self._connection)

    @functools.cached_property
    def trusted_issuers(self) -> TrustedIssuers:
        """External identity providers."""
        from hearth_client._faces.issuers import TrustedIssuers

        return TrustedIssuers(self._connection)

    @functools.cached_property
    def tokens(self) -> Tokens:
        """Tokens, and who the caller is."""
        from hearth_client._faces.directory import Tokens

        return Tokens(self._connection)

    @functools.cached_property
    def audit(self) -> Audit:
        """The audit log."""
        from hearth_client._faces.audit import Audit

        return Audit(self._connection)

    @functools.cached_property
    def models(self) -> Models:
        """Language models."""
        from hearth_client._faces.models import Models

        return Models(self._connection)
