"""A map with one colored mark: the halves it lies in are read off the picture and named as a direction."""

import random

from ares.data.sample.drawing import freeze, pale
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS, PERSONS

COLORS = ("red", "blue", "pink")  # all dark in the green channel: one direction of pixel space finds them
QUARTERS = tuple((vhalf, side) for vhalf in DOMAINS["vhalf"] for side in DOMAINS["side"])
DIRECTION = dict(zip(QUARTERS, DOMAINS["direction"], strict=True))

RELATIONS = (
    Relation(
        "mark_color",
        ("person",),
        ("The mark of {person} is {color}.", "On the map {person} has a {color} mark."),
        ("The map of {person} bears a mark in {color}.", "We see {color} where {person} made a mark."),
    ),
    Relation(
        "mark_half",
        ("person",),
        (
            "The mark of {person} lies in the {vhalf} half.",
            "For {person} there is a mark in the {vhalf} half.",
        ),
        ("In the {vhalf} half {person} drew a mark.", "The {vhalf} half holds the mark of {person}."),
    ),
    Relation(
        "mark_side",
        (),
        ("The mark is on the {side} side.", "On the {side} side stands the mark."),
        ("The {side} side holds a mark.", "Look to the {side} side for the mark."),
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
        ("person",),
        (
            "So the mark of {person} is in the {direction}, choice ({letter}).",
            "Thus {person} has the mark in the {direction}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since the mark of {person} is {direction}.",
            "That makes it ({letter}), for {person} drew the mark {direction}.",
        ),
    ),
)


def _grid(vhalf: str, side: str, color: str, rng: random.Random) -> list[list[str]]:
    cells = pale(rng)
    row, column = 2 * DOMAINS["vhalf"].index(vhalf), 2 * DOMAINS["side"].index(side)
    for cell_row in cells[row : row + 2]:
        cell_row[column : column + 2] = [color, color]
    return cells


def _draft(rng: random.Random, answer: int) -> Draft:
    person, color = rng.choice(PERSONS), rng.choice(COLORS)
    vhalf, side = QUARTERS[answer]
    directions = DOMAINS["direction"]
    return Draft(
        question=f"Where on the map of {person} is the mark?",
        choices=directions,
        conclusions=tuple(Fact("map_answer", {"person": person, "direction": d}) for d in directions),
        steps=(
            Fact("mark_color", {"person": person, "color": color}),
            Fact("mark_half", {"person": person, "vhalf": vhalf}),
            Fact("mark_side", {"side": side}),
            Fact("map_rule", {"vhalf": vhalf, "side": side, "direction": directions[answer]}),
        ),
        caption=rng.choice(("A map with a mark.", "A small map on paper.")),
        grid=freeze(_grid(vhalf, side, color, rng)),
    )


KIND = Kind(
    name="maps",
    subject="social science",
    topic="geography",
    category="Geography",
    skill="Name a direction on a map",
    grades=("grade2", "grade3", "grade4", "grade5"),
    n_choices=4,
    lecture="On a map, north is up and south is down. West is on the left side and east is on the right side. "
    "So the upper left part is the northwest.",
    relations=RELATIONS,
    optional=("mark_color",),
    draft=_draft,
)
