"""A map with four coloured marks: the mark's halves are read off the picture and named as a direction."""

import random

from ares.data.sample.drawing import blank, freeze
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS, LANDMARKS, PLACES

QUARTERS = tuple((vhalf, side) for vhalf in DOMAINS["vhalf"] for side in DOMAINS["side"])
DIRECTION = dict(zip(QUARTERS, DOMAINS["direction"], strict=True))

RELATIONS = (
    Relation(
        "mark_colour",
        ("landmark",),
        ("The mark of the {landmark} is {colour}.", "We look for the {landmark} at the {colour} mark."),
        ("The {landmark} has a mark in {colour}.", "To find the {landmark}, find the {colour} mark."),
    ),
    Relation(
        "mark_half",
        ("colour",),
        (
            "The {colour} mark lies in the {vhalf} half.",
            "On the map the {colour} mark is in the {vhalf} half.",
        ),
        ("One finds the {colour} mark within the {vhalf} half.", "The {vhalf} half holds the {colour} mark."),
    ),
    Relation(
        "mark_side",
        ("colour",),
        ("The {colour} mark lies on the {side} side.", "On the map the {colour} mark is on the {side} side."),
        ("One finds the {colour} mark along the {side} side.", "The {side} side holds the {colour} mark."),
    ),
    Relation(
        "map_rule",
        ("vhalf", "side"),
        (
            "The {vhalf} half on the {side} side is the {direction}.",
            "With north up, {vhalf} {side} means {direction}.",
        ),
        (
            "A place that is {vhalf} {side} is {direction}.",
            "The {direction} is the {vhalf} half, {side} side.",
        ),
        lambda slots: DIRECTION[slots["vhalf"], slots["side"]] == slots["direction"],
    ),
    Relation(
        "map_answer",
        ("place", "landmark"),
        (
            "So the {landmark} of {place} is in the {direction}, choice ({letter}).",
            "Thus {place} has its {landmark} in the {direction}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is right since the {landmark} of {place} is {direction}.",
            "That makes it ({letter}), for the {direction} of {place} holds the {landmark}.",
        ),
    ),
)


def _draft(rng: random.Random) -> Draft:
    place, landmark = rng.choice(PLACES), rng.choice(LANDMARKS)
    quarters = rng.sample(QUARTERS, 4)
    colours = rng.sample(DOMAINS["colour"], 4)
    cells = blank()
    for (vhalf, side), colour in zip(quarters, colours, strict=True):
        row = 2 * DOMAINS["vhalf"].index(vhalf) + rng.randrange(2)
        column = 2 * DOMAINS["side"].index(side) + rng.randrange(2)
        cells[row][column] = colour
    directions = tuple(DIRECTION[quarter] for quarter in quarters)
    halves = [Fact("mark_half", {"colour": c, "vhalf": q[0]}) for c, q in zip(colours, quarters, strict=True)]
    sides = [Fact("mark_side", {"colour": c, "side": q[1]}) for c, q in zip(colours, quarters, strict=True)]
    rule = {"vhalf": quarters[0][0], "side": quarters[0][1], "direction": directions[0]}
    return Draft(
        question=f"In {place}, the {landmark} has the {colours[0]} mark. Where is it on the map?",
        hint="North is at the top of the map.",
        choices=directions,
        conclusions=tuple(
            Fact("map_answer", {"place": place, "landmark": landmark, "direction": d}) for d in directions
        ),
        steps=(
            Fact("mark_colour", {"landmark": landmark, "colour": colours[0]}),
            halves[0],
            sides[0],
            Fact("map_rule", rule),
        ),
        known=(*halves[1:], *sides[1:]),
        caption=rng.choice(("A map with four marks.", "A small map on paper.")),
        grid=freeze(cells),
    )


KIND = Kind(
    name="maps",
    subject="social science",
    topic="geography",
    category="Geography",
    skill="Name a direction on a map",
    grades=("grade2", "grade3", "grade4", "grade5"),
    n_choices=4,
    has_image=True,
    lecture="On a map, north is up and south is down. West is on the left side and east is on the right side. "
    "The upper half on the left side is the northwest.",
    relations=RELATIONS,
    draft=_draft,
)
