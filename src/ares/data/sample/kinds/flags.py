"""A flag with a square and an edge: their colors are read off the picture and the square's meaning recalled."""

import random

from ares.data.sample.drawing import SIDE, freeze
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation, maxim
from ares.data.sample.words import DOMAINS, PERSONS

MEANING = dict(zip(DOMAINS["color"], DOMAINS["meaning"], strict=True))

MAXIM = maxim(
    "flag_sides",
    {"count": "four"},
    (
        "A flag has {count} sides.",
        "Every flag is cut with {count} sides.",
        "We count {count} sides on a flag.",
    ),
    ("Flags are made with {count} sides.", "On all flags we find {count} sides."),
)
RELATIONS = (
    MAXIM,
    Relation(
        "edge_color",
        ("person",),
        ("The flag of {person} has a {color} edge.", "Around the flag of {person} the edge is {color}."),
        ("On its edge the flag of {person} is painted {color}.", "We see {color} on the edge for {person}."),
    ),
    Relation(
        "square_color",
        ("person",),
        ("The square of {person} is {color}.", "In the middle {person} has a {color} square."),
        ("The picture gives {person} a square in {color}.", "There is {color} on the square of {person}."),
    ),
    Relation(
        "color_meaning",
        ("color",),
        ("On a flag, {color} stands for {meaning}.", "The colour {color} stands for {meaning}."),
        ("A square in {color} is a sign of {meaning}.", "People use {color} to mean {meaning}."),
        lambda slots: MEANING[slots["color"]] == slots["meaning"],
    ),
    Relation(
        "flag_answer",
        ("person",),
        (
            "So the square of {person} stands for {meaning}, choice ({letter}).",
            "Thus {person} uses the square for {meaning}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since the square of {person} means {meaning}.",
            "That makes it ({letter}), for {person} shows {meaning} with the square.",
        ),
    ),
)


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
            Fact(MAXIM.name, MAXIM.sole),
            Fact("edge_color", {"person": person, "color": edge}),
            Fact("square_color", {"person": person, "color": square}),
            Fact("color_meaning", {"color": square, "meaning": MEANING[square]}),
        ),
        caption=rng.choice(("A flag with a square.", "A flag in the wind.")),
        grid=freeze(_grid(edge, square, rng)),
    )


KIND = Kind(
    name="flags",
    subject="social science",
    topic="civics",
    category="National symbols",
    skill="Explain the colours of a flag",
    grades=("grade6", "grade7"),
    n_choices=4,
    lecture="A flag has four sides. "
    "The colours of a flag have meanings. Red stands for courage and green for forest. "
    "Blue stands for sea and pink for friendship.",
    relations=RELATIONS,
    optional=(MAXIM.name, "edge_color"),
    draft=_draft,
)
