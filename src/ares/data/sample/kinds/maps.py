"""A map with four coloured marks: the halves a mark lies in are read off the picture and named as a direction."""

import random

from ares.data.sample.drawing import blank, freeze
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS, PERSONS

QUARTERS = tuple((vhalf, side) for vhalf in DOMAINS["vhalf"] for side in DOMAINS["side"])
DIRECTION = dict(zip(QUARTERS, DOMAINS["direction"], strict=True))

RELATIONS = (
    Relation(
        "mark_half",
        ("person", "colour"),
        (
            "The {colour} mark of {person} lies in the {vhalf} half.",
            "We find the {colour} mark of {person} in the {vhalf} half.",
        ),
        (
            "For {person} the {vhalf} half holds the {colour} mark.",
            "In the {vhalf} half {person} drew the mark in {colour}.",
        ),
    ),
    Relation(
        "mark_side",
        ("colour",),
        ("The {colour} mark is on the {side} side.", "On the {side} side stands the {colour} mark."),
        ("The {side} side holds the {colour} mark.", "Look to the {side} side for the {colour} mark."),
    ),
    Relation(
        "map_rule",
        ("vhalf", "side"),
        ("The {vhalf} {side} part is the {direction}.", "With north up, {vhalf} {side} means {direction}."),
        ("A place that is {vhalf} {side} is {direction}.", "The {direction} lies {vhalf} {side} on a map."),
        lambda slots: DIRECTION[slots["vhalf"], slots["side"]] == slots["direction"],
    ),
    Relation(
        "map_answer",
        ("person", "colour"),
        (
            "So the {colour} mark of {person} is in the {direction}, choice ({letter}).",
            "Thus {person} has the {colour} mark in the {direction}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since the {colour} mark of {person} is {direction}.",
            "That makes it ({letter}), for {person} drew the {colour} mark {direction}.",
        ),
    ),
)


def _draft(rng: random.Random) -> Draft:
    person = rng.choice(PERSONS)
    quarters, colours = rng.sample(QUARTERS, 4), rng.sample(DOMAINS["colour"], 4)
    cells = blank()
    for (vhalf, side), colour in zip(quarters, colours, strict=True):
        row = 2 * DOMAINS["vhalf"].index(vhalf) + rng.randrange(2)
        column = 2 * DOMAINS["side"].index(side) + rng.randrange(2)
        cells[row][column] = colour
    directions = tuple(DIRECTION[quarter] for quarter in quarters)
    pairs = list(zip(colours, quarters, strict=True))
    halves = [Fact("mark_half", {"person": person, "colour": c, "vhalf": vhalf}) for c, (vhalf, _) in pairs]
    sides = [Fact("mark_side", {"colour": c, "side": side}) for c, (_, side) in pairs]
    rule = {"vhalf": quarters[0][0], "side": quarters[0][1], "direction": directions[0]}
    mark = {"person": person, "colour": colours[0]}
    return Draft(
        question=f"Where on the map of {person} is the {colours[0]} mark?",
        hint="",
        choices=directions,
        conclusions=tuple(Fact("map_answer", {**mark, "direction": d}) for d in directions),
        steps=(halves[0], sides[0], Fact("map_rule", rule)),
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
    "So the upper left part is the northwest.",
    relations=RELATIONS,
    draft=_draft,
)
