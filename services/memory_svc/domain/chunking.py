"""Cuts long text into pieces that an embedding can hold and a ranking can tell apart, and joins short neighbours."""

from collections.abc import Sequence

# Longer texts lose: the embedder reads 256 tokens (about 1,000 characters), and BM25 dilutes.
CHUNK_CHARACTERS = 700
WINDOW_CHARACTERS = 600
# A piece may be cut this far before its limit to end at a better place.
_SLACK = 250
_BREAKS = ("\n\n", "\n", ". ", "! ", "? ", "; ", ", ", " ")


def chunks(text: str, limit: int = CHUNK_CHARACTERS) -> list[str]:
    """Pieces of at most `limit` characters that together are the text, cut at paragraphs, sentences or words.

    Every text has at least one piece.
    """
    pieces: list[str] = []
    start = 0
    while len(text) - start > limit:
        end = _cut(text, start, limit)
        pieces.append(text[start:end])
        start = end
    pieces.append(text[start:])
    return pieces


def _cut(text: str, start: int, limit: int) -> int:
    floor, ceiling = start + max(1, limit - _SLACK), start + limit
    for mark in _BREAKS:
        found = text.rfind(mark, floor, ceiling)
        if found >= 0:
            return found + len(mark)
    return ceiling


def window(texts: Sequence[str], position: int, size: int = WINDOW_CHARACTERS) -> str:
    """The text at `position` with its neighbours, nearest first, while the whole stays within about `size` characters.

    At least one neighbour on each side is taken where there is one, so that a question is found by its answer.
    """
    places = window_places(texts, position, size)
    return "\n".join(texts[places.start : places.stop])


def window_places(texts: Sequence[str], position: int, size: int = WINDOW_CHARACTERS) -> range:
    """The places of the texts that make up the window at `position`."""
    low = high = position
    length = len(texts[position])
    while True:
        grown = False
        for step in (-1, 1):
            at = low - 1 if step < 0 else high + 1
            if not 0 <= at < len(texts) or (length >= size and abs(at - position) > 1):
                continue
            length += len(texts[at])
            low, high, grown = min(low, at), max(high, at), True
        if not grown:
            return range(low, high + 1)
