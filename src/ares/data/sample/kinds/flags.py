"""A flag with a square and an edge: their colors are read off the picture and the square's meaning recalled."""

import random

from ares.data.sample.drawing import SIDE, freeze
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.words import DOMAINS, PERSONS

MEANING = dict(zip(DOMAINS["color"], DOMAINS["meaning"], strict=True))


def _grid(edge: str, square: str, rng: random.Random) -> list[list[str]]:
    cells = [[edge] * SIDE for _ in range(SIDE)]
    cells[1][1] = cells[1][2] = cells[2][1] = cells[2][2] = square
    cells[rng.choice((0, SIDE - 1))][rng.randrange(SIDE)] = rng.choice(("paper", "grey"))  # a worn place
    return cells


def _draft(rng: random.Random, answer: int) -> Draft:
    person, square = rng.choice(PERSONS), DOMAINS["color"][answer]
    edge = rng.choice([color for color in DOMAINS["color"] if color != square])
    meanings = DOMAINS["meaning"]
    return Draft(
        question=f"What does the square on the flag of {person} stand for?",
        choices=meanings,
        conclusions=tuple(Fact("flag_answer", {"person": person, "meaning": m}) for m in meanings),
        steps=(
            Fact("edge_color", {"person": person, "color": edge}),
            Fact("square_color", {"person": person, "color": square}),
            Fact("color_meaning", {"color": square, "meaning": MEANING[square]}),
        ),
        caption=rng.choice(("A flag with a square.", "A flag in the wind.")),
        grid=freeze(_grid(edge, square, rng)),
    )


KIND = Kind.read("flags", _draft, color_meaning=lambda slots: MEANING[slots["color"]] == slots["meaning"])
