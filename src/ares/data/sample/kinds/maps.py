"""A map with one colored mark: the halves it lies in are read off the picture and named as a direction."""

import random

from ares.data.sample.drawing import freeze, pale
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.words import DOMAINS, PERSONS

COLORS = ("red", "blue", "pink")  # all dark in the green channel: one direction of pixel space finds them
QUARTERS = tuple((vhalf, side) for vhalf in DOMAINS["vhalf"] for side in DOMAINS["side"])
DIRECTION = dict(zip(QUARTERS, DOMAINS["direction"], strict=True))


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


KIND = Kind.read(
    "maps", _draft, map_rule=lambda slots: DIRECTION[slots["vhalf"], slots["side"]] == slots["direction"]
)
