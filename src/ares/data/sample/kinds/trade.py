"""People with goods: one of them has what the asker wants."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import GOODS, PERSONS

RELATIONS = (
    Relation(
        "wants",
        ("person",),
        ("What {person} wants is some {good}.", "We read that {person} wants {good} today."),
        ("The good wanted by {person} is {good} here.", "Clearly {person} wants to get {good} in a trade."),
    ),
    Relation(
        "has",
        ("person",),
        ("The good that {person} has is {good}.", "We read that {person} has {good} to give."),
        ("In the hands of {person} we find {good} for trade.", "Among what {person} owns there is some {good}."),
    ),
    Relation(
        "exchange",
        ("good",),
        ("A trade of {good} for {good2} helps both sides.", "Both gain if {good} is given for {good2}."),
        (
            "Giving {good} for {good2} is good for both.",
            "An exchange of {good} and {good2} makes both happy.",
        ),
    ),
    Relation(
        "trade_answer",
        ("person", "person2"),
        (
            "So {person} should trade with {person2}, choice ({letter}).",
            "Thus the partner of {person} is {person2}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is right since {person} can trade with {person2}.",
            "That makes it ({letter}), for {person2} is the best partner of {person}.",
        ),
    ),
)


def _draft(rng: random.Random) -> Draft:
    buyer, *sellers = rng.sample(PERSONS, 4)
    offer, *goods = rng.sample(GOODS, 4)
    stock = dict(zip(sellers, goods, strict=True))
    partner, wanted = rng.choice(list(stock.items()))
    choices = (partner, *(seller for seller in sellers if seller != partner))
    return Draft(
        question=f"Now {buyer} has {offer} and wants {wanted}. Who is the right partner for a trade?",
        hint=" ".join(f"{seller} has {good}." for seller, good in stock.items()),
        choices=choices,
        conclusions=tuple(Fact("trade_answer", {"person": buyer, "person2": seller}) for seller in choices),
        steps=(
            Fact("wants", {"person": buyer, "good": wanted}),
            Fact("has", {"person": partner, "good": wanted}),
            Fact("has", {"person": buyer, "good": offer}),
            Fact("exchange", {"good": offer, "good2": wanted}),
        ),
        known=(
            Fact("exchange", {"good": wanted, "good2": offer}),
            *(Fact("has", {"person": s, "good": stock[s]}) for s in sellers if s != partner),
        ),
    )


KIND = Kind(
    name="trade",
    subject="social science",
    topic="economics",
    category="Basic economic principles",
    skill="Find a partner for a trade",
    grades=("grade3", "grade4", "grade11"),
    n_choices=3,
    has_image=False,
    lecture="In a trade, two people give each other goods. Each side has to get what it wants. "
    "So the right partner is the person who has the good that is wanted.",
    relations=RELATIONS,
    draft=_draft,
)
