"""What commands print, against a client that answers from memory."""

import json
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from google.protobuf.timestamp_pb2 import Timestamp

from hearth.agent.v1.agent_pb2 import Agent, AllowedAfterRule, MaxPerRunRule, RunFirstRule, ToolRule
from hearth.agent.v1.conversation_pb2 import Message, MessageRole
from hearth.agent.v1.event_pb2 import Frame
from hearth.agent.v1.run_pb2 import ContextMessage, ContextTokens, Run, RunContext, RunState, Usage
from hearth.agent.v1.run_service_pb2 import BusyPolicy
from hearth.memory.v1.archival_memory_service_pb2 import PassageHit, SearchPassagesResponse
from hearth.memory.v1.block_pb2 import Block
from hearth.memory.v1.passage_pb2 import Passage
from hearth.tool.v1.secret_pb2 import Secret
from hearth.tool.v1.tool_execution_service_pb2 import (
    ExecuteToolResponse,
    OutputChunk,
    ToolError,
    ToolExecutionResult,
    ToolExecutionState,
)
from hearth.type.v1.access_pb2 import Role
from hearth.user.v1.api_key_service_pb2 import CreateApiKeyResponse
from hearth.user.v1.organization_pb2 import Organization, OrganizationLimits, OrganizationUsage
from hearth.user.v1.token_service_pb2 import RotateSigningKeyResponse, WhoAmIResponse
from hearth.user.v1.user_pb2 import User
from hearth_client import AlreadyExistsError, Hearth, NotFoundError
from hearth_client.cli import cli
from hearth_client.cli._session import Session
from tests.fakes.run_log import Script

RUN = "run_" + "0" * 26
AGENT = Agent(id="agent_" + "0" * 26, name="demo", model="local/tiny", default_conversation_id="conv_" + "0" * 26)


