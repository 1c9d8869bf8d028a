"""A small language model behind an OpenAI-compatible server on loopback: SmolLM2-135M through llama.cpp.

`python -m deploy.local.model_server --port PORT`. It serves one request at a time on one thread; the context is all that
the model allows (8192 tokens), its attention cache quantized to 8 bits to halve the memory. It has no tool calling.
"""

import argparse
import os
import signal
from typing import Any

import xllamacpp

from deploy.local.local_model import MODEL, model_file


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args().port
    ends = {signal.SIGTERM, signal.SIGINT}
    # Blocked before the engine starts its threads, which inherit it: the signal then waits for sigwait below.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server = serve(port)
    print(f"{MODEL} listens at {server.listening_address}", flush=True)
    signal.sigwait(ends)
    # The engine's destructor waits for open streams; nothing here needs saving.
    os._exit(0)


def serve(port: int) -> Any:
    """Loads the model and serves it."""
    engine: Any = xllamacpp
    parameters = engine.CommonParams()
    parameters.model.path = str(model_file())
    parameters.model_alias = {MODEL}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = 1
    parameters.n_ctx = 0
    parameters.cache_type_k = parameters.cache_type_v = engine.ggml_type.GGML_TYPE_Q8_0
    parameters.n_batch = parameters.n_ubatch = 128
    # Other conversations' caches and checkpoints would cost more memory than the model.
    parameters.cache_ram_mib = 0
    parameters.n_ctx_checkpoints = 0
    parameters.fit_params = False
    parameters.n_threads_http = 4
    parameters.ui = False
    parameters.verbosity = 1
    # Where a request does not say otherwise: so small a model wanders when warm and repeats itself when not hindered.
    parameters.sampling.temp = 0.2
    parameters.sampling.top_p = 0.9
    parameters.sampling.penalty_repeat = 1.1
    for threads in (parameters.cpuparams, parameters.cpuparams_batch):
        threads.n_threads = 1
        threads.poll = 0
    return engine.Server(parameters)


if __name__ == "__main__":
    main()
