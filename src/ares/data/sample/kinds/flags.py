"""A flag of four stripes: the colour of a stripe is read off the picture and its meaning recalled."""

import random

from ares.data.sample.drawing import SIDE, freeze
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS, PERSONS

MEANING = dict(zip(DOMAINS["colour"], DOMAINS["meaning"], strict=True))

RELATIONS = (
    Relation(
        "asked_stripe",
        ("person",),
        (
            "We look at the {stripe} stripe of {person}.",
            "The question of {person} is for the {stripe} stripe.",
        ),
        (
            "What matters for {person} is the {stripe} stripe.",
            "We must study the {stripe} stripe for {person}.",
        ),
    ),
    Relation(
        "stripe_colour",
        ("stripe",),
        ("The {stripe} stripe is {colour} on this flag.", "We see that the {stripe} stripe is {colour}."),
        ("This flag has a {stripe} stripe painted {colour}.", "There is {colour} on the {stripe} stripe."),
    ),
    Relation(
        "colour_meaning",
        ("colour",),
        ("On a flag, {colour} stands for {meaning}.", "The colour {colour} stands for {meaning}."),
        ("A stripe in {colour} is a sign of {meaning}.", "People use {colour} to mean {meaning}."),
        lambda slots: MEANING[slots["colour"]] == slots["meaning"],
    ),
    Relation(
        "flag_answer",
        ("person", "stripe"),
        (
            "So the {stripe} stripe of {person} stands for {meaning}, choice ({letter}).",
            "Thus {person} uses the {stripe} stripe for {meaning}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since the {stripe} stripe of {person} means {meaning}.",
            "That makes it ({letter}), for {person} shows {meaning} with the {stripe} stripe.",
        ),
    ),
)


def _draft(rng: random.Random) -> Draft:
    person = rng.choice(PERSONS)
    colours = rng.sample(DOMAINS["colour"], SIDE)
    asked = rng.randrange(SIDE)
    stripe, colour = DOMAINS["stripe"][asked], colours[asked]
    meanings = (MEANING[colour], *(MEANING[c] for c in colours if c != colour))
    stripes = [
        Fact("stripe_colour", {"stripe": s, "colour": c})
        for s, c in zip(DOMAINS["stripe"], colours, strict=True)
    ]
    asker = {"person": person, "stripe": stripe}
    return Draft(
        question=f"What does the {stripe} stripe on the flag of {person} stand for?",
        hint="",
        choices=meanings,
        conclusions=tuple(Fact("flag_answer", {**asker, "meaning": meaning}) for meaning in meanings),
        steps=(
            Fact("asked_stripe", asker),
            stripes[asked],
            Fact("colour_meaning", {"colour": colour, "meaning": MEANING[colour]}),
        ),
        known=tuple(fact for position, fact in enumerate(stripes) if position != asked),
        caption=rng.choice(("A flag with four stripes.", "A striped flag in the wind.")),
        grid=freeze([[c] * SIDE for c in colours]),
    )


KIND = Kind(
    name="flags",
    subject="social science",
    topic="civics",
    category="National symbols",
    skill="Explain the colours of a flag",
    grades=("grade6", "grade7"),
    n_choices=4,
    has_image=True,
    lecture="The colours of a flag have meanings. Red stands for courage, green for forest and blue for sea. "
    "Yellow stands for harvest, pink for friendship and black for night.",
    relations=RELATIONS,
    draft=_draft,
)
