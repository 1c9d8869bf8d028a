"""The blocking client: the same faces, over an event loop of its own."""

from __future__ import annotations

import functools
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hearth_client._client import AsyncHearth
from hearth_client._settings import discover

if TYPE_CHECKING:
    from hearth_client._blocking import LoopThread
    from hearth_client._faces.agents import BlockingAgents
    from hearth_client._faces.audit import BlockingAudit
    from hearth_client._faces.blocks import BlockingBlocks
    from hearth_client._faces.conversations import BlockingConversations
    from hearth_client._faces.directory import BlockingApiKeys, BlockingOrganizations, BlockingTokens, BlockingUsers
    from hearth_client._faces.issuers import BlockingTrustedIssuers
    from hearth_client._faces.mcp_servers import BlockingMcpServers
    from hearth_client._faces.memory import BlockingMemory
    from hearth_client._faces.models import BlockingModels
    from hearth_client._faces.runs import BlockingRuns
    from hearth_client._faces.secrets import BlockingSecrets
    from hearth_client._faces.templates import BlockingTemplates
    from hearth_client._faces.tools import BlockingTools


class Hearth:
    """A Hearth, for ordinary programs. Use it as a context manager, or `close` it. Safe to share between threads; see AsyncHearth."""

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
        from hearth_client._blocking import LoopThread

        self._client = AsyncHearth(
            url,
            api_key,
            timeout_s=timeout_s,
            retry_for_s=retry_for_s,
            reconnect_for_s=reconnect_for_s,
            silence_s=silence_s,
            root_certificates=root_certificates,
        )
        self._thread: LoopThread = LoopThread()

    @classmethod
    def from_environment(cls) -> Self:
        """From HEARTH_URL and HEARTH_API_KEY, or the nearest `.hearth/env`. Raises ValueError if there is neither."""
        settings = discover()
        if not settings.url or not settings.api_key:
            raise ValueError("set HEARTH_URL and HEARTH_API_KEY, or run below a folder with a .hearth/env")
        return cls(settings.url, settings.api_key)

    def close(self) -> None:
        """Ends all calls and streams, the connection and the thread."""
        self._thread.stop(self._client.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @functools.cached_property
    def agents(self) -> BlockingAgents:
        """Agents."""
        from hearth_client._faces.agents import BlockingAgents

        return BlockingAgents(self._client.agents, self._thread)

    @functools.cached_property
    def conversations(self) -> BlockingConversations:
        """Conversations and their messages."""
        from hearth_client._faces.conversations import BlockingConversations

        return BlockingConversations(self._client.conversations, self._thread)

    @functools.cached_property
    def runs(self) -> BlockingRuns:
        """Runs: say something and follow what happens."""
        from hearth_client._faces.runs import BlockingRuns

        return BlockingRuns(self._client.runs, self._thread)

    @functools.cached_property
    def secrets(self) -> BlockingSecrets:
        """Secrets of tools."""
        from hearth_client._faces.secrets import BlockingSecrets

        return BlockingSecrets(self._client.secrets, self._thread)

    @functools.cached_property
    def templates(self) -> BlockingTemplates:
        """Recipes for agents."""
        from hearth_client._faces.templates import BlockingTemplates

        return BlockingTemplates(self._client.templates, self._thread)

    @functools.cached_property
    def tools(self) -> BlockingTools:
        """Tools."""
        from hearth_client._faces.tools import BlockingTools

        return BlockingTools(self._client.tools, self._thread)

    @functools.cached_property
    def mcp_servers(self) -> BlockingMcpServers:
        """MCP servers."""
        from hearth_client._faces.mcp_servers import BlockingMcpServers

        return BlockingMcpServers(self._client.mcp_servers, self._thread)

    @functools.cached_property
    def blocks(self) -> BlockingBlocks:
        """Core memory blocks."""
        from hearth_client._faces.blocks import BlockingBlocks

        return BlockingBlocks(self._client.blocks, self._thread)

    @functools.cached_property
    def memory(self) -> BlockingMemory:
        """Archival and recall memory."""
        from hearth_client._faces.memory import BlockingMemory

        return BlockingMemory(self._client.memory, self._thread)

    @functools.cached_property
    def organizations(self) -> BlockingOrganizations:
        """Organizations."""
        from hearth_client._faces.directory import BlockingOrganizations

        return BlockingOrganizations(self._client.organizations, self._thread)

    @functools.cached_property
    def users(self) -> BlockingUsers:
        """Users."""
        from hearth_client._faces.directory import BlockingUsers

        return BlockingUsers(self._client.users, self._thread)

    @functools.cached_property
    def api_keys(self) -> BlockingApiKeys:
        """API keys."""
        from hearth_client._faces.directory import BlockingApiKeys

        return BlockingApiKeys(self._client.api_keys, self._thread)

    @functools.cached_property
    def trusted_issuers(self) -> BlockingTrustedIssuers:
        """External identity providers."""
        from hearth_client._faces.issuers import BlockingTrustedIssuers

        return BlockingTrustedIssuers(self._client.trusted_issuers, self._thread)

    @functools.cached_property
    def tokens(self) -> BlockingTokens:
        """Tokens, and who the caller is."""
        from hearth_client._faces.directory import BlockingTokens

        return BlockingTokens(self._client.tokens, self._thread)

    @functools.cached_property
    def audit(self) -> BlockingAudit:
        """The audit log."""
        from hearth_client._faces.audit import BlockingAudit

        return BlockingAudit(self._client.audit, self._thread)

    @functools.cached_property
    def models(self) -> BlockingModels:
        """Language models."""
        from hearth_client._faces.models import BlockingModels

        return BlockingModels(self._client.models, self._thread)
