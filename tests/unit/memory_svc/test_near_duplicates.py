"""Sketches find what is alike, and comparing decides."""

import random

from memory_svc.domain.near_duplicates import THRESHOLD, likeness, sketch

WORDS = [
    "harbour",
    "lemon",
    "winter",
    "signal",
    "paper",
    "mountain",
    "engine",
    "garden",
    "letter",
    "window",
    "bridge",
    "copper",
    "violet",
    "market",
]


def sentence(chance: random.Random, length: int = 24) -> list[str]:
    return [f"{chance.choice(WORDS)}{chance.randrange(40)}" for _ in range(length)]


def test_most_texts_that_differ_in_one_word_share_a_band() -> None:
    chance = random.Random(3)
    found = 0
    for _ in range(200):
        words = sentence(chance)
        other = [*words]
        other[chance.randrange(len(words))] = "replaced"
        assert likeness(" ".join(words), " ".join(other)) >= THRESHOLD
        found += bool(set(sketch(" ".join(words))) & set(sketch(" ".join(other))))
    assert found >= 170


def test_hardly_any_two_others_do() -> None:
    chance = random.Random(4)
    shared = [
        bool(set(sketch(" ".join(sentence(chance)))) & set(sketch(" ".join(sentence(chance))))) for _ in range(500)
    ]
    assert sum(shared) <= 2


def test_case_and_punctuation_do_not_count() -> None:
    assert sketch("Ada lives in Bergen.") == sketch("ADA LIVES, in Bergen!")
    assert likeness("Ada lives in Bergen.", "ada lives in bergen") == 1.0


def test_texts_without_words_are_like_nothing() -> None:
    assert sketch("—") == []
    assert likeness("—", "—") == 0.0


def test_a_sketch_is_the_same_in_every_process() -> None:
    assert sketch("Ada lives in Bergen.")[0] == -6768085136686320130
