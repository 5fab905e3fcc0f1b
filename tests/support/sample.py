"""True and false sentences about problems of the generated sample."""

import random
from dataclasses import replace

from ares.data.sample import Item
from ares.data.sample.items import Fact, Truth
from ares.data.sample.kinds import KINDS
from ares.data.sample.oracle import TRUE, label
from ares.data.sample.remarks import REMARKS
from ares.data.sample.words import DOMAINS

RELATIONS = {r.name: r for r in (*(r for kind in KINDS for r in kind.relations), *REMARKS)}


def statements(item: Item, *, templates: str = "gold") -> list[tuple[str, bool]]:
    """A ("...", True) and a ("...", False) sentence for each fact of the item's solution, in its order.

    `templates="paraphrase"` uses no template of the gold solutions. The same item gives the same sentences.
    """
    rng = random.Random(f"{item.problem.pid}/{templates}")
    found = []
    for fact in item.truth.steps:
        found.append((_written(fact, templates, rng), True))
        found.append((_written(_falsified(item.truth, fact, rng), templates, rng), False))
    return found


def _written(fact: Fact, templates: str, rng: random.Random) -> str:
    return rng.choice(getattr(RELATIONS[fact.relation], templates)).format(**fact.slots)


def _falsified(truth: Truth, fact: Fact, rng: random.Random) -> Fact:
    """An untrue variant of `fact`: another choice's conclusion, or one word changed, if possible to one of ours."""
    if "letter" in fact.slots and rng.random() < 2 / 3:
        return rng.choice(truth.wrong)
    relation = RELATIONS[fact.relation]
    slots = ("letter",) if "letter" in fact.slots else [s for s in relation.slots if s not in relation.key]
    lies = [
        replace(fact, slots={**fact.slots, slot: word})
        for slot in slots
        for word in DOMAINS[slot]
        if word != fact.slots[slot]
    ]
    lies = [lie for lie in lies if label(truth, relation.gold[0].format(**lie.slots)) not in TRUE]
    near = [lie for lie in lies if all(truth.mentions(s, word) for s, word in lie.slots.items())]
    return rng.choice(near or lies)
