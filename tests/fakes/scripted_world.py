"""What the scripted Hearth knows: tokens, agents, conversations with their logs; and how it plays a run."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis import ids
from chassis.errors import not_found
from hearth.agent.v1 import agent_pb2, conversation_pb2, event_pb2, run_pb2, run_service_pb2
from hearth.memory.v1 import block_pb2

ORGANIZATION = UUID("01890000-0000-7000-8000-000000000001")
STRANGERS = UUID("01890000-0000-7000-8000-000000000002")


class Tokens:
    """Signs tokens as user_svc does, and publishes the key."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "test", "alg": "EdDSA", "use": "sig"}
        self.jwk["x"] = base64.urlsafe_b64encode(public).decode().rstrip("=")

    def issue(
        self,
        organization: UUID = ORGANIZATION,
        *,
        role: str = "MEMBER",
        subject: str = "",
        key: str = "key_1",
        lifetime_s: float = 900.0,
    ) -> str:
        now = int(time.time())
        org = "" if organization.int == 0 else ids.encode("org", organization)
        claims = {
            "iss": "hearth",
            "aud": "hearth",
            "sub": subject or "user_" + org[4:],
            "org": org,
            "role": role,
            "key": key,
            "iat": now,
            "exp": now + lifetime_s,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": "test"})

    async def fetch(self) -> Mapping[str, jwt.PyJWK]:
        return {"test": jwt.PyJWK({key: value for key, value in self.jwk.items() if key != "use"})}


@dataclass
class Conversation:
    """A log and whoever waits for it to grow."""

    id: str
    organization: UUID
    agent_id: str
    name: str = ""
    events: list[event_pb2.RunEvent] = field(default_factory=list)
    first_seq: int = 1
    partial: event_pb2.Snapshot | None = None
    queues: set[asyncio.Queue[event_pb2.Frame | None]] = field(default_factory=set)

    def append(self, run_id: str, **payload: Any) -> event_pb2.RunEvent:
        event = event_pb2.RunEvent(seq=len(self.events) + 1, run_id=run_id, conversation_id=self.id, **payload)
        event.create_time.GetCurrentTime()
        self.events.append(event)
        self._publish(event_pb2.Frame(event=event))
        return event

    def delta(self, run_id: str, message_id: str, text: str, *, attempt: int = 1) -> None:
        if self.partial is None or (self.partial.message_id, self.partial.attempt) != (message_id, attempt):
            self.partial = event_pb2.Snapshot(run_id=run_id, message_id=message_id, attempt=attempt)
        offset = len(self.partial.text)
        self.partial.text += text
        delta = event_pb2.Delta(
            run_id=run_id,
            message_id=message_id,
            attempt=attempt,
            kind=event_pb2.DELTA_KIND_TEXT,
            offset=offset,
            text=text,
        )
        self._publish(event_pb2.Frame(delta=delta))

    def complete(self, run_id: str, message: conversation_pb2.Message) -> None:
        message.seq = len(self.events) + 1
        message.conversation_id = self.id
        message.run_id = run_id
        message.create_time.GetCurrentTime()
        self.partial = None
        self.append(run_id, message_completed=event_pb2.MessageCompleted(message=message))

    def checkpoint(self) -> None:
        self._publish(event_pb2.Frame(checkpoint=event_pb2.Checkpoint(head_seq=len(self.events))))

    def _publish(self, frame: event_pb2.Frame) -> None:
        for queue in self.queues:
            queue.put_nowait(frame)


class World:
    """What survives a restart."""

    def __init__(self) -> None:
        self.tokens = Tokens()
        self.agents: dict[str, agent_pb2.Agent] = {}
        self.conversations: dict[str, Conversation] = {}
        self.runs: dict[str, str] = {}
        self.blocks: dict[str, block_pb2.Block] = {}
        self.requests: dict[str, run_service_pb2.StartRunResponse] = {}
        self.subscribed: list[run_service_pb2.WatchSubscribe] = []
        self.live = 0
        self.token_pause_s = 0.02
        self.revoked: set[str] = set()
        # Subjects whose tokens user_svc calls void.
        self.void: list[str] = []
        self.hiccups = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def agent(self, name: str = "Ember", organization: UUID = ORGANIZATION) -> agent_pb2.Agent:
        agent = agent_pb2.Agent(id=ids.encode("agent", ids.new()), name=name, model="scripted/echo")
        agent.organization_id = ids.encode("org", organization)
        agent.create_time.GetCurrentTime()
        agent.default_conversation_id = self.conversation(agent.id, organization).id
        self.agents[agent.id] = agent
        for label, value in (("persona", f"I am {name}. I remember."), ("human", "")):
            block = block_pb2.Block(id=ids.encode("block", ids.new()), label=label, value=value, limit=2000, version=1)
            block.agent_ids.append(agent.id)
            block.update_time.GetCurrentTime()
            self.blocks[block.id] = block
        return agent

    def conversation(self, agent_id: str = "agent_x", organization: UUID = ORGANIZATION) -> Conversation:
        conversation = Conversation(ids.encode("conv", ids.new()), organization, agent_id)
        self.conversations[conversation.id] = conversation
        return conversation

    def find(self, conversation_id: str, organization: UUID) -> Conversation:
        found = self.conversations.get(conversation_id)
        if found is None or found.organization != organization:
            raise not_found("conversation", conversation_id)
        return found

    def work(self, task: Any) -> None:
        running = asyncio.create_task(task)
        self.tasks.add(running)
        running.add_done_callback(self.tasks.discard)


async def reply(world: World, conversation: Conversation, run_id: str, text: str) -> None:
    """Plays a run: `fail` fails, `remember …` calls a tool and changes memory, all else is answered word by word."""
    pause = world.token_pause_s
    conversation.append(run_id, run_started=event_pb2.RunStarted(epoch=1))
    usage = run_pb2.Usage(input_tokens=2**53 + 1, output_tokens=12)
    await asyncio.sleep(pause)
    if text.startswith("fail"):
        error = run_pb2.RunError(reason="MODEL_UNAVAILABLE", message="The model's server cannot be reached.")
        failed = event_pb2.RunFailed(stop_reason=run_pb2.RUN_STOP_REASON_ERROR, error=error, usage=usage)
        conversation.append(run_id, run_failed=failed)
        return
    if text.startswith("remember"):
        await use_tool(world, conversation, run_id, text)
    message_id = ids.encode("msg", ids.new())
    answer = ANSWERS.get(text.split()[0].lower(), f"You said: {text} 🐕 That is noted, word for word.")
    for piece in pieces(answer):
        conversation.delta(run_id, message_id, piece)
        await asyncio.sleep(pause)
    role = conversation_pb2.MESSAGE_ROLE_ASSISTANT
    conversation.complete(run_id, conversation_pb2.Message(id=message_id, role=role, text=answer))
    succeeded = event_pb2.RunSucceeded(stop_reason=run_pb2.RUN_STOP_REASON_FINAL_ANSWER, usage=usage)
    conversation.append(run_id, run_succeeded=succeeded)


ANSWERS = {
    "remember": "Done. I have put that into my **memory**, so I will still know it tomorrow.",
    "markdown": (
        "Here is a short list:\n\n- one *apple*\n- two `pears`\n\n```python\nprint('<b>not bold</b>')\n```\n\n"
        "And a link: https://example.org/a?b=c"
    ),
}


def pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [word + (" " if index < len(words) - 1 else "") for index, word in enumerate(words)]


async def use_tool(world: World, conversation: Conversation, run_id: str, text: str) -> None:
    fact = text.removeprefix("remember").strip()
    call = conversation_pb2.ToolCall(
        id="call_1", name="memory_append", arguments_json='{"label": "human", "text": "' + fact + '"}'
    )
    asking = conversation_pb2.Message(
        id=ids.encode("msg", ids.new()), role=conversation_pb2.MESSAGE_ROLE_ASSISTANT, tool_calls=[call]
    )
    conversation.complete(run_id, asking)
    conversation.append(run_id, tool_call_started=event_pb2.ToolCallStarted(message_id=asking.id, tool_call=call))
    await asyncio.sleep(world.token_pause_s * 5)
    changed = ""
    for block in world.blocks.values():
        if block.label == "human" and conversation.agent_id in block.agent_ids:
            block.value = f"{block.value}\n{fact}".strip()
            block.version += 1
            changed = block.id
    succeeded = conversation_pb2.TOOL_CALL_OUTCOME_SUCCEEDED
    done = event_pb2.ToolCallCompleted(tool_call_id="call_1", name="memory_append", outcome=succeeded, duration_ms=4)
    conversation.append(run_id, tool_call_completed=done)
    conversation.append(
        run_id,
        memory_updated=event_pb2.MemoryUpdated(resource_ids=[changed], tool_call_id="call_1", block_label="human"),
    )
    result = conversation_pb2.Message(
        id=ids.encode("msg", ids.new()),
        role=conversation_pb2.MESSAGE_ROLE_TOOL,
        text="Appended to human.",
        tool_call_id="call_1",
        tool_outcome=succeeded,
    )
    conversation.complete(run_id, result)
