"""Two magnets side by side: the facing ends are read off the picture, then the rule of magnets is applied."""

import random

from ares.data.sample.drawing import SIDE, blank, freeze
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS, PERSONS

COLOUR = {"north": "red", "south": "blue"}
ACTION = {"alike": "repel", "different": "attract"}

RELATIONS = (
    Relation(
        "magnet_end",
        ("person",),
        (
            "The magnet of {person} shows its {colour} {pole} end.",
            "We see that {person} points a {colour} {pole} end inward.",
        ),
        (
            "Facing inward from {person} is a {colour} end, so a {pole} pole.",
            "In the picture {person} has the {colour} {pole} pole at the gap.",
        ),
    ),
    Relation(
        "pole_pair",
        ("person", "person2"),
        (
            "The facing poles of {person} and {person2} are {likeness}.",
            "So {person} and {person2} have poles that are {likeness}.",
        ),
        (
            "Between {person} and {person2} two {likeness} poles meet.",
            "Poles that are {likeness} meet between {person} and {person2}.",
        ),
    ),
    Relation(
        "magnet_rule",
        ("likeness",),
        (
            "Poles that are {likeness} {action} each other.",
            "By the rule of magnets, poles that are {likeness} {action}.",
            "Two poles that are {likeness} always {action}.",
        ),
        ("Magnets {action} when the poles are {likeness}.", "As we know, {likeness} poles {action}."),
        lambda slots: ACTION[slots["likeness"]] == slots["action"],
    ),
    Relation(
        "magnet_answer",
        ("person", "person2"),
        (
            "So the magnets of {person} and {person2} {action}, choice ({letter}).",
            "Thus {person} and {person2} have magnets that {action}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is right since the magnets of {person} and {person2} {action}.",
            "That makes it ({letter}), for {person} and {person2} hold magnets that {action}.",
        ),
    ),
)


def _grid(poles: list[str], rng: random.Random) -> list[list[str]]:
    inner = [COLOUR[pole] for pole in poles]
    outer = ["blue" if colour == "red" else "red" for colour in inner]
    cells = blank()
    cells[1] = [outer[0], inner[0], inner[1], outer[1]]
    cells[3] = [rng.choice(("paper", "grey")) for _ in range(SIDE)]
    return cells


def _draft(rng: random.Random) -> Draft:
    left, right = rng.sample(PERSONS, 2)
    poles = [rng.choice(DOMAINS["pole"]) for _ in range(2)]
    likeness = "alike" if poles[0] == poles[1] else "different"
    action = ACTION[likeness]
    actions = (action, "repel" if action == "attract" else "attract")
    people = {"person": left, "person2": right}
    ends = [
        Fact("magnet_end", {"person": person, "colour": COLOUR[pole], "pole": pole})
        for person, pole in zip((left, right), poles, strict=True)
    ]
    return Draft(
        question=f"Will the magnets of {left} and {right} attract or repel each other?",
        hint=f"{left} is left, {right} is right. Red ends are north poles.",
        choices=actions,
        conclusions=tuple(Fact("magnet_answer", {**people, "action": a}) for a in actions),
        steps=(
            *ends,
            Fact("pole_pair", {**people, "likeness": likeness}),
            Fact("magnet_rule", {"likeness": likeness, "action": action}),
        ),
        known=(Fact("pole_pair", {"person": right, "person2": left, "likeness": likeness}),),
        caption=rng.choice(("Two bar magnets lie on a table.", "A picture of two magnets.")),
        grid=freeze(_grid(poles, rng)),
    )


KIND = Kind(
    name="magnets",
    subject="natural science",
    topic="physics",
    category="Magnets",
    skill="Decide whether two magnets attract or repel",
    grades=("grade3", "grade4", "grade5"),
    n_choices=2,
    has_image=True,
    lecture="Every magnet has a north pole and a south pole. Poles that are different attract each other. "
    "Poles that are alike repel each other.",
    relations=RELATIONS,
    draft=_draft,
)
