"""Tools: made, changed, listed, deleted. Every change is a version."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from chassis import ids
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, etag_mismatch, invalid_field, not_found
from chassis.identity import Identity
from chassis.once import Once
from tool_svc.domain import json_schema
from tool_svc.domain.egress import HostRule
from tool_svc.domain.schema import DerivedTool, Entry, derive, find_entry
from tool_svc.domain.tool import (
    Tool,
    ToolChange,
    ToolContent,
    ToolDraft,
    ToolFilter,
    ToolKind,
    ToolSettings,
    ToolVersion,
)
from tool_svc.interfaces.packages import PackagesNotAllowed, PackageStore
from tool_svc.interfaces.unit_of_work import UnitOfWork
from tool_svc.managers.ceilings import Ceilings


class ToolManager:
    """Business rules of tools."""

    def __init__(self, unit_of_work: UnitOfWork, packages: PackageStore, ceilings: Ceilings) -> None:
        self._work = unit_of_work
        self._packages = packages
        self._ceilings = ceilings

    async def create(self, caller: Identity, draft: ToolDraft, once: Once[Tool]) -> Tool:
        """A new tool.

        Raises AlreadyExists NAME_TAKEN, InvalidArgument TOOL_SOURCE_INVALID, TOOL_SCHEMA_INVALID, or VALIDATION_FAILED for settings
        that the server or the organization's limits do not allow, FailedPrecondition PACKAGES_NOT_ALLOWED.
        """
        self._check_settings(caller, draft.settings)
        name, content = await _content_of(draft)
        async with self._work.of(caller.organization_id) as work, work.once(once.key) as answer:
            tool = await work.tools.add(ids.new(), name, ToolKind.PYTHON, content, author_of(caller))
            answer.save(once.encode(tool))
        return tool

    async def upsert(self, caller: Identity, draft: ToolDraft, once: Once[tuple[Tool, bool]]) -> tuple[Tool, bool]:
        """The tool of this name as the draft says, and whether this call made it. Raises as `create`, NAME_TAKEN aside."""
        self._check_settings(caller, draft.settings)
        name, content = await _content_of(draft)
        tool_id = ids.new()
        async with self._work.of(caller.organization_id) as work, work.once(once.key) as answer:
            tool = await work.tools.put(tool_id, name, ToolKind.PYTHON, content, author_of(caller))
            result = tool, tool.id == tool_id
            answer.save(once.encode(result))
        return result

    async def get(self, caller: Identity, tool_id: UUID) -> Tool:
        """One by id. Raises NotFound."""
        async with self._work.of(caller.organization_id) as work:
            return require(await work.tools.get(tool_id), tool_id)

    async def named(self, caller: Identity, name: str) -> Tool:
        """One by name. Raises NotFound."""
        async with self._work.of(caller.organization_id) as work:
            return require_named(await work.tools.named(name), name)

    async def page(
        self, caller: Identity, which: ToolFilter, after_name: str | None, size: int
    ) -> tuple[Sequence[Tool], bool]:
        """A page by name, and whether there may be more."""
        async with self._work.of(caller.organization_id) as work:
            found = await work.tools.page(which, after_name, size)
            more = bool(found) and bool(await work.tools.page(which, found[-1].name, 1))
        return found, more

    async def update(self, caller: Identity, tool_id: UUID, change: ToolChange, etag: str) -> Tool:
        """Applies a change; one that changes nothing makes no version.

        Raises NotFound, Aborted ETAG_MISMATCH, InvalidArgument TOOL_SOURCE_INVALID or TOOL_SCHEMA_INVALID.
        """
        if change.settings is not None:
            self._check_settings(caller, change.settings)
        async with self._work.of(caller.organization_id) as work:
            tool = require(await work.tools.get_for_update(tool_id), tool_id)
            if etag and etag != tool.etag:
                raise etag_mismatch()
            _require_own(tool, change)
            content = await _changed(tool.content, change)
            if content == tool.content:
                return tool
            return await work.tools.change(tool_id, content, author_of(caller))

    async def delete(self, caller: Identity, tool_id: UUID) -> None:
        """Removes a tool. Twice is OK. Raises NotFound for one that never was."""
        async with self._work.of(caller.organization_id) as work:
            if not await work.tools.exists(tool_id):
                raise ids.absent("tool", tool_id)
            await work.tools.delete(tool_id)

    async def versions(
        self, caller: Identity, tool_id: UUID, before: int | None, size: int
    ) -> tuple[Sequence[ToolVersion], bool]:
        """A page of what a tool was, newest first, and whether there is more. Raises NotFound."""
        async with self._work.of(caller.organization_id) as work:
            tool = require(await work.tools.get(tool_id), tool_id)
            found = await work.tools.versions(tool, before, size)
        return found, bool(found) and found[-1].tool.version > 1

    async def derive(self, source_code: str) -> DerivedTool:
        """What a source would give, without storing it. Raises InvalidArgument TOOL_SOURCE_INVALID."""
        return await asyncio.to_thread(derive, source_code)

    def _check_settings(self, caller: Identity, settings: ToolSettings) -> None:
        """What a tool asks for that this server may not give. Raises FailedPrecondition, InvalidArgument."""
        self._ceilings.check(caller.organization_id, settings)
        for place, host in enumerate(settings.allowed_hosts):
            try:
                HostRule.parse(host)
            except ValueError as error:
                raise invalid_field(f"tool.settings.network.allowed_hosts[{place}]", str(error)) from None
        try:
            self._packages.check(settings.requirements)
        except PackagesNotAllowed:
            raise packages_not_allowed() from None


def author_of(caller: Identity) -> str:
    """Who makes a change: the person a service acts for, where there is one."""
    return caller.on_behalf_of or caller.subject


def require(tool: Tool | None, tool_id: UUID) -> Tool:
    """The tool, or the NotFound of an absent id."""
    if tool is None:
        raise ids.absent("tool", tool_id)
    return tool


def require_named(tool: Tool | None, name: str) -> Tool:
    """The tool, or the NotFound of an absent name."""
    if tool is None:
        raise _no_such_name(name)
    return tool


def _no_such_name(name: str) -> NotFound:
    return not_found("tool", name)


def _require_own(tool: Tool, change: ToolChange) -> None:
    """What a tool of an MCP server is comes from there; how it is used here is the organization's."""
    foreign = (change.description, change.source_code, change.parameters)
    if tool.kind is ToolKind.MCP and (change.derive_parameters or any(value is not None for value in foreign)):
        message = "of a tool of an MCP server only tags and settings can be changed; sync the server for the rest"
        raise InvalidArgument(message, reason="UPDATE_MASK_INVALID")


