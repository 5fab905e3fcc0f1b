"""Two flasks with large particles: both are counted in the picture, then compared."""

import random

from ares.data.sample.drawing import blank, freeze
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS, PERSONS

COLOURS = (
    "red",
    "blue",
    "pink",
)  # alike in the green channel, so that one direction of pixel space counts them all

RELATIONS = (
    Relation(
        "flask_count",
        ("person",),
        (
            "The flask of {person} holds {count} {colour} particles.",
            "We count {count} {colour} particles for {person}.",
        ),
        (
            "There are {count} {colour} particles in the glass of {person}.",
            "The picture gives {person} {count} particles in {colour}.",
        ),
    ),
    Relation(
        "larger_count",
        (),
        (
            "The larger count is {count} {colour} particles.",
            "Of both counts, {count} {colour} particles is more.",
        ),
        (
            "The count that wins is {count} {colour} particles.",
            "No flask goes above {count} {colour} particles.",
        ),
    ),
    Relation(
        "equal_count",
        (),
        (
            "Both counts are {count} {colour} particles.",
            "Each flask has the same {count} {colour} particles.",
        ),
        (
            "The two flasks share a count of {count} {colour} particles.",
            "Here {count} {colour} particles float in both flasks alike.",
        ),
    ),
    Relation(
        "flask_answer",
        ("person",),
        (
            "So the flask of {person} is more concentrated, choice ({letter}).",
            "Thus {person} has the higher concentration, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is right since the flask of {person} is more concentrated.",
            "That makes it ({letter}), for {person} has the higher concentration.",
        ),
    ),
    Relation(
        "flask_neither",
        ("person", "person2"),
        (
            "So neither {person} nor {person2} has more, choice ({letter}).",
            "Thus {person} and {person2} have equal concentration, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is right since neither {person} nor {person2} is ahead.",
            "That makes it ({letter}), for {person} and {person2} have equal flasks.",
        ),
    ),
)


def _grid(sizes: tuple[int, int], colour: str, rng: random.Random) -> list[list[str]]:
    cells = blank()
    for half, size in enumerate(sizes):
        for place in rng.sample(range(8), size):
            cells[place // 2][2 * half + place % 2] = f"o {colour}"
    return cells


def _draft(rng: random.Random) -> Draft:
    left, right = rng.sample(PERSONS, 2)
    colour = rng.choice(COLOURS)
    outcome = rng.randrange(3)  # left has more, right has more, neither
    low, high = sorted(rng.sample(range(3), 2))
    counts = ((high, low), (low, high), (rng.choice((low, high)),) * 2)[outcome]
    words = [DOMAINS["count"][count] for count in counts]
    people = {"person": left, "person2": right}
    choices = [left, right, "neither"]
    conclusions = [
        *(Fact("flask_answer", {"person": p}) for p in (left, right)),
        Fact("flask_neither", people),
    ]
    order = [outcome, *(i for i in range(3) if i != outcome)]
    largest = {"count": DOMAINS["count"][max(counts)], "colour": colour}
    return Draft(
        question=f"Whose flask has the higher concentration of {colour} particles?",
        hint=f"{left} is left, {right} is right. The flasks are equally large.",
        choices=tuple(choices[i] for i in order),
        conclusions=tuple(conclusions[i] for i in order),
        steps=(
            Fact("flask_count", {"person": left, "count": words[0], "colour": colour}),
            Fact("flask_count", {"person": right, "count": words[1], "colour": colour}),
            Fact("equal_count" if outcome == 2 else "larger_count", largest),
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
    "Flasks with the same count have equal concentration.",
    relations=RELATIONS,
    draft=_draft,
)