class Stream:
    """A run's stream from a list."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = iter(frames)
        self.run_id = RUN

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        return None


class FakeHearth:
    """The faces that the commands use, each a bag of functions; `asked` holds what they were asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.frames: Sequence[Frame] = ()
        self.agent_list = [AGENT]
        self.run_list = [
            Run(id=RUN, state=RunState.RUN_STATE_SUCCEEDED, input_preview="hi [bold]\x1b[31m"),
            Run(id="run_" + "1" * 26, state=RunState.RUN_STATE_FAILED),
        ]
        self.agents = SimpleNamespace(get=self._agent, list=self._agents, create=self._create, delete=self._note)
        self.runs = SimpleNamespace(
            get=lambda run_id: self.run_list[0],
            list=lambda **kwargs: iter(self._note(kwargs) or self.run_list),
            context=self._context,
            send=lambda text, **kwargs: self._note(text, kwargs) or Stream(self.frames),
            watch=lambda run_id, **kwargs: Stream(self.frames),
            cancel=lambda run_id: Run(id=run_id, state=RunState.RUN_STATE_CANCELLED),
        )
        self.conversations = SimpleNamespace(messages=self._messages)
        self.tools = SimpleNamespace(execute=self._execute)
        self.memory = SimpleNamespace(search=self._search)
        self.blocks = SimpleNamespace(
            list=lambda **kwargs: iter([Block(label="human", value="Ada", limit=5000, version=2)])
        )
        self.api_keys = SimpleNamespace(
            create=lambda **kwargs: self._note(kwargs) or CreateApiKeyResponse(secret="hk_s")
        )
        self.tokens = SimpleNamespace(whoami=self._whoami, rotate_signing_key=self._rotate)
        self.organizations = SimpleNamespace(get=self._organization, update=self._note, delete=self._delete)
        self.tool_failed = False
        self.secrets = SimpleNamespace(
            set=lambda name, value: self._note(name, value) or Secret(id="secret_1", name=name),
            list=lambda **kwargs: iter([Secret(id="secret_1", name="TOKEN")]),
            delete=self._note,
        )

    def close(self) -> None:
        self.asked.append(("close",))

    def _note(self, *args: Any) -> None:
        self.asked.append(args)

    def _agent(self, agent_id: str = "", *, name: str = "") -> Agent:
        for agent in self.agent_list:
            if name == agent.name or agent_id == agent.id:
                return agent
        raise NotFoundError("no such agent", reason="RESOURCE_NOT_FOUND")

    def _agents(self, **kwargs: Any) -> Iterator[Agent]:
        self._note(kwargs)
        return iter(self.agent_list)

    def _create(self, name: str, **kwargs: Any) -> Agent:
        self._note(name, kwargs)
        if name == "taken":
            raise AlreadyExistsError("the name is taken", reason="NAME_TAKEN")
        return Agent(id="agent_" + "2" * 26, name=name, model="local/tiny", default_conversation_id="conv_2")

    def _context(self, run_id: str) -> Sequence[RunContext]:
        messages = [ContextMessage(role="user", text="What is my dog called?")]
        tokens = ContextTokens(instructions=60, summary=71, window=4096, answer=1024)
        usage = Usage(input_tokens=1234, output_tokens=5, cached_input_tokens=1000)
        first = RunContext(step=1, system_text="You are…", recalled_text="My dog is called Rex.", messages=messages)
        first.tokens.CopyFrom(tokens)
        first.usage.CopyFrom(usage)
        return [first, RunContext(step=2)]

    def _messages(self, conversation_id: str, **kwargs: Any) -> Iterator[Message]:
        self._note(conversation_id, kwargs)
        yield Message(id="msg_2", role=MessageRole.MESSAGE_ROLE_ASSISTANT, text="second")
        yield Message(id="msg_1", role=MessageRole.MESSAGE_ROLE_USER, text="first")

    def _execute(self, tool_id: str, arguments: dict[str, Any], **kwargs: Any) -> Iterator[ExecuteToolResponse]:
        self._note(tool_id, arguments, kwargs)
        yield ExecuteToolResponse(output=OutputChunk(text="rolling\n"))
        if self.tool_failed:
            error = ToolError(type="ValueError", message="no sides", traceback="line 3")
            state = ToolExecutionState.TOOL_EXECUTION_STATE_FAILED
            yield ExecuteToolResponse(result=ToolExecutionResult(state=state, error=error))
        else:
            state = ToolExecutionState.TOOL_EXECUTION_STATE_SUCCEEDED
            yield ExecuteToolResponse(result=ToolExecutionResult(state=state, text="4"))

    def _search(self, query: str, **kwargs: Any) -> SearchPassagesResponse:
        self._note(query, kwargs)
        return SearchPassagesResponse(
            hits=[PassageHit(passage=Passage(id="psg_1", text="Rex fears thunder"), score=0.9)]
        )

    def _organization(self, organization_id: str, **kwargs: Any) -> Organization:
        self._note(organization_id, kwargs)
        limits = OrganizationLimits(concurrent_runs=20)
        in_force = OrganizationLimits(concurrent_runs=20, requests_per_second=1000)
        usage = OrganizationUsage(limits=in_force, active_runs=3, stored_passages=12_345, unanswered=["tool_svc"])
        found = Organization(id=organization_id or "org_1", name="acme", limits=limits, usage=usage)
        if kwargs.get("include_deleted"):
            found.ClearField("usage")
            found.purge.services.add(service="tool_svc", removed={"tools": 2, "tool_versions": 5})
        return found

    def _delete(self, organization_id: str, **kwargs: Any) -> None:
        self._note("delete", organization_id, kwargs)

    def _rotate(self) -> RotateSigningKeyResponse:
        self._note("rotate")
        return RotateSigningKeyResponse(key_id="kid-2", activate_time=Timestamp(seconds=1_800_000_000))

    def _whoami(self) -> WhoAmIResponse:
        user = User(id="user_1", name="admin")
        return WhoAmIResponse(
            organization=Organization(id="org_1", name="default"), user=user, role=Role.ROLE_PLATFORM_ADMIN
        )


@pytest.fixture
def fake() -> FakeHearth:
    return FakeHearth()


def run(fake: FakeHearth, *words: str, stdin: str | None = None) -> Result:
    session = Session("http://h:1", "hk_x", client=cast(Hearth, fake))
    return CliRunner().invoke(cli, words, obj=session, input=stdin, env={"HEARTH_DEBUG": ""})


