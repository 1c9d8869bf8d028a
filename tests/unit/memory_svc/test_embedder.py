"""The embedder's queue and cache, over a stand-in model; and the real model's shape."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from memory_svc.adapters.embedder import CachedEmbedder, MiniLmModel
from memory_svc.interfaces.embedder import DenseVector, Urgency


class Model:
    """Counts what it is asked; waits at the gate."""

    name = "stand-in"
    dimensions = 1

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def encode(self, texts: Sequence[str]) -> list[DenseVector]:
        self.gate.wait(5)
        self.batches.append(list(texts))
        if "bad" in texts:
            raise ValueError("bad text")
        return [np.array([float(len(text))], np.float32) for text in texts]


async def started(model: Model, cache_size: int = 100) -> CachedEmbedder:
    embedder = CachedEmbedder(lambda: model, model=model.name, dimensions=1, cache_size=cache_size)
    await embedder.start()
    model.batches.clear()
    return embedder


async def test_a_text_is_embedded_once() -> None:
    model = Model()
    embedder = await started(model)
    first = await embedder.embed(["a", "bb", "a"], Urgency.QUERY)
    assert [float(vector[0]) for vector in first] == [1.0, 2.0, 1.0]
    await embedder.embed(["bb"], Urgency.INDEXING)
    assert sorted(text for batch in model.batches for text in batch) == ["a", "bb"]
    await embedder.stop()


async def test_two_who_want_one_text_share_the_work() -> None:
    model = Model()
    embedder = await started(model)
    await asyncio.gather(embedder.embed(["same"], Urgency.INDEXING), embedder.embed(["same"], Urgency.QUERY))
    assert model.batches == [["same"]]
    await embedder.stop()


async def test_a_query_goes_before_what_is_indexed() -> None:
    model = Model()
    embedder = await started(model)
    model.gate.clear()
    indexing = asyncio.create_task(embedder.embed([f"text {n}" for n in range(40)], Urgency.INDEXING))
    await asyncio.sleep(0.05)
    query = asyncio.create_task(embedder.embed(["query"], Urgency.QUERY))
    await asyncio.sleep(0.05)
    model.gate.set()
    await asyncio.gather(indexing, query)
    assert model.batches[1] == ["query"]
    await embedder.stop()


async def test_the_cache_is_bounded() -> None:
    model = Model()
    embedder = await started(model, cache_size=2)
    for text in ("a", "b", "c", "a"):
        await embedder.embed([text], Urgency.QUERY)
    assert model.batches == [["a"], ["b"], ["c"], ["a"]]
    await embedder.stop()


async def test_one_bad_text_does_not_end_the_embedder() -> None:
    model = Model()
    embedder = await started(model)
    with pytest.raises(ValueError, match="bad text"):
        await embedder.embed(["bad"], Urgency.QUERY)
    assert len(await embedder.embed(["good"], Urgency.QUERY)) == 1
    await embedder.stop()


async def test_who_gives_up_does_not_take_the_vector_from_others() -> None:
    model = Model()
    embedder = await started(model)
    model.gate.clear()
    impatient = asyncio.create_task(embedder.embed(["text"], Urgency.QUERY))
    patient = asyncio.create_task(embedder.embed(["text"], Urgency.QUERY))
    await asyncio.sleep(0.05)
    impatient.cancel()
    model.gate.set()
    assert len(await patient) == 1
    await embedder.stop()


def test_the_real_model() -> None:
    model = MiniLmModel()
    pet, cat, report = model.encode(["her pet's name", "the cat is called Tolstoy", "the quarterly report is due"])
    assert pet.shape == (model.dimensions,)
    assert pet.dtype == np.float32
    assert np.linalg.norm(pet) == pytest.approx(1.0, abs=1e-5)
    assert pet @ cat > pet @ report + 0.1
    [alone] = model.encode(["her pet's name"])
    assert alone @ pet > 0.99, "padding in a batch must hardly change a vector"
    [long] = model.encode(["word " * 5000])
    assert np.isfinite(long).all()
