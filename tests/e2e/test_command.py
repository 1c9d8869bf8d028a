"""The `hearth` command as someone types it, against the running stack."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from deploy.local import Stack
from tests.fakes.model_control import ThreadedModelServer

HEARTH = str(Path(sys.executable).with_name("hearth"))


def hearth(stack: Stack, *arguments: str, code: int = 0, key: str = "") -> str:
    """Runs the command, as the administrator or with another key; returns what it prints on standard output."""
    environment = {**os.environ, "HEARTH_URL": stack.url, "HEARTH_API_KEY": key or stack.api_key}
    done = subprocess.run(
        [HEARTH, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def test_chat_makes_the_agent_and_streams_the_answer(stack: Stack) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"

    answer = hearth(stack, "chat", "--agent", name, "My dog is called Rex.")
    again = hearth(stack, "chat", "--agent", name, "What is my dog called?")

    assert "My dog is called Rex." in answer
    assert "What is my dog called?" in again
    runs = json.loads(hearth(stack, "run", "list", "--json"))
    assert runs[0]["input_preview"] == "What is my dog called?"
    shown = json.loads(hearth(stack, "run", "show", runs[0]["id"], "--context", "--json"))
    assert "Rex" in json.dumps(shown["contexts"])


def test_a_failed_run_says_why_and_exits_with_1(stack: Stack, model: ThreadedModelServer) -> None:
    mark = f"fail {uuid.uuid4().hex}"
    model.script(mark, {"status": 400, "error": "the moon is in the wrong phase"}, repeat=True)

    said = hearth(stack, "chat", "--agent", f"cli-{uuid.uuid4().hex[:8]}", mark, code=1)

    assert "the moon is in the wrong phase" in said


def test_tools_from_the_command_line(stack: Stack, tmp_path: Path) -> None:
    source = tmp_path / "shout.py"
    source.write_text(
        'def shout(text: str) -> str:\n    """Says it louder.\n\n    Args:\n        text: What to say.\n    """\n    return text.upper()\n'
    )

    hearth(stack, "tool", "push", str(source))
    result = hearth(stack, "tool", "run", "shout", "--args", '{"text": "hello"}')

    assert "HELLO" in result
    assert "shout" in hearth(stack, "tool", "list")


def test_a_wrong_key_is_said_in_one_line(stack: Stack) -> None:
    environment = {**os.environ, "HEARTH_URL": stack.url, "HEARTH_API_KEY": "hk_" + "A" * 43}
    done = subprocess.run(
        [HEARTH, "agent", "list"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "API_KEY_INVALID" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_whoami_and_models(stack: Stack) -> None:
    assert "admin" in hearth(stack, "whoami")
    models = json.loads(hearth(stack, "model", "list", "--json"))
    assert any(model.get("usable") and model.get("default") for model in models)


def test_memory_moves_from_the_command_line(stack: Stack, tmp_path: Path) -> None:
    first, second = (f"cli-{uuid.uuid4().hex[:8]}" for _ in range(2))
    plain, exported = tmp_path / "plain.jsonl", tmp_path / "exported.jsonl"
    facts = [f"Crate {number} holds {number * 7} lemons." for number in range(450)]
    plain.write_text("".join(json.dumps({"text": fact, "tags": ["crate"]}) + "\n" for fact in facts))
    for name in (first, second):
        hearth(stack, "agent", "create", name)
    moved = json.loads(hearth(stack, "memory", "import", "--agent", first, "--json", str(plain)))
    assert moved == {"stored": 450, "known": 0}
    # Again goes on where it ended: at the end.
    hearth(stack, "memory", "import", "--agent", first, str(plain))
    hearth(stack, "memory", "export", "--agent", first, str(exported))
    assert len(exported.read_text().splitlines()) == 452
    moved = json.loads(hearth(stack, "memory", "import", "--agent", second, "--json", str(exported)))
    assert moved == {"stored": 452, "known": 0}
    found = json.loads(hearth(stack, "memory", "search", "--agent", second, "--json", "lemons of crate 449"))
    assert found[0]["passage"]["text"] == facts[449]
    assert "dense #" in hearth(stack, "memory", "search", "--agent", second, "--explain", "lemons")


def test_looking_after_memory_from_the_command_line(stack: Stack) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    hearth(stack, "agent", "create", name)
    assert "version" in hearth(stack, "memory", "history", "--agent", name, "human")
    restored = json.loads(hearth(stack, "memory", "restore", "--agent", name, "--json", "human", "1"))
    assert restored["label"] == "human"
    assert json.loads(hearth(stack, "memory", "status", "--json"))["filled"] is True
    found = json.loads(hearth(stack, "memory", "reconcile", "--json"))
    assert (found["orphaned_count"], found["stale_count"], found["missing_count"]) == ("0", "0", "0")
    hearth(stack, "memory", "reindex")
