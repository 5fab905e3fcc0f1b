"""A flag with a square and an edge: their colours are read off the picture and the square's meaning recalled."""

import random

from ares.data.sample.drawing import SIDE, freeze
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation, maxim
from ares.data.sample.words import DOMAINS, PERSONS

MEANING = dict(zip(DOMAINS["colour"], DOMAINS["meaning"], strict=True))

MAXIM = maxim(
    "flag_sides",
    {"count": "four"},
    (
        "A flag has {count} sides.",
        "Every flag is cut with {count} sides.",
        "We count {count} sides on a flag.",
    ),
    (
        "Flags are made with {count} sides.",
        "On all flags we find {count} sides.",
    ),
)
RELATIONS = (
    MAXIM,
    Relation(
        "edge_colour",
        ("person",),
        ("The flag of {person} has a {colour} edge.", "Around the flag of {person} the edge is {colour}."),
        (
            "On its edge the flag of {person} is painted {colour}.",
            "We see {colour} on the edge for {person}.",
        ),
    ),
    Relation(
        "square_colour",
        ("person",),
        ("The square of {person} is {colour}.", "In the middle {person} has a {colour} square."),
        ("The picture gives {person} a square in {colour}.", "There is {colour} on the square of {person}."),
    ),
    Relation(
        "colour_meaning",
        ("colour",),
        ("On a flag, {colour} stands for {meaning}.", "The colour {colour} stands for {meaning}."),
        ("A square in {colour} is a sign of {meaning}.", "People use {colour} to mean {meaning}."),
        lambda slots: MEANING[slots["colour"]] == slots["meaning"],
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
    person, square = rng.choice(PERSONS), DOMAINS["colour"][answer]
    edge = rng.choice([colour for colour in DOMAINS["colour"] if colour != square])
    meanings = DOMAINS["meaning"]
    return Draft(
        question=f"What does the square on the flag of {person} stand for?",
        hint="",
        choices=meanings,
        conclusions=tuple(Fact("flag_answer", {"person": person, "meaning": m}) for m in meanings),
        steps=(
            Fact(MAXIM.name, MAXIM.sole),
            Fact("edge_colour", {"person": person, "colour": edge}),
            Fact("square_colour", {"person": person, "colour": square}),
            Fact("colour_meaning", {"colour": square, "meaning": MEANING[square]}),
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
    has_image=True,
    lecture="A flag has four sides. "
    "The colours of a flag have meanings. Red stands for courage and green for forest. "
    "Blue stands for sea and pink for friendship.",
    relations=RELATIONS,
    optional=(MAXIM.name, "edge_colour"),
    draft=_draft,
)
