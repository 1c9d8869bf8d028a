"""Finds texts that are nearly the same without comparing all with all: MinHash of word pairs, cut into bands.

Two texts that share a band are candidates and are then compared for real. The method is Broder's, "On the resemblance and
containment of documents" (1997), with banding as in Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3.
"""

import hashlib
import re

import numpy as np
from numpy.typing import NDArray

# Texts are nearly the same when so many of all their word pairs are in both. One changed word of twenty leaves 0.81.
THRESHOLD = 0.75
# Of pairs as alike as 0.8 nine in ten share a band, of pairs as alike as 0.3 one in two hundred.
_BANDS = 8
_ROWS = 6
_MOST_WORDS = 4_000
_WORD = re.compile(r"\w+")
_PRIME = np.uint64(2**61 - 1)


def _numbers(name: str, bits: int) -> NDArray[np.uint64]:
    """As many numbers as there are rows, the same for ever: sketches are stored."""
    digests = [hashlib.blake2b(f"{name} {row}".encode(), digest_size=8).digest() for row in range(_BANDS * _ROWS)]
    return np.array([int.from_bytes(digest) >> (64 - bits) for digest in digests], np.uint64)


_FACTORS = _numbers("factor", 31) | np.uint64(1)
_OFFSETS = _numbers("offset", 60)


def sketch(text: str) -> list[int]:
    """The bands of a text as signed 64-bit numbers; two that share one are candidates."""
    pairs = np.fromiter(_pairs(text), np.uint64)
    if not pairs.size:
        return []
    # 29 bits of a pair times 31 bits of a factor stay within 64.
    mixed: NDArray[np.uint64] = ((pairs >> np.uint64(35))[:, None] * _FACTORS[None, :] + _OFFSETS) % _PRIME
    lowest = mixed.min(axis=0).reshape(_BANDS, _ROWS)
    return [
        int.from_bytes(hashlib.blake2b(bytes([band]) + row.tobytes(), digest_size=8).digest(), signed=True)
        for band, row in enumerate(lowest)
    ]


def likeness(one: str, other: str) -> float:
    """The share of word pairs that both texts have among all that any has, 0…1."""
    left, right = set(_pairs(one)), set(_pairs(other))
    return len(left & right) / len(left | right) if left and right else 0.0


def _pairs(text: str) -> list[int]:
    words = [match.group() for _, match in zip(range(_MOST_WORDS), _WORD.finditer(text.casefold()), strict=False)]
    if not words:
        return []
    joined = {f"{first} {second}" for first, second in zip(["", *words], [*words, ""], strict=True)}
    return [int.from_bytes(hashlib.blake2b(pair.encode(), digest_size=8).digest()) for pair in joined]
