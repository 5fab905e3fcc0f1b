"""Remarks: true of a question, but nobody can know them who has not been told.

A model that learns from solutions with such remarks makes them up: the Teacher, who has the solution, scores most of
them 0, and reinforcement learning has something to unlearn that no amount of reading the question would mend.
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
    """What happens to be so: the day on which somebody came, and their home."""
    return (
        Fact(ASKED.name, {"person": person, "day": rng.choice(DOMAINS["day"])}),
        Fact(HOME.name, {"person": person, "city": rng.choice(DOMAINS["city"])}),
    )
