"""The layout of what the model is told, against a golden file; and that its beginning does not change from turn to turn."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

from agent_svc.domain.history import fit, in_model_order
from agent_svc.domain.model import AssistantMessage, ChatMessage, SystemMessage, ToolMessage, UserMessage
from agent_svc.domain.prompt import CompiledMemory, build, system_text
from tests.unit.agent_svc.conversations import NOW, assistant, result, user

GOLDEN = Path(__file__).parents[2] / "golden" / "agent_svc" / "prompt.txt"
MEMORY = CompiledMemory(
    core='<memory_blocks>\n<block label="human">Ada</block>\n</memory_blocks>', recalled="- Rex is a dog."
)


def shown(message: ChatMessage) -> str:
    match message:
        case SystemMessage(text):
            return f"=== system\n{text}\n"
        case UserMessage(text):
            return f"=== user\n{text}\n"
        case AssistantMessage(text, _, calls, _):
            wanted = "".join(f"--- call {call.id}: {call.name}({call.arguments_json})\n" for call in calls)
            return f"=== assistant\n{text}\n{wanted}"
        case ToolMessage(call_id, text, is_error):
            return f"=== tool {call_id}{' (error)' if is_error else ''}\n{text}\n"


def test_layout() -> None:
    history = [
        user("My dog is called Rex.", 2, run_id=UUID(int=1)),
        assistant("A fine name.", 4, run_id=UUID(int=1)),
        user("Look it up.", 7, run_seq=6),
        assistant("", 9, "call_1", "call_2", run_seq=6),
        result("call_1", 12, "Rex: a dog", run_seq=6),
    ]
    window = fit(in_model_order(history), 4000)
    prompt = build(system_text("Be brief.", MEMORY), MEMORY.recalled, window, NOW)
    assert "".join(shown(message) for message in prompt.messages) == GOLDEN.read_text()
    assert prompt.recalled_text == "- Rex is a dog."


def test_without_memory_and_recall_only_instructions_and_time() -> None:
    window = fit([user("hi", 2)], 4000)
    prompt = build(system_text("Be brief.", CompiledMemory()), "", window, NOW)
    system, said = prompt.messages
    assert system == SystemMessage("Be brief.")
    assert isinstance(said, UserMessage)
    assert said.text.endswith("\n\nhi")
    assert "remember" not in said.text


def test_the_beginning_is_the_same_in_the_next_turn() -> None:
    first = [user("one", 2, run_id=UUID(int=1))]
    second = [*first, assistant("answer", 4, run_id=UUID(int=1)), user("two", 7, run_seq=6)]
    system = system_text("Be brief.", MEMORY)
    early = build(system, "- a", fit(first, 4000), NOW)
    late = build(system, "- b", fit(second, 4000), NOW + timedelta(hours=1))
    assert late.messages[0] == early.messages[0]
    assert late.messages[1] == UserMessage("one")
    assert isinstance(late.messages[3], UserMessage)
    assert "16:16" in late.messages[3].text