def test_rotating_the_signing_keys(fake: FakeHearth) -> None:
    result = run(fake, "keys", "rotate")
    assert result.stdout == "kid-2\n"
    assert "signs from 20" in result.stderr
    assert json.loads(run(fake, "keys", "rotate", "--json").stdout)["key_id"] == "kid-2"


def test_an_organization_is_shown_with_its_limits_and_what_it_uses(fake: FakeHearth) -> None:
    result = run(fake, "org", "show")
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "concurrent runs 20 3" in rows
    assert "requests per second 1,000 (default)" in rows
    assert "stored passages no limit (default) 12,345" in rows
    assert "tool calls per minute no limit (default) ?" in rows
    assert "max tool timeout s as the operator allows (default)" in rows
    assert "did not answer: tool_svc" in result.stderr
    assert json.loads(run(fake, "org", "show", "--json").stdout)["usage"]["active_runs"] == "3"


def test_limits_are_set_and_taken_back_by_name(fake: FakeHearth) -> None:
    result = run(
        fake,
        "org",
        "limits",
        "org_2",
        "--concurrent-runs",
        "20",
        "--stored-passages",
        "0",
        "--max-tool-memory-mib",
        "64",
        "--default",
        "tool-calls-per-minute",
    )
    assert "concurrent runs" in result.stdout
    given = OrganizationLimits(concurrent_runs=20, stored_passages=0, max_tool_memory_mib=64)
    paths = (
        "limits.concurrent_runs",
        "limits.stored_passages",
        "limits.max_tool_memory_mib",
        "limits.tool_calls_per_minute",
    )
    assert fake.asked[0] == (Organization(id="org_2", limits=given), *paths)

    fake.asked.clear()
    run(fake, "org", "limits", "org_2")
    assert fake.asked[0] == ("org_2", {"include_usage": True})


@pytest.mark.parametrize(
    "words",
    [
        ("--requests-per-second", "0"),
        ("--concurrent-runs", "-1"),
        ("--default", "everything"),
        ("--concurrent-runs", "1", "--default", "concurrent-runs"),
    ],
)
def test_limits_that_make_no_sense_are_refused(fake: FakeHearth, words: tuple[str, ...]) -> None:
    assert run(fake, "org", "limits", "org_2", *words).exit_code in (1, 2)
    assert [asked for asked in fake.asked if asked != ("close",)] == []


def test_the_end_of_an_organization_can_be_followed(fake: FakeHearth) -> None:
    assert run(fake, "org", "delete", "org_2", "--yes").exit_code == 0
    assert ("delete", "org_2", {"purge_now": False}) in fake.asked
    assert "hearth org show org_2 --deleted" in run(fake, "org", "delete", "org_2", "--purge-now", "--yes").stderr
    assert ("delete", "org_2", {"purge_now": True}) in fake.asked
    shown = " ".join(run(fake, "org", "show", "org_2", "--deleted").stdout.split())
    assert "ended not yet" in shown
    assert "tool_svc not yet 5 tool_versions, 2 tools" in shown


def test_lists_are_json_arrays_in_the_order_of_the_server(fake: FakeHearth) -> None:
    result = run(fake, "run", "list", "--json")
    runs = json.loads(result.stdout)
    assert [r["id"] for r in runs] == [r.id for r in fake.run_list]
    assert runs[0]["state"] == "RUN_STATE_SUCCEEDED"
    assert runs[0]["conversation_id"] == ""
    assert fake.asked[-1] == ("close",)


def test_an_empty_list_is_an_empty_array(fake: FakeHearth) -> None:
    fake.agent_list = []
    assert json.loads(run(fake, "agent", "list", "--json").stdout) == []
    assert run(fake, "agent", "list").stdout == ""


def test_tables_show_whole_ids_and_no_control_characters(fake: FakeHearth) -> None:
    result = run(fake, "run", "list")
    assert RUN in result.stdout
    assert "succeeded" in result.stdout
    assert "hi [bold][31m" in result.stdout
    assert "\x1b" not in result.stdout


def test_limits(fake: FakeHearth) -> None:
    result = run(fake, "run", "list", "--limit", "1", "--json")
    assert len(json.loads(result.stdout)) == 1
    assert "there are more" in result.stderr
    assert len(json.loads(run(fake, "run", "list", "--limit", "0", "--json").stdout)) == 2


