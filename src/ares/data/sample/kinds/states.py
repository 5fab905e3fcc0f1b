"""A substance in a container: its state of matter follows from how it behaves."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation, maxim
from ares.data.sample.words import CONTAINERS, DOMAINS, PERSONS, STATE, SUBSTANCES_BY_STATE

STATES = DOMAINS["state"]
BEHAVIOUR = dict(zip(STATES, DOMAINS["behaviour"], strict=True))

MAXIM = maxim(
    "state_count",
    {"count": "three"},
    (
        "Matter has {count} states.",
        "There are {count} states of matter.",
        "We know {count} states of matter.",
    ),
    ("People tell {count} states of matter apart.", "Matter comes in {count} states."),
)
RELATIONS = (
    MAXIM,
    Relation(
        "asked_substance",
        ("person",),
        ("The question is about the {substance} of {person}.", "We think about the {substance} of {person}."),
        ("We must study the {substance} that {person} owns.", "What {person} asks about is the {substance}."),
    ),
    Relation(
        "behaviour",
        ("substance",),
        ("The {substance} {behaviour}.", "In a warm room, the {substance} {behaviour}."),
        ("We know that {substance} {behaviour}.", "Put anywhere, {substance} {behaviour}."),
        lambda slots: BEHAVIOUR[STATE[slots["substance"]]] == slots["behaviour"],
    ),
    Relation(
        "state_rule",
        ("behaviour",),
        (
            "Matter that {behaviour} is a {state}.",
            "What {behaviour} is called a {state}.",
            "If it {behaviour}, matter is a {state}.",
        ),
        ("By a {state} we mean matter that {behaviour}.", "The name {state} is for what {behaviour}."),
        lambda slots: BEHAVIOUR[slots["state"]] == slots["behaviour"],
    ),
    Relation(
        "state_answer",
        ("person", "substance"),
        (
            "So the {substance} of {person} is a {state}, choice ({letter}).",
            "Thus {person} has {substance}, which is a {state}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since {person} keeps {substance} as a {state}.",
            "That makes it ({letter}), for the {substance} of {person} is a {state}.",
        ),
    ),
)


def _draft(rng: random.Random, answer: int) -> Draft:
    state, person = STATES[answer], rng.choice(PERSONS)
    substance = rng.choice(SUBSTANCES_BY_STATE[state])
    container = rng.choice(CONTAINERS)
    return Draft(
        question=f"In which state is the {substance} in the {container} of {person}?",
        choices=STATES,
        conclusions=tuple(
            Fact("state_answer", {"person": person, "substance": substance, "state": s}) for s in STATES
        ),
        steps=(
            Fact(MAXIM.name, MAXIM.sole),
            Fact("asked_substance", {"person": person, "substance": substance}),
            Fact("behaviour", {"substance": substance, "behaviour": BEHAVIOUR[state]}),
            Fact("state_rule", {"behaviour": BEHAVIOUR[state], "state": state}),
        ),
    )


KIND = Kind(
    name="states",
    subject="natural science",
    topic="chemistry",
    category="States of matter",
    skill="Tell solids, liquids and gases apart",
    grades=("grade5", "grade6", "grade10"),
    n_choices=3,
    lecture="Matter has three states. "
    "A solid keeps its own shape. A liquid flows but keeps its volume. A gas spreads to fill all space.",
    relations=RELATIONS,
    optional=(MAXIM.name, "asked_substance"),
    draft=_draft,
)
