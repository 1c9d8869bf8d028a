"""How memory looks in a model's context. The layout has a version: change the layout, count it up.

Layout 1, blocks (in the order in which they were attached):

    <memory_blocks>
    <block label="human" characters="16" limit="5000">
    <description>What you know about the person.</description>
    <value>
    Her name is Ada.
    </value>
    </block>
    </memory_blocks>

A block that the agent cannot edit has `read_only="true"`. Layout 1, recalled hits (best first):

    <recalled_memory>
    <passage date="2026-03-01">…</passage>
    <message role="user" date="2026-03-01" speaker="Ada">…</message>
    </recalled_memory>

Text stands as it is, except that it cannot open or close the elements named here: their `<` becomes `&lt;`.
"""

import re
from collections.abc import Sequence

from memory_svc.domain.blocks import Block
from memory_svc.domain.messages import RecallMessage
from memory_svc.domain.passages import Passage

LAYOUT_VERSION = 1
# Good enough for a budget: English is nearer to 4.5 characters a token, code and other scripts nearer to 3.
CHARACTERS_PER_TOKEN = 4

_OWN = re.compile(r"<(?=/?(?:memory_blocks|block|description|value|recalled_memory|passage|message)\b)", re.IGNORECASE)


def blocks_text(blocks: Sequence[Block]) -> str:
    """The agent's blocks; empty without any."""
    if not blocks:
        return ""
    return "\n".join(["<memory_blocks>", *map(_block, blocks), "</memory_blocks>"])


def recalled_text(entries: Sequence[str]) -> str:
    """Rendered hits, as one section; empty without any."""
    return "\n".join(["<recalled_memory>", *entries, "</recalled_memory>"]) if entries else ""


def passage_entry(passage: Passage, text: str) -> str:
    """One recalled passage; `text` is all of it or the part that was found."""
    return f'<passage date="{passage.create_time:%Y-%m-%d}">{_content(text)}</passage>'


def message_entry(message: RecallMessage, text: str) -> str:
    """One recalled message; `text` is all of it or the part that was found."""
    speaker = f' speaker="{_attribute(message.speaker)}"' if message.speaker else ""
    when = f"{message.create_time:%Y-%m-%d}"
    return f'<message role="{message.role}" date="{when}"{speaker}>{_content(text)}</message>'


def estimated_tokens(text: str) -> int:
    """Tokens of a text, rounded up."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _block(block: Block) -> str:
    read_only = ' read_only="true"' if block.read_only else ""
    lines = [f'<block label="{block.label}" characters="{len(block.value)}" limit="{block.limit}"{read_only}>']
    if block.description:
        lines.append(f"<description>{_content(block.description)}</description>")
    lines += ["<value>", _content(block.value), "</value>", "</block>"]
    return "\n".join(lines)


def _content(text: str) -> str:
    return _OWN.sub("&lt;", text)


def _attribute(text: str) -> str:
    flat = " ".join(text.split())
    return flat.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
