"""Secrets taken out of what a tool prints and returns: as they are, and in the encodings that programs print by accident.

This keeps secrets out of logs, conversations and models where a tool is careless. It cannot stop a tool that means to tell:
whoever may write a tool that gets a secret can have the secret, letter by letter if need be.
"""

import base64
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tool_svc.domain.execution import Failed, LimitExceeded, Outcome, OutputChunk, OutputStream, Succeeded

# Shorter secrets cannot be told from ordinary text, and are not accepted.
MIN_SECRET_LENGTH = 4
_MIN_ENCODED = 8
_MIN_LINE = 8
_MIN_TAIL = 8
# Longer texts are looked for in pieces too, so that little must be held back where output is cut into chunks.
_PIECE = 1024


class Mask:
    """Replaces secrets, given by name, with `[secret NAME]`."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        found = {form: f"[secret {name}]" for name, value in secrets.items() for form in _forms(value)}
        self._forms = sorted(found.items(), key=lambda entry: len(entry[0]), reverse=True)

    def text(self, text: str) -> str:
        """Text that ends here: the beginning of a secret at its very end, where it was cut, is masked too."""
        text = self.inside(text)
        for form, mark in self._forms:
            length = _overlap(text, form)
            if length >= _MIN_TAIL:
                return text[:-length] + mark
        return text

    def inside(self, text: str) -> str:
        """Text that goes on elsewhere."""
        for form, mark in self._forms:
            text = text.replace(form, mark)
        return text

    def open_end(self, text: str) -> int:
        """How many of the last characters may be the beginning of a secret whose rest is still to come."""
        return max((_overlap(text, form) for form, _ in self._forms if len(form) <= _PIECE), default=0)

    def value(self, value: Any) -> Any:
        """A JSON value; a number with a secret's digits becomes text."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            written = json.dumps(value)
            masked = self.inside(written)
            return value if masked == written else masked
        return value

    def outcome(self, outcome: Outcome) -> Outcome:
        """How a call ended. A result that cannot be read is left as it is: it is not shown either."""
        if not self._forms:
            return outcome
        match outcome:
            case Succeeded(result_json=text):
                try:
                    value = json.loads(text)
                    masked = self.value(value)
                except (ValueError, RecursionError):
                    return outcome
                return (
                    outcome
                    if masked == value
                    else Succeeded(json.dumps(masked, ensure_ascii=False, separators=(",", ":")))
                )
            case Failed(error_type=kind, message=message, traceback=traceback):
                return Failed(self.text(kind), self.text(message), self.text(traceback))
            case LimitExceeded(message=message):
                return replace(outcome, message=self.text(message))
            case _:
                return outcome


class MaskedOutput:
    """Masks output as it comes: what may be the beginning of a secret waits until it is clear."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._held: dict[OutputStream, str] = {}

    def take(self, chunk: OutputChunk) -> Iterator[OutputChunk]:
        """What can be shown after a chunk came."""
        if chunk.truncated:  # The sandbox's own words; the stream ends where they stand.
            yield from self.rest()
            yield chunk
            return
        text = self._mask.inside(self._held.pop(chunk.stream, "") + chunk.text)
        held = self._mask.open_end(text)
        if held:
            self._held[chunk.stream] = text[-held:]
            text = text[:-held]
        if text:
            yield OutputChunk(chunk.stream, text)

    def rest(self) -> Iterator[OutputChunk]:
        """What was held back, when nothing more comes."""
        for stream, text in self._held.items():
            yield OutputChunk(stream, self._mask.text(text))
        self._held.clear()


def _forms(value: str) -> Iterator[str]:
    """Every text in which a secret may appear."""
    for part in {value, *(line.strip() for line in value.splitlines() if len(line.strip()) >= _MIN_LINE)}:
        forms = {part, *(_encoded(part) if len(part) >= _MIN_ENCODED else ())}
        for form in forms:
            yield form
            if len(form) > _PIECE:
                yield from (form[at : at + _PIECE] for at in range(0, len(form) - _MIN_LINE, _PIECE))


def _encoded(value: str) -> Iterator[str]:
    data = value.encode()
    yield data.hex()
    yield data.hex().upper()
    yield urllib.parse.quote(value)
    yield urllib.parse.quote(value, safe="")
    yield urllib.parse.quote_plus(value)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    for before in range(3):
        # Base64 of a longer text that holds the secret: only the characters that no neighbour has a part in.
        whole = base64.b64encode(bytes(before) + data).decode()
        inner = whole[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def _overlap(text: str, form: str) -> int:
    """The length of the longest end of `text` that is a beginning of `form` and not all of it."""
    start = max(0, len(text) - len(form) + 1)
    while (start := text.find(form[0], start)) >= 0:
        if form.startswith(text[start:]):
            return len(text) - start
        start += 1
    return 0
