"""MCP servers, and how what they offer becomes tools of the organization. Times are aware datetimes."""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any
from urllib.parse import urlsplit

from chassis.errors import InvalidArgument, invalid_field
from tool_svc.domain import json_schema
from tool_svc.domain.tool import ToolContent, ToolSettings

DEFAULT_TIMEOUT_MS = 30_000
MAX_TOOLS = 200
_MAX_NAME = 64
_MAX_DESCRIPTION = 4096
_MAX_SHOWN_NAME = 128
_HASH_DIGITS = 8
# Beside what the model sees of a schema, they only say where it came from.
_ORIGIN_KEYWORDS = ("$schema", "$id")
# Headers that the protocol itself sets.
_OWN_HEADERS = {"host", "content-length", "content-type", "accept", "connection", "transfer-encoding", "upgrade"}


class McpTransport(IntEnum):
    """How a server is reached. Numbers as in hearth.tool.v1.McpTransport."""

    STREAMABLE_HTTP = 1
    STDIO = 2


@dataclass(frozen=True, slots=True)
class McpConnection:
    """All that is needed to reach a server. `header_secrets` and `secrets` hold names, never values."""

    transport: McpTransport
    url: str = ""
    command: tuple[str, ...] = ()
    header_secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: tuple[str, ...] = ()
    timeout_ms: int = 0

    @property
    def timeout_s(self) -> float:
        """Seconds that a call may take."""
        return (self.timeout_ms or DEFAULT_TIMEOUT_MS) / 1000

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The secrets whose values it needs."""
        return tuple(dict.fromkeys((*self.header_secrets.values(), *self.secrets)))


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server whose tools the organization uses. `revision` grows with every change of its connection."""

    id: uuid.UUID
    organization_id: uuid.UUID
    name: str
    connection: McpConnection
    revision: int
    create_time: datetime
    update_time: datetime
    sync_time: datetime | None = None
    sync_error: str = ""

    @property
    def etag(self) -> str:
        """Changes with every change; clients compare it and read nothing into it."""
        return hashlib.blake2b(f"{self.id}:{self.revision}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as a server describes it; nothing of it is trusted."""

    name: str
    description: str
    parameters: Any
    idempotent: bool = False


def check_connection(connection: McpConnection) -> None:
    """Whether a server can be meant by this. Raises InvalidArgument naming the field."""
    if connection.transport is McpTransport.STDIO:
        if not connection.command:
            raise invalid_field("mcp_server.command", "a server on stdio needs a command")
        if connection.url or connection.header_secrets:
            raise invalid_field("mcp_server.url", "a server on stdio has neither URL nor headers")
        return
    if connection.command or connection.secrets:
        raise invalid_field("mcp_server.command", "a server on HTTP has neither command nor environment")
    for header in connection.header_secrets:
        if header.lower() in _OWN_HEADERS or header.lower().startswith("mcp-"):
            raise invalid_field("mcp_server.header_secrets", f"the header {header} is the protocol's own")
    if not _is_http_url(connection.url):
        raise invalid_field(
            "mcp_server.url", "must be an http or https URL with a host, without user name and fragment"
        )


def tool_name(server_name: str, remote_name: str) -> str:
    """What a remote tool is called here: after its server, in letters that models accept, shortened if need be."""
    name = f"{server_name}_{re.sub(r'[^a-zA-Z0-9_]', '_', remote_name)}"
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.blake2b(remote_name.encode("utf-8", "replace")).hexdigest()[:_HASH_DIGITS]
    return f"{name[: _MAX_NAME - _HASH_DIGITS - 1]}_{digest}"


def shown_name(remote_name: str) -> str:
    """The remote name as it can be told in an answer."""
    return remote_name.encode("utf-8", "replace").decode()[:_MAX_SHOWN_NAME]


def content_of(remote: RemoteTool, settings: ToolSettings | None = None) -> ToolContent:
    """What a version of the tool consists of; `settings` are what an operator gave it before.

    Raises InvalidArgument TOOL_SCHEMA_INVALID for what cannot be a tool.
    """
    if not remote.name or not _is_storable(remote.name):
        raise _cannot_be_a_tool("the name is empty or holds what cannot be stored")
    if not isinstance(remote.parameters, Mapping):
        raise _cannot_be_a_tool("the schema is no object")
    schema = {key: value for key, value in remote.parameters.items() if key not in _ORIGIN_KEYWORDS}
    schema.setdefault("properties", {})
    try:
        schema = json_schema.with_items(schema)
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (RecursionError, ValueError):
        raise _cannot_be_a_tool("the schema is nested too deeply, or holds numbers that JSON does not have") from None
    if not _is_storable(remote.description) or not _is_storable(text):
        raise _cannot_be_a_tool("the description or the schema holds a NUL or half a surrogate pair")
    json_schema.check_parameters(schema)
    return ToolContent(
        description=remote.description[:_MAX_DESCRIPTION],
        source_code="",
        entry_point=remote.name,
        parameters=schema,
        settings=settings or ToolSettings(idempotent=True if remote.idempotent else None),
    )


def _is_http_url(url: str) -> bool:
    if not url.isprintable() or " " in url or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    named = bool(parts.hostname) and parts.username is None and parts.password is None and not parts.fragment
    return parts.scheme in ("http", "https") and named and port != 0


def _is_storable(text: str) -> bool:
    return "\0" not in text and "\\u0000" not in text and not any("\ud800" <= one <= "\udfff" for one in text)


def _cannot_be_a_tool(problem: str) -> InvalidArgument:
    return InvalidArgument(problem, reason="TOOL_SCHEMA_INVALID")
