"""How asynchronous faces become blocking ones: their coroutines run in a loop on a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from hearth.agent.v1.event_pb2 import Frame
from hearth.agent.v1.run_pb2 import Run
from hearth_client._stream import FrameStream, RunStream

Face = TypeVar("Face")
Item = TypeVar("Item")
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

_CLOSE_S = 5.0


class LoopThread:
    """An event loop on a daemon thread, started when it is first needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Runs a coroutine in the loop."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="hearth-client", daemon=True)
                self._thread.start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(work, loop)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine in the loop and waits for it. What interrupts the wait cancels the coroutine."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Runs `last`, cancels what still runs, and ends the thread."""
        with self._starting:
            loop, thread = self._loop, self._thread
            self._loop = None
        if loop is None or thread is None:
            last.close()
            return
        asyncio.run_coroutine_threadsafe(_finish(last), loop).result(_CLOSE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLOSE_S)
        if not thread.is_alive():
            loop.close()


async def _finish(last: Coroutine[Any, Any, None]) -> None:
    await last
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class BlockingFace(Generic[Face]):
    """A face whose methods wait."""

    def __init__(self, face: Face, thread: LoopThread) -> None:
        self.face = face
        self.thread = thread


class BlockingIterator(Iterator[Item]):
    """Waits for each item. An interrupt (Ctrl-C) while it waits leaves it intact: it can be read on."""

    def __init__(self, source: AsyncIterator[Item], thread: LoopThread) -> None:
        self._source = source
        self._thread = thread
        # Belongs to the loop until it is done, then to whoever takes the item: an interrupt can strike at any line of __next__.
        self._reading: asyncio.Future[tuple[Item] | None] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        item = self._thread.run(self._read())
        self._reading = None
        if item is None:
            raise StopIteration
        return item[0]

    def close(self) -> None:
        """Leaves early; what is watched goes on."""
        self._thread.run(self._leave())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _read(self) -> tuple[Item] | None:
        if self._reading is None:
            self._reading = asyncio.ensure_future(_next(self._source))
        return await asyncio.shield(self._reading)

    async def _leave(self) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if isinstance(self._source, AsyncGenerator | FrameStream):
            await self._source.aclose()


class BlockingFrameStream(BlockingIterator[Frame]):
    """Frames that reconnect by themselves; see FrameStream."""

    def __init__(self, stream: FrameStream, thread: LoopThread) -> None:
        super().__init__(stream, thread)
        self._stream = stream

    @property
    def last_seq(self) -> int:
        """Seq of the newest event that was seen."""
        return self._stream.last_seq

    @property
    def reconnects(self) -> int:
        """How often the connection broke and was made again."""
        return self._stream.reconnects


class BlockingRunStream(BlockingFrameStream):
    """The frames of one run; see RunStream."""

    def __init__(self, stream: RunStream, thread: LoopThread) -> None:
        super().__init__(stream, thread)
        self._run_stream = stream

    @property
    def run(self) -> Run | None:
        """The run as it was accepted; None before that, and always None for `watch`."""
        return self._run_stream.run

    @property
    def run_id(self) -> str:
        """Id of the run; empty before it is accepted."""
        return self._run_stream.run_id


def call(
    method: Callable[Concatenate[Face, Parameters], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[BlockingFace[Face], Parameters], Result]:
    """A method that waits for a coroutine."""

    def blocking(self: BlockingFace[Face], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self.thread.run(method(self.face, *args, **kwargs))

    return _documented(blocking, method)


def iterate(
    method: Callable[Concatenate[Face, Parameters], AsyncIterator[Item]],
) -> Callable[Concatenate[BlockingFace[Face], Parameters], BlockingIterator[Item]]:
    """A method that returns an iterator."""

    def blocking(
        self: BlockingFace[Face], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> BlockingIterator[Item]:
        return BlockingIterator(method(self.face, *args, **kwargs), self.thread)

    return _documented(blocking, method)


def follow(
    method: Callable[Concatenate[Face, Parameters], FrameStream],
) -> Callable[Concatenate[BlockingFace[Face], Parameters], BlockingFrameStream]:
    """A method that returns the frames of a conversation."""

    def blocking(self: BlockingFace[Face], *args: Parameters.args, **kwargs: Parameters.kwargs) -> BlockingFrameStream:
        return BlockingFrameStream(method(self.face, *args, **kwargs), self.thread)

    return _documented(blocking, method)


def follow_run(
    method: Callable[Concatenate[Face, Parameters], RunStream],
) -> Callable[Concatenate[BlockingFace[Face], Parameters], BlockingRunStream]:
    """A method that returns the frames of a run."""

    def blocking(self: BlockingFace[Face], *args: Parameters.args, **kwargs: Parameters.kwargs) -> BlockingRunStream:
        return BlockingRunStream(method(self.face, *args, **kwargs), self.thread)

    return _documented(blocking, method)


def _documented(blocking: Callable[Parameters, Result], method: Callable[..., object]) -> Callable[Parameters, Result]:
    blocking.__doc__ = method.__doc__
    blocking.__name__ = method.__name__
    return blocking


async def _next(source: AsyncIterator[Item]) -> tuple[Item] | None:
    try:
        return (await anext(source),)
    except StopAsyncIteration:
        return None
