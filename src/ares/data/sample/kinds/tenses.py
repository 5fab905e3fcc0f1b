"""A sentence about an action: the form of its verb says when it happens."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation, maxim
from ares.data.sample.words import ANIMALS, DOMAINS, PERSONS

TENSES = DOMAINS["tense"]
MOMENT = dict(zip(TENSES, DOMAINS["moment"], strict=True))
VERBS = ("watch", "help", "follow", "visit", "answer", "wash")

MAXIM = maxim(
    "verb_count",
    {"count": "one"},
    (
        "A short sentence has {count} verb.",
        "We look for {count} verb in a short sentence.",
        "Short sentences need {count} verb.",
    ),
    ("In a short sentence we expect {count} verb.", "There is {count} verb in a short sentence."),
)
RELATIONS = (
    MAXIM,
    Relation(
        "moment",
        ("person", "animal"),
        (
            "The words place {person} and the {animal} {moment}.",
            "We read about {person} and the {animal} {moment}.",
        ),
        (
            "What {person} does with the {animal} is set {moment}.",
            "The scene of {person} and the {animal} is {moment}.",
        ),
    ),
    Relation(
        "tense_rule",
        ("moment",),
        (
            "A verb set {moment} is in the {tense} tense.",
            "For {moment} we use the {tense} tense.",
            "The {tense} tense is for {moment}.",
        ),
        ("Doings {moment} call for the {tense} tense.", "The verb takes the {tense} tense {moment}."),
        lambda slots: MOMENT[slots["tense"]] == slots["moment"],
    ),
    Relation(
        "animal_tense",
        ("animal",),
        ("The verb with the {animal} has the {tense} form.", "Beside the {animal} stands a {tense} form."),
        ("The {tense} form goes with the {animal}.", "We see the verb before {animal} as a {tense} form."),
    ),
    Relation(
        "tense_answer",
        ("person",),
        (
            "So the tense of {person} is {tense}, choice ({letter}).",
            "Thus the verb of {person} is {tense}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since {person} has the {tense} tense.",
            "That makes it ({letter}), for {person} goes with the {tense} tense.",
        ),
    ),
)


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
            Fact(MAXIM.name, MAXIM.sole),
            Fact("moment", {"person": person, "animal": animal, "moment": MOMENT[tense]}),
            Fact("tense_rule", {"moment": MOMENT[tense], "tense": tense}),
            Fact("animal_tense", {"animal": animal, "tense": tense}),
        ),
    )


KIND = Kind(
    name="tenses",
    subject="language science",
    topic="verbs",
    category="Verb tense",
    skill="Name the tense of a verb",
    grades=("grade2", "grade3", "grade4"),
    n_choices=3,
    lecture="A short sentence has one verb. "
    "The past tense is for doings before now, and its verb ends in ed. "
    "The present tense is for doings these days. The future tense is for doings after now, and its verb has will.",
    relations=RELATIONS,
    optional=(MAXIM.name, "animal_tense"),
    draft=_draft,
)
