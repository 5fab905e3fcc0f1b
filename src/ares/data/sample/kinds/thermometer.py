"""A thermometer with a scale: the mark of its red column is read off the picture, then multiplied."""

import random

from ares.data.sample.drawing import SIDE, freeze, pale
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation, maxim
from ares.data.sample.words import NUMERALS, PERSONS, SCALES

MAXIM = maxim(
    "column_length",
    {"length": "longer"},
    (
        "Warm air makes the column {length}.",
        "When air is warm, the column is {length}.",
        "A column gets {length} in warm air.",
    ),
    ("In warm air we see a {length} column.", "The column is {length} once air is warm."),
)
RELATIONS = (
    MAXIM,
    Relation(
        "red_level",
        ("person",),
        (
            "The red column of {person} reaches mark {level}.",
            "We see that {person} has red up to mark {level}.",
        ),
        (
            "Red fills the thermometer of {person} to mark {level}.",
            "For {person} the red stops at mark {level}.",
        ),
    ),
    Relation(
        "scale",
        (),
        ("The marks of the scale count in {scale}.", "From mark to mark we count in {scale}."),
        ("This scale goes up in {scale}.", "We must count the marks in {scale}."),
    ),
    Relation(
        "reading",
        ("level", "scale"),
        (
            "Counting in {scale}, mark {level} is {degrees} degrees.",
            "Mark {level} in {scale} means {degrees} degrees.",
        ),
        (
            "With {scale}, {level} marks make {degrees} degrees.",
            "At mark {level}, {scale} give {degrees} degrees.",
        ),
        lambda slots: SCALES[slots["scale"]][NUMERALS.index(slots["level"])] == slots["degrees"],
    ),
    Relation(
        "degrees_answer",
        ("person",),
        (
            "So the degrees of {person} are {degrees}, choice ({letter}).",
            "Thus the thermometer of {person} is at {degrees}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since {person} has {degrees} degrees.",
            "That makes it ({letter}), for {person} reads off {degrees} degrees.",
        ),
    ),
)


def _grid(height: int, rng: random.Random) -> list[list[str]]:
    cells = pale(rng)
    for row in range(SIDE):
        cells[row][1:3] = ["red" if row >= SIDE - height else "paper"] * 2
    return cells


def _draft(rng: random.Random, answer: int) -> Draft:
    person, scale = rng.choice(PERSONS), rng.choice(list(SCALES))
    values, level = SCALES[scale], NUMERALS[answer]
    return Draft(
        question=f"How many degrees does the thermometer of {person} show?",
        hint=f"The marks count in {scale}.",
        choices=values,
        conclusions=tuple(Fact("degrees_answer", {"person": person, "degrees": value}) for value in values),
        steps=(
            Fact(MAXIM.name, MAXIM.sole),
            Fact("red_level", {"person": person, "level": level}),
            Fact("scale", {"scale": scale}),
            Fact("reading", {"level": level, "scale": scale, "degrees": values[answer]}),
        ),
        caption=rng.choice(("A thermometer with a red column.", "A large thermometer on a wall.")),
        grid=freeze(_grid(answer + 1, rng)),
    )


KIND = Kind(
    name="thermometer",
    subject="natural science",
    topic="units-and-measurement",
    category="Weather and climate",
    skill="Read a thermometer",
    grades=("grade2", "grade3", "grade4"),
    n_choices=4,
    lecture="Warm air makes the column longer. "
    "A thermometer shows how warm the air is. The higher the red column, the warmer it is. "
    "Count from mark to mark in the steps of the scale.",
    relations=RELATIONS,
    optional=(MAXIM.name,),
    draft=_draft,
)
