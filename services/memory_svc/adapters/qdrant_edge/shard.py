"""Opens the engine's shard and says how it is laid out on disk."""

import contextlib
import json
import shutil
import time
from pathlib import Path

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    KeywordIndexParams,
    Memory,
    Modifier,
    PayloadSchemaType,
    UpdateOperation,
)

from chassis.errors import Unavailable
from memory_svc.adapters.qdrant_layout import INTEGERS, KEYWORDS, LAYOUT, SPARSE, TENANT

_READY = "hearth.json"


def open_shard(folder: Path, dimensions: int, *, patience_s: float) -> EdgeShard:
    """The shard in `folder`, made anew where it is absent or cannot be read. Blocks.

    Raises Unavailable when another process still holds it after `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _open(folder, dimensions)
        except Exception as error:  # the engine raises bare Exception for everything
            if not _is_held(error):
                raise
            if time.monotonic() > deadline:
                raise Unavailable(
                    "the vector index is held by another process: only one memory service may use it",
                    reason="DEPENDENCY_UNAVAILABLE",
                ) from None
            time.sleep(0.2)


def _open(folder: Path, dimensions: int) -> EdgeShard:
    if (folder / _READY).exists():
        try:
            return EdgeShard.load(str(folder), _config(dimensions))
        except Exception as error:
            if _is_held(error):
                raise
            # It is an index: what cannot be read is set aside and filled again from Postgres.
            _set_aside(folder)
    elif folder.exists():
        # Creation was cut short before its indexes were made.
        shutil.rmtree(folder)
    return _create(folder, dimensions)


def _create(folder: Path, dimensions: int) -> EdgeShard:
    folder.mkdir(parents=True, exist_ok=True)
    shard = EdgeShard.create(str(folder), _config(dimensions))
    shard.update(UpdateOperation.create_field_index(TENANT, KeywordIndexParams(is_tenant=True)))
    for name in KEYWORDS:
        shard.update(UpdateOperation.create_field_index(name, PayloadSchemaType.Keyword))
    for name in INTEGERS:
        shard.update(UpdateOperation.create_field_index(name, PayloadSchemaType.Integer))
    shard.flush()
    (folder / _READY).write_text(json.dumps({"layout": LAYOUT, "dimensions": dimensions}))
    return shard


def _config(dimensions: int) -> EdgeConfig:
    # Vectors have length 1 already, so the dot product is the cosine without scaling again.
    return EdgeConfig(
        vectors={"dense": EdgeVectorParams(size=dimensions, distance=Distance.Dot, memory=Memory.Cached)},
        sparse_vectors={name: EdgeSparseVectorParams(modifier=Modifier.Idf) for name in SPARSE},
        payload_memory=Memory.Cached,
        max_search_threads=1,
    )


def _is_held(error: Exception) -> bool:
    return "WouldBlock" in str(error)


def _set_aside(folder: Path) -> None:
    aside = folder.with_name(f"{folder.name}.unreadable")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(aside)
    folder.rename(aside)
