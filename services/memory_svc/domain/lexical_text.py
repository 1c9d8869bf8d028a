"""Prepares text for word-based ranking: what the tokenizer would tear apart or leave whole in the wrong place."""

import re

# Letters and digits joined by single marks; with a digit somewhere, as in ERR-48211-C37, v2.14.3, 10.0.0.1, user_42, it is an
# identifier. Whether there is one is asked of the match: looked for by the pattern, a long text of single letters and
# marks would be read to its end from each of its letters.
_JOINED = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]++(?:[._:/#-][A-Za-z0-9]++)++")
_DIGIT = re.compile(r"[0-9]")
# A single run of letters and digits mixed, as in C37 or a1b2c3; plain numbers and words are not identifiers.
_MIXED = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{4,}(?![A-Za-z0-9])")
_MARKS = re.compile(r"[._:/#-]")
# Scripts written without spaces: each sign is a word of its own for ranking.
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0e7f])")


def identifiers(text: str) -> frozenset[str]:
    """The identifiers in a text, lower case, whole."""
    found = {name.lower() for name in _joined(text)}
    rest = _JOINED.sub(" ", text)
    return frozenset(found | {match.group().lower() for match in _MIXED.finditer(rest)})


def _joined(text: str) -> list[str]:
    return [name for name in _JOINED.findall(text) if _DIGIT.search(name)]


def for_ranking(text: str) -> str:
    """The text with each joined identifier repeated as one word, and unspaced scripts spaced.

    The tokenizer splits at marks, so ERR-48211-C37 and ERR-48211-C38 share all but one word; the joined form tells
    them apart.
    """
    joined = [_MARKS.sub("", name) for name in _joined(text)]
    spaced = _UNSPACED.sub(r" \1 ", text)
    return f"{spaced} {' '.join(joined)}" if joined else spaced


def identifier_share(wanted: frozenset[str], text: str) -> float:
    """Which part of the wanted identifiers stand in the text as whole identifiers, 0…1."""
    if not wanted:
        return 0.0
    lowered = text.lower()
    candidates = [name for name in wanted if name in lowered]
    if not candidates:
        return 0.0
    present = identifiers(text)
    return sum(name in present for name in candidates) / len(wanted)
