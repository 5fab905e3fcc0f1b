"""Three words: the earliest initial decides which one a dictionary lists first."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import INITIAL, WORDS_BY_INITIAL

RELATIONS = (
    Relation(
        "initial",
        ("word",),
        ("The letter {initial} starts the word {word}.", "We see {initial} at the start of {word}."),
        (
            "One spells {word} with {initial} in front.",
            "Written out, {word} opens with {initial} as its letter.",
        ),
        lambda slots: INITIAL[slots["word"]] == slots["initial"],
    ),
    Relation(
        "earliest",
        (),
        (
            "Of these letters, {initial} comes first in the alphabet.",
            "The alphabet has {initial} before both other letters.",
        ),
        (
            "The earliest letter is {initial} in our alphabet.",
            "Among the three letters the alphabet lists {initial} ahead.",
        ),
    ),
    Relation(
        "alphabet_answer",
        ("word",),
        (
            "So {word} comes first, choice ({letter}).",
            "Thus a dictionary lists {word} before the others, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is right since {word} comes first.",
            "That makes it ({letter}), for {word} is first in a dictionary.",
        ),
    ),
)


def _draft(rng: random.Random) -> Draft:
    initials = rng.sample(sorted(WORDS_BY_INITIAL), 3)
    words = [rng.choice(WORDS_BY_INITIAL[initial]) for initial in initials]
    first = min(words)
    choices = (first, *(word for word in words if word != first))
    return Draft(
        question=f"Which word comes first in a dictionary: {words[0]}, {words[1]} or {words[2]}?",
        hint="",
        choices=choices,
        conclusions=tuple(Fact("alphabet_answer", {"word": word}) for word in choices),
        steps=(
            *(Fact("initial", {"word": word, "initial": INITIAL[word]}) for word in words),
            Fact("earliest", {"initial": INITIAL[first]}),
        ),
    )


KIND = Kind(
    name="alphabet",
    subject="language science",
    topic="writing-strategies",
    category="Reference skills",
    skill="Put words in the order of a dictionary",
    grades=("grade2", "grade3"),
    n_choices=3,
    has_image=False,
    lecture="A dictionary lists words in the order of the alphabet. Compare the letters that start the words. "
    "The word with the earliest letter comes first.",
    relations=RELATIONS,
    draft=_draft,
)
