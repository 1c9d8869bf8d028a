"""Small words for turns of agents whose model is named."""

from __future__ import annotations

from agent_svc.domain.agent import Agent, AgentDraft, AgentSettings
from agent_svc.domain.event import EventType
from agent_svc.domain.frame import DeltaFrame, EventFrame, Frame
from agent_svc.domain.run import BusyPolicy, Run
from agent_svc.domain.run_input import RunExtras
from agent_svc.managers.run_manager import Target
from chassis import ids
from chassis.identity import use
from chassis.once import Once
from hearth.agent.v1 import event_pb2
from tests.integration.agent_svc.replica import Replica


async def agent_with(here: Replica, model: str, settings: AgentSettings, tools: tuple[str, ...] = ()) -> Agent:
    draft = AgentDraft(f"agent-{ids.new().hex}", model=model, tools=tools, settings=settings)
    with use(here.caller):
        return await here.core.factory.create(here.caller, draft, Once(None, lambda _: b""))


async def start(here: Replica, agent: Agent, text: str, extras: RunExtras) -> Run:
    return await here.core.runs.start(here.caller, Target(agent_id=agent.id), text, BusyPolicy.QUEUE, None, b"", extras)


def restarts(frames: list[Frame]) -> list[event_pb2.StepRestarted]:
    """What watchers were told to drop."""
    bodies = [f.body for f in frames if isinstance(f, EventFrame) and f.type is EventType.STEP_RESTARTED]
    return [event_pb2.RunEvent.FromString(body).step_restarted for body in bodies]


def last_attempt(frames: list[Frame]) -> tuple[int, str]:
    """The number of the last attempt that deltas came of, and its text."""
    deltas = [frame for frame in frames if isinstance(frame, DeltaFrame)]
    attempt = max((delta.attempt for delta in deltas), default=0)
    return attempt, "".join(delta.text for delta in deltas if delta.attempt == attempt)
