"""What outlives the processes: the whole stack is stopped in the middle of a reply and started again."""

import asyncio
import uuid
from pathlib import Path

from deploy.local import Stack
from hearth.agent.v1 import conversation_service_pb2, run_service_pb2
from tests.fakes.model_control import ThreadedModelServer
from tests.support.api import Api, Turn
from tests.support.fixtures import environment


async def test_a_reply_that_was_cut_by_stopping_everything_is_finished_after_the_start(
    model: ThreadedModelServer, tmp_path: Path
) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o711)
    stack = Stack(home=tmp_path, env=environment(model))
    mark = f"long {uuid.uuid4().hex}"
    words = " ".join(f"word{n}" for n in range(60))
    model.script(mark, {"text": words, "token_delay_ms": 100}, {"text": words}, repeat=True)
    await asyncio.to_thread(stack.start)
    try:
        async with Api(stack.url, stack.api_key) as api:
            agent = await api.create_agent()
            await api.ask(agent.id, "Remember the colour heliotrope.")
            run = await api.start(agent.id, mark)
            await asyncio.to_thread(model.until, lambda state: state["in_flight"] > 0)
            await asyncio.sleep(0.5)
        await asyncio.to_thread(stack.stop)
        await asyncio.to_thread(stack.start)

        async with Api(stack.url, stack.api_key) as api:
            turn = Turn()
            request = run_service_pb2.WatchRunRequest(run_id=run.id)
            async for response in api.runs.WatchRun(request, metadata=api.metadata, timeout=40):
                for frame in response.frames:
                    turn.add(frame)
            assert turn.outcome == "run_succeeded", turn.kinds
            assert turn.answer == words
            after = await api.ask(agent.id, "Which colour was it?")
            assert after.outcome == "run_succeeded"
            assert "heliotrope" in str(model.requests("Which colour was it?")[-1]["body"]["messages"])
            listed = conversation_service_pb2.ListMessagesRequest(conversation_id=agent.default_conversation_id)
            messages = (await api.conversations.ListMessages(listed, metadata=api.metadata, timeout=10)).messages
            assert [message.role for message in messages] == [1, 2, 1, 2, 1, 2]
    finally:
        await asyncio.to_thread(stack.stop)
