"""A thermometer with a scale: the mark of its red column is read off the picture, then multiplied."""

import random

from ares.data.sample.drawing import SIDE, freeze, pale
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.words import NUMERALS, PERSONS, SCALES


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
            Fact("red_level", {"person": person, "level": level}),
            Fact("scale", {"scale": scale}),
            Fact("reading", {"level": level, "scale": scale, "degrees": values[answer]}),
        ),
        caption=rng.choice(("A thermometer with a red column.", "A large thermometer on a wall.")),
        grid=freeze(_grid(answer + 1, rng)),
    )


KIND = Kind.read(
    "thermometer",
    _draft,
    reading=lambda slots: SCALES[slots["scale"]][NUMERALS.index(slots["level"])] == slots["degrees"],
)
