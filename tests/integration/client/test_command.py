"""The `hearth` command as a process, against a real server."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from hearth.agent.v1.run_service_pb2 import BusyPolicy, SendMessageRequest, StartRunRequest
from tests.fakes.hearth_server import API_KEY, Break, FakeHearth
from tests.fakes.run_log import RunLog, Script

ANSWER = (
    Script()
    .said("hi")
    .writes("m1", "Let me roll.")
    .completed("m1", "Let me roll.")
    .calls("roll_dice", '{"sides": 6}')
    .writes("m2", "A ", "six", "!")
    .completed("m2", "A six!")
    .succeeded()
    .frames
)


async def start(
    server: FakeHearth, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> asyncio.subprocess.Process:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HEARTH_URL": server.url,
        "HEARTH_API_KEY": API_KEY,
        **(env or {}),
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hearth_client", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in environment.items() if value},
        cwd=cwd,
    )


async def hearth(server: FakeHearth, *words: str, stdin: str = "", **kwargs: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    env = kwargs.get("env")
    cwd = kwargs.get("cwd")
    process = await start(
        server,
        *words,
        env=env if isinstance(env, dict) else None,
        cwd=cwd if isinstance(cwd, Path) else None,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_message_is_answered_on_standard_output(server: FakeHearth) -> None:
    server.log = RunLog(ANSWER)
    server.unknown_agents = {"demo"}
    code, out, err = await hearth(server, "chat", "--agent", "demo", "hi")
    assert (code, out) == (0, "Let me roll.\nA six!\n")
    assert "created agent demo" in err
    assert 'roll_dice({"sides": 6})' in err


async def test_it_survives_cut_connections(server: FakeHearth) -> None:
    server.log = RunLog(ANSWER)
    server.breaks = [Break(4), Break(2), Break(1)]
    code, out, err = await hearth(server, "chat", "hi")
    assert (code, out) == (0, "Let me roll.\nA six!\n"), err


async def test_an_answer_that_starts_again_with_the_same_words_is_printed_once(server: FakeHearth) -> None:
    script = Script().said("hi").writes("m1", "One ", "two ").restarts("m1", 2)
    script.writes("m1", "One ", "two ", "three", attempt=2).completed("m1", "One two three").succeeded()
    server.log = RunLog(script.frames)
    assert (await hearth(server, "chat", "hi"))[:2] == (0, "One two three\n")


async def test_a_run_that_fails(server: FakeHearth) -> None:
    script = Script().said("hi").failed("MODEL_UNAVAILABLE", "the model's server does not answer")
    server.log = RunLog(script.frames)
    code, out, err = await hearth(server, "chat", "hi")
    assert (code, out) == (1, "")
    assert "hearth: the run failed: the model's server does not answer (MODEL_UNAVAILABLE)" in err


async def test_ctrl_c_cancels_the_run(server: FakeHearth) -> None:
    server.log = RunLog(ANSWER, hold_after=4)
    process = await start(server, "chat", "hi", env={"HEARTH_DEBUG": "1"})
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readexactly(12) == b"Let me roll."
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"the run was cancelled" in err
    assert server.count("CancelRun") == 1


async def test_piped_lines_are_turns(server: FakeHearth) -> None:
    server.log = RunLog(ANSWER)
    code, out, _ = await hearth(server, "chat", stdin="hi\n\n")
    assert (code, out) == (0, "Let me roll.\nA six!\n")
    assert server.count("SendMessage") == 1


async def test_settings_from_a_file_above(server: FakeHearth, tmp_path: Path) -> None:
    (tmp_path / ".hearth").mkdir()
    (tmp_path / ".hearth" / "env").write_text(f"export HEARTH_URL={server.url}\nexport HEARTH_API_KEY='{API_KEY}'\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    nothing = {"HEARTH_URL": "", "HEARTH_API_KEY": ""}
    code, out, _ = await hearth(server, "token", "issue", "--json", env=nothing, cwd=below)
    assert code == 0
    assert json.loads(out)["token"].startswith("h.")


async def test_failures_are_one_line_and_no_traceback(server: FakeHearth, tmp_path: Path) -> None:
    code, out, err = await hearth(server, "--url", "http://127.0.0.1:1", "whoami")
    assert (code, out) == (1, "")
    assert "cannot reach Hearth at http://127.0.0.1:1" in err
    assert "make up" in err
    for words, expected in [
        (("--api-key", "hk_wrong", "whoami"), "API_KEY_INVALID"),
        (("--url", "ftp://x", "whoami"), "not the address of a Hearth"),
        (("model", "list"), "METHOD_UNKNOWN"),
        (("tool", "push", "no/such.py"), "cannot read no/such.py"),
    ]:
        code, out, err = await hearth(server, *words)
        assert (code, out) == (1, ""), words
        assert expected in err
        assert "Traceback" not in err
    nothing = {"HEARTH_URL": "", "HEARTH_API_KEY": ""}
    code, _, err = await hearth(server, "whoami", env=nothing, cwd=tmp_path)
    assert code == 1
    assert "no Hearth to talk to" in err
    assert (await hearth(server, "run", "list", "--state", "odd"))[0] == 2
    assert (await hearth(server, "chat", "  "))[0] == 2


async def test_help_is_quick_and_loads_no_grpc(server: FakeHearth) -> None:
    code, out, err = await hearth(server, "--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert code == 0
    assert "hearth chat --agent demo" in out
    loaded = {line.rsplit("|", 1)[-1].strip() for line in err.splitlines()}
    assert not {"grpc", "google.protobuf", "rich"} & loaded


async def test_what_happens_when_the_agent_is_busy_is_for_the_caller_to_say(server: FakeHearth) -> None:
    server.log = RunLog(ANSWER)
    code, out, err = await hearth(server, "run", "start", "demo", "--when-busy", "refuse", "-", stdin="hi")
    assert (code, out) == (0, "run_1\n"), err
    code, out, err = await hearth(server, "run", "start", "demo", "hi", "--json")
    assert json.loads(out)["id"] == "run_1", err
    code, _, err = await hearth(server, "chat", "--when-busy", "interrupt", "hi")
    assert code == 0, err
    started = [request for _, request in server.calls if isinstance(request, StartRunRequest)]
    sent = [request.start for _, request in server.calls if isinstance(request, SendMessageRequest)]
    assert [BusyPolicy.Name(request.busy_policy) for request in [*started, *sent]] == [
        "BUSY_POLICY_REFUSE",
        "BUSY_POLICY_QUEUE",
        "BUSY_POLICY_INTERRUPT",
    ]
    assert {request.conversation_id for request in [*started, *sent]} == {"conv_1"}
    code, _, err = await hearth(server, "run", "start", "demo", " ")
    assert code == 2
    assert "empty" in err
