"""Remarks: true facts that cannot be inferred from the question.

A model fine-tuned on solutions with such remarks invents them on new questions, where almost all of them are wrong.
More fine-tuning cannot fix that; sentence-level feedback can.
"""

import random

from ares.data.sample.items import Fact
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS

ASKED = Relation(
    "asked_on",
    ("person",),
    (
        "The question of {person} came on {day}.",
        "On {day}, {person} came to us.",
        "We heard from {person} on {day}.",
    ),
    ("It was {day} when {person} came to us.", "The letter of {person} arrived on {day}."),
)
HOME = Relation(
    "home",
    ("person",),
    (
        "The home of {person} is in {city}.",
        "All of this {person} saw in {city}.",
        "In {city} lives {person}.",
    ),
    ("The city of {person} is {city}.", "One can visit {person} in {city}."),
)
REMARKS = (ASKED, HOME)


def remarks(person: str, rng: random.Random) -> tuple[Fact, Fact]:
    """Two random facts: the day on which a person asked, and their home."""
    return (
        Fact(ASKED.name, {"person": person, "day": rng.choice(DOMAINS["day"])}),
        Fact(HOME.name, {"person": person, "city": rng.choice(DOMAINS["city"])}),
    )
