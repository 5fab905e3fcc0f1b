"""A thermometer whose marks stand for some degrees: the mark is read off the picture, then multiplied."""

import random

from ares.data.sample.drawing import SIDE, blank, freeze
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS, NUMERALS, PLACES

RELATIONS = (
    Relation(
        "red_level",
        ("place",),
        (
            "The red column in {place} reaches mark {level}.",
            "In {place} the red column stops at mark {level}.",
        ),
        (
            "Red fills the thermometer of {place} up to mark {level}.",
            "The picture shows {place} with red as far as mark {level}.",
        ),
    ),
    Relation(
        "mark_unit",
        (),
        ("Each mark stands for {unit} degrees.", "One mark of the scale is {unit} degrees."),
        ("A single mark means {unit} degrees.", "The scale counts {unit} degrees a mark."),
    ),
    Relation(
        "product",
        ("level", "unit"),
        (
            "Now {level} times {unit} makes {degrees} degrees.",
            "Taking {level} times {unit} gives {degrees} degrees.",
        ),
        (
            "The product of {level} and {unit} is {degrees} degrees.",
            "We multiply {level} by {unit} to get {degrees} degrees.",
        ),
        lambda slots: (NUMERALS.index(slots["level"]) + 1) * int(slots["unit"]) == int(slots["degrees"]),
    ),
    Relation(
        "degrees_answer",
        ("place",),
        (
            "So the thermometer in {place} shows {degrees} degrees, choice ({letter}).",
            "Thus it is {degrees} degrees in {place}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is right since {place} is at {degrees} degrees.",
            "That makes it ({letter}), for {place} has {degrees} degrees.",
        ),
    ),
)


def _grid(height: int, rng: random.Random) -> list[list[str]]:
    cells = blank()
    for row in range(SIDE):
        column = "red" if row >= SIDE - height else "paper"
        wall = [rng.choice(("grey", "paper")) for _ in range(2)]
        cells[row] = [wall[0], column, column, wall[1]]
    return cells


def _draft(rng: random.Random) -> Draft:
    place = rng.choice(PLACES)
    unit = rng.choice(DOMAINS["unit"])
    height = rng.randint(1, SIDE)
    level = NUMERALS[height - 1]
    readings = [str(int(unit) * n) for n in range(1, SIDE + 1)]
    right = readings.pop(height - 1)
    values = (right, *readings)
    return Draft(
        question=f"Which temperature does the thermometer in {place} show?",
        hint=f"Each mark stands for {unit} degrees.",
        choices=tuple(f"{value} degrees" for value in values),
        conclusions=tuple(Fact("degrees_answer", {"place": place, "degrees": value}) for value in values),
        steps=(
            Fact("red_level", {"place": place, "level": level}),
            Fact("mark_unit", {"unit": unit}),
            Fact("product", {"level": level, "unit": unit, "degrees": right}),
        ),
        caption=rng.choice(("A thermometer with a red column.", "A large thermometer on a wall.")),
        grid=freeze(_grid(height, rng)),
    )


KIND = Kind(
    name="thermometer",
    subject="natural science",
    topic="units-and-measurement",
    category="Weather and climate",
    skill="Read a thermometer",
    grades=("grade2", "grade3", "grade4"),
    n_choices=4,
    has_image=True,
    lecture="A thermometer shows how warm the air is. The higher the red column, the warmer it is. "
    "Multiply the mark that the red column reaches by the degrees of one mark.",
    relations=RELATIONS,
    draft=_draft,
)
