"""Runs a model in one worker thread beside the event loop: the urgent first, small batches, each text once."""

import asyncio
import hashlib
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from chassis.tasks import end_task
from memory_svc.interfaces.embedder import DenseVector, Urgency


class EmbeddingModel(Protocol):
    """A model loaded in this process."""

    name: str
    dimensions: int

    def encode(self, texts: Sequence[str]) -> list[DenseVector]:
        """One unit vector for each text."""
        ...


# Larger batches are no faster on one thread, and a query waits for the batch before it.
BATCH = 8
# Of so many that wait, those of like length go together: the model pads all texts of a batch to the longest.
_LOOKAHEAD = 64
_WAITING = tuple[int, int, str, bytes]


class CachedEmbedder:
    """An Embedder over a local model. `start` loads it; the newest `cache_size` vectors (1.5 kB each) are kept."""

    def __init__(
        self,
        load: Callable[[], EmbeddingModel],
        *,
        model: str,
        dimensions: int,
        cache_size: int = 8192,
        batch: int = BATCH,
    ) -> None:
        self.model = model
        self.dimensions = dimensions
        self._load = load
        self._cache_size = cache_size
        self._batch = batch
        self._cache: OrderedDict[bytes, DenseVector] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[DenseVector]] = {}
        self._heap: list[_WAITING] = []
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Loads the model (about half a second) and begins to serve. Raises what loading raises."""
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(self._thread, self._load)
        # The first run allocates; nobody should wait for it in a request.
        await loop.run_in_executor(self._thread, model.encode, ["warm"])
        self._worker = asyncio.create_task(self._serve(model), name="embedder")

    async def stop(self) -> None:
        """Fails what still waits and ends the thread."""
        await end_task(self._worker)
        for future in self._pending.values():
            future.cancel()
        self._pending.clear()
        self._thread.shutdown(wait=True)

    async def embed(self, texts: Sequence[str], urgency: Urgency) -> list[DenseVector]:
        """One vector for each text, in order."""
        slots = [self._slot(text, urgency) for text in texts]
        # shield: the vector of a text may be awaited by others too.
        return [slot if not isinstance(slot, asyncio.Future) else await asyncio.shield(slot) for slot in slots]

    def _slot(self, text: str, urgency: Urgency) -> "DenseVector | asyncio.Future[DenseVector]":
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._cache.get(key)
        if known is not None:
            self._cache.move_to_end(key)
            return known
        future = self._pending.get(key)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._pending[key] = future
        elif urgency is not Urgency.QUERY:
            return future
        # An urgent text that already waits is queued again in front; its second turn finds nothing to do.
        heapq.heappush(self._heap, (int(urgency), next(self._order), text, key))
        self._wake.set()
        return future

    async def _serve(self, model: EmbeddingModel) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            batch = self._next_batch()
            if not batch:
                self._wake.clear()
                continue
            try:
                vectors = await loop.run_in_executor(self._thread, model.encode, list(batch.values()))
            except Exception as error:  # one bad batch must not end the embedder; its callers get the error
                for key in batch:
                    self._settle(key, error)
                continue
            for key, vector in zip(batch, vectors, strict=True):
                self._settle(key, vector)

    def _next_batch(self) -> dict[bytes, str]:
        waiting: dict[bytes, _WAITING] = {}
        while self._heap and len(waiting) < _LOOKAHEAD:
            entry = self._heap[0]
            if waiting and entry[0] != next(iter(waiting.values()))[0]:
                break  # a query does not wait for the texts behind it
            heapq.heappop(self._heap)
            if entry[3] in self._pending:
                waiting.setdefault(entry[3], entry)
        by_length = sorted(waiting.values(), key=lambda entry: len(entry[2]), reverse=True)
        for entry in by_length[self._batch :]:
            heapq.heappush(self._heap, entry)
        return {key: text for _, _, text, key in by_length[: self._batch]}

    def _settle(self, key: bytes, outcome: "DenseVector | Exception") -> None:
        future = self._pending.pop(key, None)
        if isinstance(outcome, Exception):
            if future is not None and not future.done():
                future.set_exception(outcome)
            return
        self._cache[key] = outcome
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        if future is not None and not future.done():
            future.set_result(outcome)
