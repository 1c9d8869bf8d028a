"""Calls of tools that are source: with their secrets, packages and hosts, in the sandbox, in their organization's turn."""

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from uuid import UUID

from chassis import ids
from chassis.errors import FailedPrecondition, ResourceExhausted, Unavailable
from tool_svc.domain.execution import ExecutionLimits, Failed, OutputChunk, SandboxCall, SandboxEvent
from tool_svc.domain.masking import Mask, MaskedOutput
from tool_svc.domain.tool import Tool
from tool_svc.interfaces.packages import PackagesNotAllowed, PackageStore, PackagesUnavailable
from tool_svc.interfaces.sandbox import Sandbox, SandboxBusy, SandboxUnavailable
from tool_svc.interfaces.vault import SecretReader
from tool_svc.managers.tool_manager import packages_not_allowed
from tool_svc.managers.turns import Turns


class SandboxExecutor:
    """Runs tools of kind PYTHON. `turns` is an organization's share of the sandbox."""

    def __init__(self, secrets: SecretReader, packages: PackageStore, sandbox: Sandbox, turns: Turns) -> None:
        self._secrets = secrets
        self._packages = packages
        self._sandbox = sandbox
        self._turns = turns

    async def execute(
        self, tool: Tool, arguments: Mapping[str, Any], request_id: str, limits: ExecutionLimits
    ) -> AsyncGenerator[SandboxEvent]:
        """Output as it comes, then one outcome, with secrets masked. Closing the generator ends the tool at once.

        Raises before the tool runs: FailedPrecondition SECRET_MISSING or PACKAGES_NOT_ALLOWED, ResourceExhausted RATE_LIMITED,
        Unavailable.
        """
        settings = tool.content.settings
        secrets = await self._read(tool.organization_id, settings.secrets)
        try:
            async with (
                self._turns.turn(tool.organization_id),
                self._packages.environment(settings.requirements) as packages,
            ):
                call = SandboxCall(
                    call_id=str(ids.new()),
                    source=tool.content.source_code,
                    entry_point=tool.content.entry_point,
                    arguments=arguments,
                    limits=limits,
                    environment={**secrets, **({"HEARTH_REQUEST_ID": request_id} if request_id else {})},
                    allowed_hosts=settings.allowed_hosts,
                    packages=packages,
                )
                async with contextlib.aclosing(self._events(call, Mask(secrets))) as events:
                    async for event in events:
                        yield event
        except PackagesNotAllowed:
            raise packages_not_allowed() from None
        except PackagesUnavailable as error:
            yield Failed("PackagesUnavailable", str(error))
        except SandboxBusy as busy:
            message = "as many tools run as this server allows"
            raise ResourceExhausted(message, reason="RATE_LIMITED", retry_after_s=busy.retry_after_s) from None
        except SandboxUnavailable as error:
            raise Unavailable("the sandbox does not answer", reason="DEPENDENCY_UNAVAILABLE") from error

    async def _events(self, call: SandboxCall, mask: Mask) -> AsyncGenerator[SandboxEvent]:
        output = MaskedOutput(mask)
        async with contextlib.aclosing(self._sandbox.execute(call)) as events:
            async for event in events:
                if isinstance(event, OutputChunk):
                    for chunk in output.take(event):
                        yield chunk
                else:
                    for chunk in output.rest():
                        yield chunk
                    yield mask.outcome(event)

    async def _read(self, organization_id: UUID, names: Sequence[str]) -> Mapping[str, str]:
        """The values of secrets by name. Raises FailedPrecondition SECRET_MISSING."""
        found = await self._secrets.read(organization_id, names) if names else {}
        for name in names:
            if name not in found:
                message = f"the secret {name} is not set, or was set under a key that this server does not have"
                raise FailedPrecondition(message, reason="SECRET_MISSING", metadata={"name": name})
        return found
