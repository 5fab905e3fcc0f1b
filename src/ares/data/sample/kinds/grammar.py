"""A sentence about an animal: its ending and purpose tell which form of sentence it is."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import ANIMALS, DOMAINS, PERSONS

FORMS = DOMAINS["form"]
PURPOSE = dict(zip(DOMAINS["form"], DOMAINS["purpose"], strict=True))
ENDING = dict(zip(FORMS, ("full stop", "question mark", "full stop", "exclamation mark"), strict=True))
VERBS = (
    ("fed", "feed"),
    ("washed", "wash"),
    ("found", "find"),
    ("sold", "sell"),
    ("saw", "see"),
    ("drew", "draw"),
)

RELATIONS = (
    Relation(
        "ending",
        ("animal",),
        (
            "The sentence about the {animal} ends with a {ending}.",
            "Here the words about the {animal} end with a {ending}.",
        ),
        (
            "After the {animal} sentence stands a {ending}.",
            "We find a {ending} behind the {animal} sentence.",
        ),
    ),
    Relation(
        "purpose",
        ("person", "animal"),
        (
            "The words about {person} and the {animal} {purpose}.",
            "In the text, {person} and the {animal} serve to {purpose}.",
        ),
        (
            "The aim with {person} and the {animal} is to {purpose}.",
            "Someone wants to {purpose} about {person} and the {animal}.",
        ),
    ),
    Relation(
        "form_rule",
        ("purpose",),
        ("Words that {purpose} are {form}.", "A sentence made to {purpose} is {form}."),
        ("We say {form} for words that {purpose}.", "To {purpose} makes a sentence {form}."),
        lambda slots: PURPOSE[slots["form"]] == slots["purpose"],
    ),
    Relation(
        "form_answer",
        ("animal",),
        (
            "So the {animal} sentence is {form}, choice ({letter}).",
            "Thus the words about the {animal} are {form}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is right since the {animal} sentence is {form}.",
            "That makes it ({letter}), for the {animal} words are {form}.",
        ),
    ),
)


def _sentence(form: str, person: str, animal: str, past: str, base: str) -> str:
    return {
        "declarative": f"{person} {past} the {animal}.",
        "interrogative": f"Did {person} {base} the {animal}?",
        "imperative": f"Please {base} the {animal}, {person}.",
        "exclamatory": f"How well {person} {past} the {animal}!",
    }[form]


def _draft(rng: random.Random) -> Draft:
    form = rng.choice(FORMS)
    person, animal = rng.choice(PERSONS), rng.choice(ANIMALS)
    forms = (form, *(other for other in FORMS if other != form))
    text = _sentence(form, person, animal, *rng.choice(VERBS))
    return Draft(
        question=f"Which form of sentence is this? {text}",
        hint="",
        choices=forms,
        conclusions=tuple(Fact("form_answer", {"animal": animal, "form": f}) for f in forms),
        steps=(
            Fact("ending", {"animal": animal, "ending": ENDING[form]}),
            Fact("purpose", {"person": person, "animal": animal, "purpose": PURPOSE[form]}),
            Fact("form_rule", {"purpose": PURPOSE[form], "form": form}),
        ),
    )


KIND = Kind(
    name="grammar",
    subject="language science",
    topic="grammar",
    category="Sentences, fragments, and run-ons",
    skill="Name the form of a sentence",
    grades=("grade4", "grade5", "grade6", "grade7"),
    n_choices=4,
    has_image=False,
    lecture="A declarative sentence is there to tell a fact, and an interrogative one to ask for an answer. "
    "An imperative sentence is there to give an order. An exclamatory sentence is there to show strong feeling.",
    relations=RELATIONS,
    draft=_draft,
)
