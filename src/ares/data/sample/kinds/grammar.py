"""A sentence about an animal: its form follows from its ending and purpose."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation, maxim
from ares.data.sample.words import ANIMALS, DOMAINS, PERSONS

FORMS = DOMAINS["form"]
PURPOSE = dict(zip(FORMS, DOMAINS["purpose"], strict=True))
ENDING = dict(
    zip(FORMS, ("a full stop", "a question mark", "a full stop", "an exclamation mark"), strict=True)
)
VERBS = (
    ("fed", "feed"),
    ("washed", "wash"),
    ("found", "find"),
    ("sold", "sell"),
    ("saw", "see"),
    ("drew", "draw"),
)

MAXIM = maxim(
    "capital",
    {"order": "first"},
    (
        "The {order} word has a capital letter.",
        "We write the {order} word with a capital letter.",
        "A capital letter begins the {order} word.",
    ),
    ("Writers give the {order} word a capital letter.", "Begin the {order} word with a capital letter."),
)
RELATIONS = (
    MAXIM,
    Relation(
        "ending",
        ("animal",),
        ("The {animal} sentence ends with {ending}.", "After the {animal} sentence we see {ending}."),
        ("Behind the {animal} sentence stands {ending}.", "We find {ending} behind the {animal} sentence."),
    ),
    Relation(
        "purpose",
        ("person",),
        ("The text of {person} {purpose}.", "With these words {person} {purpose}."),
        ("What {person} wrote {purpose}.", "We read a text in which {person} {purpose}."),
    ),
    Relation(
        "form_rule",
        ("purpose",),
        ("A sentence that {purpose} is {form}.", "What {purpose} is called {form}."),
        ("We say {form} if a sentence {purpose}.", "The name {form} is for text that {purpose}."),
        lambda slots: PURPOSE[slots["form"]] == slots["purpose"],
    ),
    Relation(
        "form_answer",
        ("person",),
        (
            "So the sentence of {person} is {form}, choice ({letter}).",
            "Thus the text of {person} is {form}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since {person} has a {form} sentence.",
            "That makes it ({letter}), for {person} wrote {form} text.",
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


def _draft(rng: random.Random, answer: int) -> Draft:
    form, person, animal = FORMS[answer], rng.choice(PERSONS), rng.choice(ANIMALS)
    text = _sentence(form, person, animal, *rng.choice(VERBS))
    return Draft(
        question=f"Which form of sentence is this? {text}",
        choices=FORMS,
        conclusions=tuple(Fact("form_answer", {"person": person, "form": f}) for f in FORMS),
        steps=(
            Fact(MAXIM.name, MAXIM.sole),
            Fact("ending", {"animal": animal, "ending": ENDING[form]}),
            Fact("purpose", {"person": person, "purpose": PURPOSE[form]}),
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
    lecture="The first word has a capital letter. "
    "A declarative sentence tells a fact and an interrogative sentence asks for an answer. "
    "An imperative sentence gives an order. An exclamatory sentence shows strong feeling.",
    relations=RELATIONS,
    optional=(MAXIM.name, "ending"),
    draft=_draft,
)
