"""Embeddings from an OpenAI-compatible endpoint: OpenAI, vLLM, Ollama, llama.cpp and others."""

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

from chassis.errors import Unavailable
from memory_svc.interfaces.embedder import DenseVector

_TIMEOUT_S = 30.0


class EndpointModel:
    """POST /embeddings. Synchronous: CachedEmbedder calls it from its own thread.

    Raises ValueError on construction when the endpoint's vectors have another length than `dimensions`, Unavailable when it
    does not answer as it should.
    """

    def __init__(self, url: str, *, model: str, dimensions: int, api_key: str = "") -> None:
        self.name = model
        self.dimensions = dimensions
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(base_url=url.rstrip("/") + "/", headers=headers, timeout=_TIMEOUT_S)
        [probe] = self._ask(["dimensions"])
        if probe.shape != (dimensions,):
            raise ValueError(
                f"HEARTH_EMBEDDING_DIMENSIONS is {dimensions}, but {model} at {url} makes vectors of {probe.size}: "
                "set it to what the model makes; memory is then indexed anew"
            )

    def encode(self, texts: Sequence[str]) -> list[DenseVector]:
        """One unit vector for each text."""
        vectors = self._ask(texts)
        if any(vector.shape != (self.dimensions,) for vector in vectors):
            raise _wrong("vectors of another length than before")
        return vectors

    def _ask(self, texts: Sequence[str]) -> list[DenseVector]:
        try:
            answer = self._client.post("embeddings", json={"model": self.name, "input": list(texts)})
            answer.raise_for_status()
            rows: list[dict[str, Any]] = answer.json()["data"]
            ordered = sorted(rows, key=lambda row: row["index"])
            vectors = [np.asarray(row["embedding"], np.float32) for row in ordered]
        except httpx.HTTPError as error:
            raise _unavailable(error) from error
        except (KeyError, TypeError, ValueError) as error:
            raise _wrong("something that is no list of embeddings") from error
        if len(vectors) != len(texts) or not all(vector.ndim == 1 and np.isfinite(vector).all() for vector in vectors):
            raise _wrong("not one vector of numbers for each text")
        return [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in vectors]


def _wrong(what: str) -> Unavailable:
    return Unavailable(f"the embedding endpoint answered with {what}", reason="DEPENDENCY_UNAVAILABLE")


def _unavailable(error: httpx.HTTPError) -> Unavailable:
    status = f" ({error.response.status_code})" if isinstance(error, httpx.HTTPStatusError) else ""
    return Unavailable(
        f"the embedding endpoint does not answer{status}", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0
    )
