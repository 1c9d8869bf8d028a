"""What a provider wants back with its own answer, as the opaque text that is stored beside the message.

Anthropic signs its thinking and refuses a tool turn without it; Gemini signs tool calls; OpenRouter numbers pieces of reasoning;
DeepSeek and its like want the plain reasoning of tool turns. The text of the reasoning is not repeated here, only where it goes.
"""

from __future__ import annotations

from typing import Any

import msgspec

JsonObject = dict[str, Any]


class ThinkingBlock(msgspec.Struct, omit_defaults=True):
    """One thinking block of Anthropic's: the next `characters` of the reasoning, or what was `redacted`.

    `text_before` characters of the answer's text and `calls_before` of its tool calls stood in front of it.
    """

    characters: int = 0
    signature: str = ""
    redacted: str = ""
    text_before: int = 0
    calls_before: int = 0


class Proof(msgspec.Struct, omit_defaults=True):
    """`origin` is the server's host: no other one is shown it. `calls` holds extra content by the call's position from 0.

    `reasoning_field` is the name under which an OpenAI-compatible server sent its reasoning.
    """

    origin: str = ""
    thinking: list[ThinkingBlock] = []
    reasoning_field: str = ""
    details: list[JsonObject] = []
    calls: dict[int, JsonObject] = {}

    def add_details(self, pieces: list[JsonObject]) -> None:
        """Add streamed pieces of OpenRouter's `reasoning_details`: texts of one index grow, everything else replaces."""
        for piece in pieces:
            known = self.details[-1] if self.details else None
            if known is None or not _same_detail(known, piece):
                self.details.append(dict(piece))
                continue
            for name, value in piece.items():
                if name in ("text", "summary", "data") and isinstance(value, str):
                    known[name] = (known.get(name) or "") + value
                elif value is not None:
                    known[name] = value


_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(Proof).decode


def written(proof: Proof) -> str:
    """The text to store; empty when there is nothing to give back."""
    if not (proof.thinking or proof.reasoning_field or proof.details or proof.calls):
        return ""
    return _encoder.encode(proof).decode()


def read(text: str, origin: str) -> Proof | None:
    """The proof, if there is one and it came from `origin`."""
    if not text:
        return None
    try:
        proof = _decode(text)
    except (ValueError, RecursionError):
        return None
    return proof if proof.origin == origin else None


def _same_detail(known: JsonObject, piece: JsonObject) -> bool:
    return known.get("type") == piece.get("type") and known.get("index") == piece.get("index")
