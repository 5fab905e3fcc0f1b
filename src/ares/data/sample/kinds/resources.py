"""Something needed to make goods: its class of resource follows from where it comes from."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.words import DOMAINS, PERSONS, RESOURCE, RESOURCES_BY_CLASS

CLASSES = DOMAINS["class"]
ORIGIN = dict(zip(CLASSES, DOMAINS["origin"], strict=True))
GOODS = ("bread", "shirts", "bowls", "chairs", "rugs", "toys")


def _draft(rng: random.Random, answer: int) -> Draft:
    person, right = rng.choice(PERSONS), CLASSES[answer]
    resource = rng.choice(RESOURCES_BY_CLASS[right])
    asked = {"person": person, "resource": resource}
    return Draft(
        question=f"To make {rng.choice(GOODS)}, {person} needs the {resource}. What class of resource is it?",
        choices=CLASSES,
        conclusions=tuple(Fact("resource_answer", {**asked, "class": c}) for c in CLASSES),
        steps=(
            Fact("asked_resource", asked),
            Fact("origin", {"resource": resource, "origin": ORIGIN[right]}),
            Fact("class_rule", {"origin": ORIGIN[right], "class": right}),
        ),
    )


KIND = Kind.read(
    "resources",
    _draft,
    origin=lambda slots: ORIGIN[RESOURCE[slots["resource"]]] == slots["origin"],
    class_rule=lambda slots: ORIGIN[slots["class"]] == slots["origin"],
)
