"""Two flasks with large particles: both are counted in the picture, then compared."""

import random

from ares.data.sample.drawing import blank, freeze
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS, PERSONS

COLOURS = ("red", "blue", "pink")  # alike in the green channel: one direction of pixel space counts them all
OUTCOMES = ("left", "right", "neither")

RELATIONS = (
    Relation(
        "flask_count",
        ("person", "side"),
        (
            "The {side} flask of {person} holds {count} particles.",
            "The {side} flask of {person} has {count} particles inside.",
        ),
        (
            "In the picture of {person} there are {count} particles in the {side} glass.",
            "We count {count} particles for {person} in the {side} flask.",
        ),
    ),
    Relation(
        "largest_count",
        (),
        (
            "The largest count is {count} of the {colour} particles.",
            "At most there are {count} {colour} particles.",
        ),
        ("The count that wins is {count} in {colour}.", "The maximum is {count} for the {colour} particles."),
    ),
    Relation(
        "flask_answer",
        ("person",),
        (
            "So the {side} flask of {person} is more concentrated, choice ({letter}).",
            "Thus the {side} flask of {person} is the stronger one, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since {person} has more in the {side} flask.",
            "That makes it ({letter}), for the {side} flask of {person} has the higher concentration.",
        ),
    ),
    Relation(
        "flask_neither",
        ("person",),
        (
            "So neither flask of {person} is more concentrated, choice ({letter}).",
            "Thus neither flask of {person} is the stronger one, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since {person} has more in neither flask.",
            "That makes it ({letter}), for neither flask of {person} has the higher concentration.",
        ),
    ),
)


def _grid(sizes: tuple[int, int], colour: str, rng: random.Random) -> list[list[str]]:
    cells = blank()
    for half, size in enumerate(sizes):
        for place in rng.sample(range(8), size):
            cells[place // 2][2 * half + place % 2] = f"o {colour}"
    return cells


def _conclusion(person: str, outcome: str) -> Fact:
    if outcome == "neither":
        return Fact("flask_neither", {"person": person})
    return Fact("flask_answer", {"person": person, "side": outcome})


def _draft(rng: random.Random) -> Draft:
    person, colour, outcome = rng.choice(PERSONS), rng.choice(COLOURS), rng.choice(OUTCOMES)
    low, high = sorted(rng.sample(range(3), 2))
    same = rng.choice((low, high))
    counts = {"left": (high, low), "right": (low, high), "neither": (same, same)}[outcome]
    words = [DOMAINS["count"][count] for count in counts]
    outcomes = (outcome, *(other for other in OUTCOMES if other != outcome))
    return Draft(
        question=f"Which flask of {person} has the higher concentration of {colour} particles?",
        hint="",
        choices=outcomes,
        conclusions=tuple(_conclusion(person, o) for o in outcomes),
        steps=(
            *(
                Fact("flask_count", {"side": side, "person": person, "count": word})
                for side, word in zip(DOMAINS["side"], words, strict=True)
            ),
            Fact("largest_count", {"count": DOMAINS["count"][max(counts)], "colour": colour}),
        ),
        caption=rng.choice(("Two flasks with particles.", "Particles float in two flasks.")),
        grid=freeze(_grid((2 * counts[0] + 2, 2 * counts[1] + 2), colour, rng)),
    )


KIND = Kind(
    name="flasks",
    subject="natural science",
    topic="chemistry",
    category="Solutions",
    skill="Compare the concentration of two solutions",
    grades=("grade6", "grade7", "grade8"),
    n_choices=3,
    has_image=True,
    lecture="The concentration of a solution says how many particles there are in each part of it. "
    "In flasks of the same size, the flask with more particles is more concentrated. "
    "With equal counts, neither flask is more concentrated.",
    relations=RELATIONS,
    draft=_draft,
)
