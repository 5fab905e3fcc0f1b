"""Remarks: true facts that cannot be inferred from the question.

A model fine-tuned on solutions with such remarks invents them on new questions, where almost all of them are wrong.
More fine-tuning cannot fix that; sentence-level feedback can.
"""

import random

from ares.data.sample.items import Fact, read_yaml
from ares.data.sample.relations import relations_of
from ares.data.sample.words import DOMAINS

REMARKS = relations_of(read_yaml("remarks"))


def remarks(person: str, rng: random.Random) -> tuple[Fact, Fact]:
    """Two random facts: the day on which a person asked, and their home."""
    return (
        Fact("asked_on", {"person": person, "day": rng.choice(DOMAINS["day"])}),
        Fact("home", {"person": person, "city": rng.choice(DOMAINS["city"])}),
    )
