"""Something needed to make goods: its class of resource follows from where it comes from."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation, maxim
from ares.data.sample.words import DOMAINS, PERSONS, RESOURCE, RESOURCES_BY_CLASS

CLASSES = DOMAINS["class"]
ORIGIN = dict(zip(CLASSES, DOMAINS["origin"], strict=True))
GOODS = ("bread", "shirts", "bowls", "chairs", "rugs", "toys")

MAXIM = maxim(
    "class_count",
    {"count": "three"},
    (
        "We sort them into {count} groups.",
        "There are {count} groups to choose from.",
        "A book lists {count} groups.",
    ),
    ("People know {count} groups of them.", "All of them fall into {count} groups."),
)
RELATIONS = (
    MAXIM,
    Relation(
        "asked_resource",
        ("person",),
        ("The shop of {person} needs the {resource}.", "The question of {person} is about the {resource}."),
        (
            "What {person} asks about is the {resource}.",
            "We must think of the {resource} that {person} needs.",
        ),
    ),
    Relation(
        "origin",
        ("resource",),
        ("The {resource} {origin}.", "As we know, the {resource} {origin}."),
        ("Everywhere the {resource} {origin}.", "People say that the {resource} {origin}."),
        lambda slots: ORIGIN[RESOURCE[slots["resource"]]] == slots["origin"],
    ),
    Relation(
        "class_rule",
        ("origin",),
        (
            "A resource that {origin} is called {class}.",
            "What {origin} is a {class} resource.",
            "If it {origin}, a resource is {class}.",
        ),
        ("The name {class} is for a resource that {origin}.", "We say {class} when a resource {origin}."),
        lambda slots: ORIGIN[slots["class"]] == slots["origin"],
    ),
    Relation(
        "resource_answer",
        ("person", "resource"),
        (
            "So the {resource} of {person} is {class}, choice ({letter}).",
            "Thus {person} counts the {resource} as {class}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since the {resource} of {person} is {class}.",
            "That makes it ({letter}), for {person} has a {class} resource in the {resource}.",
        ),
    ),
)


def _draft(rng: random.Random, answer: int) -> Draft:
    person, right = rng.choice(PERSONS), CLASSES[answer]
    resource = rng.choice(RESOURCES_BY_CLASS[right])
    asked = {"person": person, "resource": resource}
    return Draft(
        question=f"To make {rng.choice(GOODS)}, {person} needs the {resource}. What class of resource is it?",
        choices=CLASSES,
        conclusions=tuple(Fact("resource_answer", {**asked, "class": c}) for c in CLASSES),
        steps=(
            Fact(MAXIM.name, MAXIM.sole),
            Fact("asked_resource", asked),
            Fact("origin", {"resource": resource, "origin": ORIGIN[right]}),
            Fact("class_rule", {"origin": ORIGIN[right], "class": right}),
        ),
    )


KIND = Kind(
    name="resources",
    subject="social science",
    topic="economics",
    category="Basic economic principles",
    skill="Tell natural, human and capital resources apart",
    grades=("grade8", "grade9", "grade11"),
    n_choices=3,
    lecture="We sort them into three groups. "
    "A natural resource comes from nature. A human resource is a person at work. "
    "A capital resource is made to make goods.",
    relations=RELATIONS,
    optional=(MAXIM.name, "asked_resource"),
    draft=_draft,
)
