"""Three objects with their masses: the largest mass needs the strongest push."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS, WORDS

RELATIONS = (
    Relation(
        "mass",
        ("word",),
        ("The mass of the {word} is {grams} grams.", "We read {grams} grams for the {word}."),
        ("The text gives the {word} a mass of {grams} grams.", "At {grams} grams we find the {word}."),
    ),
    Relation(
        "largest_mass",
        (),
        ("The largest of the masses is {grams} grams.", "No mass here is above {grams} grams."),
        ("At the top of the masses is {grams} grams.", "The heaviest object is at {grams} grams."),
    ),
    Relation(
        "force_answer",
        ("word",),
        (
            "So the {word} needs the strongest push, choice ({letter}).",
            "Thus the strongest push goes to the {word}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is right since the {word} needs the strongest push.",
            "That makes it ({letter}), for the {word} takes the strongest push.",
        ),
    ),
)


def _draft(rng: random.Random) -> Draft:
    words = rng.sample(WORDS, 3)
    masses = dict(zip(words, rng.sample(DOMAINS["grams"], 3), strict=True))
    heaviest = max(words, key=lambda word: int(masses[word]))
    choices = (heaviest, *(word for word in words if word != heaviest))
    hint = ", ".join(f"the {word} {grams} grams" for word, grams in masses.items())
    return Draft(
        question=f"Which needs the strongest push to speed up: the {words[0]}, the {words[1]} or the {words[2]}?",
        hint=f"Masses: {hint}.",
        choices=choices,
        conclusions=tuple(Fact("force_answer", {"word": word}) for word in choices),
        steps=(
            *(Fact("mass", {"word": word, "grams": grams}) for word, grams in masses.items()),
            Fact("largest_mass", {"grams": masses[heaviest]}),
        ),
    )


KIND = Kind(
    name="forces",
    subject="natural science",
    topic="physics",
    category="Velocity, acceleration, and forces",
    skill="Compare the forces that objects need",
    grades=("grade8", "grade9", "grade10"),
    n_choices=3,
    has_image=False,
    lecture="A push makes an object speed up. For the same gain in speed, more mass needs a stronger push. "
    "So the object with the largest mass needs the strongest push.",
    relations=RELATIONS,
    draft=_draft,
)