def test_states_and_agents_become_filters(fake: FakeHearth) -> None:
    run(fake, "run", "list", "--agent", "demo", "--state", "failed", "--state", "failed")
    filters = {"agent_id": AGENT.id, "conversation_id": "", "states": [RunState.RUN_STATE_FAILED]}
    assert (filters,) in fake.asked


def test_what_the_model_saw(fake: FakeHearth) -> None:
    shown = json.loads(run(fake, "run", "show", RUN, "--context", "--json").stdout)
    assert shown["run"]["id"] == RUN
    assert shown["contexts"][0]["recalled_text"] == "My dog is called Rex."
    text = run(fake, "run", "show", RUN, "--context").stdout
    for part in ("You are…", "My dog is called Rex.", "What is my dog called?", "~71", "1234, 1000 of it cached"):
        assert part in text
    assert "4096, 1024 of it for the answer" in text
    assert "did not say" in text.partition("step 2")[2]
    assert json.loads(run(fake, "run", "show", RUN, "--json").stdout)["id"] == RUN


def test_creating_an_agent(fake: FakeHearth) -> None:
    result = run(
        fake,
        "agent",
        "create",
        "new",
        "--block",
        "persona=calm=true",
        "--tool",
        "roll",
        "--instructions",
        "-",
        stdin="Be kind.",
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "agent_" + "2" * 26 + "\n"
    name, asked = fake.asked[0]
    assert (name, asked["blocks"], asked["tools"], asked["instructions"]) == (
        "new",
        {"persona": "calm=true"},
        ("roll",),
        "Be kind.",
    )
    assert run(fake, "agent", "create", "new", "--block", "persona").exit_code == 2


def test_an_agent_is_shown_with_its_tool_rules(fake: FakeHearth) -> None:
    rules = [
        ToolRule(run_first=RunFirstRule(tool_names=["look", "read"])),
        ToolRule(allowed_after=AllowedAfterRule(tool_name="look", allowed_tool_names=["read", "act"])),
        ToolRule(allowed_after=AllowedAfterRule(tool_name="act")),
        ToolRule(max_per_run=MaxPerRunRule(tool_name="act", calls=2)),
        ToolRule(),
    ]
    fake.agent_list = [Agent(name="ruled", tool_rules=rules)]
    shown = " ".join(run(fake, "agent", "show", "ruled").stdout.split())
    assert (
        "tool rules run_first look, read; allowed_after look: read, act; allowed_after act: none; max_per_run act: 2; "
        "unknown to this version"
    ) in shown
    assert (
        json.loads(run(fake, "agent", "show", "ruled", "--json").stdout)["tool_rules"][3]["max_per_run"]["calls"] == 2
    )


def test_failures_are_told_in_one_line(fake: FakeHearth) -> None:
    result = run(fake, "agent", "create", "taken")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "hearth: the name is taken (NAME_TAKEN)\n")
    result = run(fake, "agent", "show", "nobody")
    assert result.exit_code == 1
    assert result.stderr.startswith("hearth: no agent 'nobody'")


def test_a_fault_of_the_program_is_told_without_a_traceback(fake: FakeHearth) -> None:
    del fake.tokens
    result = run(fake, "whoami")
    assert result.exit_code == 1
    assert "AttributeError" in result.stderr
    assert "Traceback" not in result.output


def test_messages_are_the_newest_in_order_of_time(fake: FakeHearth) -> None:
    assert [m["text"] for m in json.loads(run(fake, "conversation", "messages", "demo", "--json").stdout)] == [
        "first",
        "second",
    ]
    assert fake.asked[0] == (AGENT.default_conversation_id, {"newest_first": True})
    assert run(fake, "conversation", "messages", "demo").stdout.index("first") < 60


def test_running_a_tool(fake: FakeHearth) -> None:
    result = run(fake, "tool", "run", "roll", "--args", '{"sides": 6}')
    assert (result.exit_code, result.stdout, result.stderr) == (0, "4\n", "rolling\n")
    assert fake.asked[0] == ("", {"sides": 6}, {"name": "roll", "version": 0})
    fake.tool_failed = True
    result = run(fake, "tool", "run", "roll")
    assert result.exit_code == 1
    assert "hearth: roll failed: ValueError: no sides" in result.stderr
    for bad in ("{", "[1]", "1"):
        assert run(fake, "tool", "run", "roll", "--args", bad).exit_code == 2


