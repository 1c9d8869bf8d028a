"""How many tokens a text has, roughly: no tokenizer is loaded for it."""

from __future__ import annotations

BYTES_PER_TOKEN = 3.2
# What the protocols put around each message.
OVERHEAD_TOKENS = 6


def estimate_tokens(text: str) -> int:
    """Tokens of a text, rather too many than too few for common tokenizers."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return int(size / BYTES_PER_TOKEN) + 1
