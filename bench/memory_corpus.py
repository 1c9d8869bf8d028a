"""Facts and questions for benchmarks of memory: made from templates, the same in every run, no two alike.

Imports nothing of Hearth: bench/memory_mem0.py reads it in an environment of its own.
"""

import random
from collections.abc import Iterator

_PEOPLE = [
    "Ada",
    "Olaf",
    "Ida",
    "Bao",
    "Chidi",
    "Dalia",
    "Emre",
    "Farah",
    "Goran",
    "Hana",
    "Ivo",
    "Jun",
    "Kira",
    "Leif",
    "Mina",
    "Noor",
    "Omar",
    "Pia",
    "Quinn",
    "Rosa",
]
_PLACES = [
    "Bergen",
    "Lisbon",
    "Oslo",
    "Nairobi",
    "Kyoto",
    "Quito",
    "Ghent",
    "Porto",
    "Turin",
    "Riga",
    "Tartu",
    "Basel",
    "Lyon",
    "Graz",
    "Cork",
    "Malmo",
    "Split",
    "Sofia",
]
_THINGS = (
    "a yellow umbrella",
    "the blue sailing boat",
    "an old accordion",
    "two boxes of lemons",
    "a signed first edition",
    "the spare key of the cabin",
    "a telescope with a broken lens",
    "the recipe for cardamom buns",
    "a waterproof camera",
    "the contract with the printer",
    "a pair of climbing shoes",
    "the backup of the server",
)
_DOINGS = (
    "bought",
    "lost",
    "repaired",
    "lent out",
    "gave away",
    "borrowed",
    "photographed",
    "insured",
    "shipped",
    "found",
)
_REASONS = (
    "because the old one had been left on a train",
    "after a long discussion with the neighbours about noise",
    "since the doctor had advised more time outdoors",
    "to have it ready before the guests arrive in summer",
    "although the price had gone up again since the spring",
    "while waiting for the results of the second exam",
    "as a surprise for the whole family at the reunion",
    "so that the project could go on without further delay",
)
_NOTES = (
    "The receipt number is {number}.",
    "It cost {number} crowns in all.",
    "The follow-up is planned for week {week}.",
    "Reference {code} has the details.",
    "",
)
_QUESTIONS = (
    "What did {person} do with {thing} in {place}?",
    "Why was {thing} {doing} by {person}?",
    "Which of {person}'s things had to do with {place}?",
    "Who {doing} {thing} while in {place}?",
)


def facts(count: int, seed: int = 7) -> Iterator[str]:
    """Texts of one to three clauses, about 26 words or 35 tokens each."""
    chance = random.Random(seed)
    for serial in range(count):
        note = chance.choice(_NOTES).format(
            number=chance.randrange(100, 99_999), week=chance.randrange(1, 53), code=f"REF-{serial:06}-{seed}"
        )
        yield (
            f"{chance.choice(_PEOPLE)} {chance.choice(_DOINGS)} {chance.choice(_THINGS)} in {chance.choice(_PLACES)} "
            f"on day {serial % 365 + 1}, {chance.choice(_REASONS)}. {note}"
        ).strip()


def questions(count: int, seed: int = 11) -> Iterator[str]:
    """Questions about such facts, each with a number of its own so that none is known already."""
    chance = random.Random(seed)
    for serial in range(count):
        asked = chance.choice(_QUESTIONS).format(
            person=chance.choice(_PEOPLE),
            thing=chance.choice(_THINGS),
            place=chance.choice(_PLACES),
            doing=chance.choice(_DOINGS),
        )
        yield f"{asked[:-1]} on day {serial % 365 + 1}?"