def test_secrets_come_on_standard_input_and_are_never_shown(fake: FakeHearth) -> None:
    result = run(fake, "secret", "set", "TOKEN", stdin="s3cret value\n")
    assert fake.asked[-2] == ("TOKEN", "s3cret value")
    assert result.stdout == "secret_1\n"
    assert "s3cret" not in result.output
    assert [one["name"] for one in json.loads(run(fake, "secret", "list", "--json").stdout)] == ["TOKEN"]
    assert "deleted secret TOKEN" in run(fake, "secret", "delete", "TOKEN").stderr
    assert run(fake, "secret", "set", "TOKEN", "s3cret").exit_code == 2


def test_searching_memory(fake: FakeHearth) -> None:
    result = run(fake, "memory", "search", "thunder", "--agent", "demo", "--mode", "lexical", "--limit", "3")
    assert "Rex fears thunder" in result.stdout
    query, asked = fake.asked[0]
    assert (query, asked["agent_id"], asked["top_k"], asked["mode"]) == ("thunder", AGENT.id, 3, 3)
    assert json.loads(run(fake, "memory", "search", "x", "--json").stdout)[0]["passage"]["id"] == "psg_1"
    assert "Ada" in run(fake, "memory", "blocks", "--agent", "demo").stdout


def test_a_key_is_printed_alone(fake: FakeHearth) -> None:
    result = run(fake, "key", "create", "--name", "ci", "--expires-in", "90d")
    assert result.stdout == "hk_s\n"
    assert fake.asked[0][0]["expire_time"] is not None
    assert run(fake, "key", "create", "--expires-in", "soon").exit_code == 2


def test_who_am_i(fake: FakeHearth) -> None:
    assert "platform admin" in run(fake, "whoami").stdout
    assert json.loads(run(fake, "whoami", "--json").stdout)["organization"]["name"] == "default"


def test_chat_creates_the_agent_and_streams(fake: FakeHearth) -> None:
    fake.frames = Script().said("hi").writes("m", "He", "llo").completed("m", "Hello").succeeded().frames
    result = run(fake, "chat", "--agent", "new", "hi")
    assert (result.exit_code, result.stdout) == (0, "Hello\n")
    assert "created agent new" in result.stderr
    assert ("hi", {"conversation_id": "conv_2", "busy_policy": BusyPolicy.BUSY_POLICY_QUEUE}) in fake.asked


def test_chat_tells_a_restart_that_says_something_else(fake: FakeHearth) -> None:
    script = Script().said("hi").writes("m", "Hello").restarts("m", 2).writes("m", "Good ", "day", attempt=2)
    fake.frames = script.completed("m", "Good day").succeeded().frames
    result = run(fake, "chat", "--agent", "demo", "hi")
    assert result.stdout == "Hello\nGood day\n"
    assert "starts again" in result.stderr


def test_chat_fails_when_the_run_does(fake: FakeHearth) -> None:
    fake.frames = Script().said("hi").failed("MODEL_NOT_CONFIGURED", "no model").frames
    result = run(fake, "chat", "--agent", "demo", "hi")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the run failed: no model (MODEL_NOT_CONFIGURED)" in result.stderr
    assert "hearth model list" in result.stderr


def test_watching_prints_a_frame_a_line(fake: FakeHearth) -> None:
    fake.frames = Script().said("hi").completed("m", "Hello").succeeded().frames
    lines = run(fake, "run", "watch", RUN, "--json").stdout.splitlines()
    assert [json.loads(line)["event"]["seq"] for line in lines] == ["1", "2", "3", "4", "5"]
    assert run(fake, "run", "watch", RUN).stdout == "Hello\n"


def every_command() -> list[list[str]]:
    found: list[list[str]] = []
    for name, command in cli.commands.items():
        found += [[name, sub] for sub in getattr(command, "commands", {})] or [[name]]
    return found


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_explains_itself_with_an_example(fake: FakeHearth, words: list[str]) -> None:
    result = run(fake, *words, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    if words[-1] in ("list", "show", "blocks", "search", "messages", "versions"):
        assert "--json" in result.stdout
