"""Resource ids: UUIDv7 inside, `<prefix>_<26 base32 characters>` on the wire."""

import os
import threading
import time
import uuid

from chassis.errors import not_found

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_LENGTH = 26

# What a prefix is called in messages for people.
_KINDS = {
    "org": "organization",
    "user": "user",
    "key": "API key",
    "tool": "tool",
    "mcp": "MCP server",
    "secret": "secret",
    "block": "block",
    "psg": "passage",
    "agent": "agent",
    "conv": "conversation",
    "msg": "message",
    "run": "run",
    "tmpl": "template",
    "appr": "approval",
    "wf": "workflow",
    "wfrun": "workflow run",
    "file": "file",
    "audit": "audit event",
}

_lock = threading.Lock()
_last = 0


def new() -> uuid.UUID:
    """A UUIDv7 greater than every one this process made before.

    Layout of RFC 9562: 48 bits of milliseconds, 12 bits counting up within one, 62 random bits.
    """
    global _last
    with _lock:
        ticks = (time.time_ns() // 1_000_000) << 12
        _last = ticks if ticks > _last else _last + 1
        ticks = _last
    value = (ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64
    value |= 0b10 << 62 | int.from_bytes(os.urandom(8)) >> 2
    return uuid.UUID(int=value)


def encode(prefix: str, value: uuid.UUID) -> str:
    """The id as clients see it, as in `run_01jd…`."""
    number = value.int
    characters = [_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(characters)}"


def decode(prefix: str, text: str) -> uuid.UUID:
    """The UUID of a wire id.

    Raises the NotFound of an absent resource for everything that is not an id of this kind: an id that cannot exist
    does not exist.
    """
    head, _, body = text.rpartition("_")
    if head != prefix or len(body) != _LENGTH:
        raise not_found(_KINDS.get(prefix, prefix), text)
    number = 0
    for character in body:
        digit = _VALUES.get(character)
        if digit is None:
            raise not_found(_KINDS.get(prefix, prefix), text)
        number = number << 5 | digit
    if number >> 128:
        raise not_found(_KINDS.get(prefix, prefix), text)
    return uuid.UUID(int=number)


def absent(prefix: str, value: uuid.UUID) -> Exception:
    """The NotFound for a well-formed id with nothing behind it; equal to what `decode` raises for a bad one."""
    return not_found(_KINDS.get(prefix, prefix), encode(prefix, value))
