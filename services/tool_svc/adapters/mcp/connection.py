"""One session with one server: opened, used by several calls at once, ended without anything left of it."""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar
from uuid import UUID

from chassis.tasks import end_task
from tool_svc.adapters.mcp.budget import Budget
from tool_svc.interfaces.mcp import McpFailed, McpTimedOut

_LOG = logging.getLogger(__name__)
_END_S = 10.0

Result = TypeVar("Result")
OnFailure = Callable[[McpFailed], None]


class Session(Protocol):
    """What calls use of a session; raises McpFailed."""

    async def list_page(self, cursor: str | None) -> dict[str, Any]:
        """A page of tools, as the server sent it."""
        ...

    async def call_tool(self, name: str, arguments: dict[str, Any], on_progress: Any) -> Any:
        """A tools/call result, its shape checked."""
        ...


# Connects, and yields a session that has been initialized; told of failures that the SDK keeps to itself.
OpenSession = Callable[[OnFailure], AbstractAsyncContextManager[Session]]


class Connection:
    """A session in a task of its own, opened for `owner`. It opens by itself; after `retire` it ends as soon as no call uses it."""

    def __init__(self, owner: UUID, open_session: OpenSession, budget: Budget) -> None:
        loop = asyncio.get_running_loop()
        self.owner = owner
        self.calls = 0
        self.last_used = loop.time()
        self.retired = False
        # Whether a call has gone well on it.
        self.used = False
        self._open_session = open_session
        self._budget = budget
        self._ready: asyncio.Future[Session] = loop.create_future()
        self._failed: asyncio.Future[McpFailed] = loop.create_future()
        self._closing = asyncio.Event()
        self._opening = True
        self._work: set[asyncio.Task[Any]] = set()
        # Not the context of the call that opens it: it outlives that.
        self._task = asyncio.create_task(self._run(), context=contextvars.Context())

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left."""
        return self._task.done()

    async def use(self, work: Callable[[Session], Coroutine[Any, Any, Result]], timeout_s: float) -> Result:
        """What `work` gives. Raises McpFailed, McpTimedOut; after both, and after a cancellation, it is retired."""
        self.calls += 1
        self._budget.renew()
        try:
            async with asyncio.timeout(timeout_s):
                result = await self._outcome(work)
        except TimeoutError:
            self.retire()
            raise McpTimedOut from None
        except BaseException:
            self.retire()
            raise
        else:
            self.used = True
            return result
        finally:
            self.calls -= 1
            self.last_used = asyncio.get_running_loop().time()
            self._close_if_unused()

    def retire(self) -> None:
        """Take no further calls; end when those that run have ended."""
        self.retired = True
        self._close_if_unused()

    async def end(self) -> None:
        """End now, calls included; returns when nothing is left."""
        self.retired = True
        self._fail(McpFailed("the connection was closed", begun=True))
        self._closing.set()
        done, _ = await asyncio.wait([self._task], timeout=_END_S)
        if not done:
            _LOG.warning("a connection to an MCP server does not end; it is cancelled")
            await end_task(self._task)

    async def _outcome(self, work: Callable[[Session], Coroutine[Any, Any, Result]]) -> Result:
        await asyncio.wait([self._ready, self._failed], return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            failure = self._failed.result()
            raise McpFailed(failure.message)
        task = asyncio.create_task(work(self._ready.result()))
        self._work.add(task)
        task.add_done_callback(self._work_ended)
        try:
            await asyncio.wait([task, self._failed], return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not (self._failed.done() and task.exception()):
                return task.result()
            raise McpFailed(self._failed.result().message, begun=True)
        finally:
            # Not waited for: telling the server of it may take as long as the server likes. It ends with the session.
            task.cancel()

    def _work_ended(self, task: asyncio.Task[Any]) -> None:
        self._work.discard(task)
        if not task.cancelled():
            task.exception()  # Seen: `_outcome` has raised it, or another reason came first.

    def _close_if_unused(self) -> None:
        if self.retired and self.calls == 0:
            self._closing.set()
            if self._opening:
                self._task.cancel()

    def _fail(self, failure: McpFailed) -> None:
        if not self._failed.done():
            self._failed.set_result(failure)
            self.retire()

    async def _run(self) -> None:
        try:
            async with self._open_session(self._fail) as session:
                self._opening = False
                self._ready.set_result(session)
                await self._closing.wait()
        except asyncio.CancelledError:
            self._opening = False  # Nobody waits for it any more; all of it has been undone.
        except Exception as error:
            self._opening = False
            _LOG.debug("a session with an MCP server broke", exc_info=error)
            self._fail(_failure_in(error) or McpFailed("the session broke", begun=True))
        finally:
            self._fail(McpFailed("the connection was closed", begun=True))
            for task in self._work:
                task.cancel()
            if self._work:
                await asyncio.wait(self._work, timeout=_END_S)


def _failure_in(error: Exception) -> McpFailed | None:
    """The failure that an exception is, or that is in a group: task groups, the SDK's too, wrap what is raised in them."""
    if isinstance(error, ExceptionGroup):
        inner = (_failure_in(one) for one in error.exceptions)
        return next((found for found in inner if found), None)
    return error if isinstance(error, McpFailed) else None
