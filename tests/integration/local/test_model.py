"""The local model's server, as agent_svc meets it."""

import json
import urllib.request

from deploy.local import Stack
from deploy.local.processes import memory_bytes


def test_it_streams_an_answer_within_its_memory() -> None:
    with Stack(only=("local_model",), env={"HEARTH_LOCAL_MODEL": "1"}) as stack:
        address = f"http://{stack.address('local_model')}"
        with urllib.request.urlopen(f"{address}/v1/models", timeout=5) as answer:
            assert [model["id"] for model in json.load(answer)["data"]] == ["smollm2-135m"]
        body = {
            "model": "smollm2-135m",
            "stream": True,
            "max_tokens": 12,
            "temperature": 0,
            "messages": [{"role": "user", "content": "Say hello."}],
        }
        request = urllib.request.Request(
            f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            lines = [line.decode().strip() for line in answer]
        chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
        assert len(chunks) > 3
        assert text.strip()
        assert lines[-2:] == ["data: [DONE]", ""]
        used = memory_bytes(stack.processes()["local_model"])
        assert used is not None
        assert used < 300e6
