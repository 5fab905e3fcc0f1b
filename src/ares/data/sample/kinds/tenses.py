"""A sentence about an action: the form of its verb says when it happens."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.words import ANIMALS, DOMAINS, PERSONS

TENSES = DOMAINS["tense"]
MOMENT = dict(zip(TENSES, DOMAINS["moment"], strict=True))
VERBS = ("watch", "help", "follow", "visit", "answer", "wash")


def _draft(rng: random.Random, answer: int) -> Draft:
    tense, person, animal = TENSES[answer], rng.choice(PERSONS), rng.choice(ANIMALS)
    verb = rng.choice(VERBS)
    present = verb + ("es" if verb.endswith("ch") or verb.endswith("sh") else "s")
    phrase = {"past": f"{verb}ed", "present": present, "future": f"will {verb}"}[tense]
    return Draft(
        question=f"Which tense does this sentence use? {person} {phrase} the {animal}.",
        choices=TENSES,
        conclusions=tuple(Fact("tense_answer", {"person": person, "tense": t}) for t in TENSES),
        steps=(
            Fact("moment", {"person": person, "animal": animal, "moment": MOMENT[tense]}),
            Fact("tense_rule", {"moment": MOMENT[tense], "tense": tense}),
            Fact("animal_tense", {"animal": animal, "tense": tense}),
        ),
    )


KIND = Kind.read("tenses", _draft, tense_rule=lambda slots: MOMENT[slots["tense"]] == slots["moment"])