async def _content_of(draft: ToolDraft) -> tuple[str, ToolContent]:
    """Name and content of a draft, what it leaves open read from the source."""
    entry_point, description, parameters = await asyncio.to_thread(_read, draft.source_code, draft.parameters)
    content = ToolContent(
        description=draft.description or description,
        source_code=draft.source_code,
        entry_point=entry_point,
        parameters=parameters,
        tags=draft.tags,
        settings=draft.settings,
    )
    return draft.name or entry_point, content


async def _changed(content: ToolContent, change: ToolChange) -> ToolContent:
    if change.settings is not None:
        content = replace(content, settings=change.settings)
    if change.tags is not None:
        content = replace(content, tags=change.tags)
    reads = change.derive_parameters or change.description == ""
    if change.source_code is not None or change.parameters is not None or reads:
        source = change.source_code if change.source_code is not None else content.source_code
        derives = change.source_code is not None or change.derive_parameters
        given = change.parameters if change.parameters is not None else None if derives else content.parameters
        entry_point, description, parameters = await asyncio.to_thread(_read, source, given)
        content = replace(content, source_code=source, entry_point=entry_point, parameters=parameters)
        if change.description == "":
            content = replace(content, description=description)
    if change.description:
        content = replace(content, description=change.description)
    return content


def _read(source: str, parameters: Mapping[str, Any] | None) -> tuple[str, str, Mapping[str, Any]]:
    """Entry point, description and schema; a schema that is given is checked instead of derived."""
    if parameters is None:
        derived = derive(source)
        return derived.entry_point, derived.description, derived.parameters
    json_schema.check_parameters(parameters)
    entry = find_entry(source)
    _require_known_names(entry, parameters)
    return entry.name, entry.description, parameters


def _require_known_names(entry: Entry, parameters: Mapping[str, Any]) -> None:
    unknown = set(parameters.get("properties", {})) - entry.parameter_names
    if unknown and not entry.takes_any_name:
        name = min(unknown)
        raise InvalidArgument(
            f"parameters.properties: the function `{entry.name}` has no parameter `{name}`",
            reason="TOOL_SCHEMA_INVALID",
        )


def packages_not_allowed() -> FailedPrecondition:
    """The answer to a tool that needs packages where there are none."""
    return FailedPrecondition("this server installs no packages for tools", reason="PACKAGES_NOT_ALLOWED")
