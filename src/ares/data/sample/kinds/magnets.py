"""Two magnets side by side: the facing ends are read off the picture, then the rule of magnets is applied."""

import random

from ares.data.sample.drawing import freeze, pale
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.relations import Relation
from ares.data.sample.words import DOMAINS, PERSONS

COLORS = ("red", "blue")
ACTION = {"alike": "repel", "different": "attract"}
LIKENESS = {action: likeness for likeness, action in ACTION.items()}

RELATIONS = (
    Relation(
        "magnet_end",
        ("person", "side"),
        (
            "The {side} magnet of {person} shows its {color} end.",
            "The {side} magnet of {person} turns a {color} end inward.",
        ),
        (
            "In the picture of {person} a {color} end faces us from the {side} magnet.",
            "A {color} end points inward on the {side} magnet of {person}.",
        ),
    ),
    Relation(
        "end_pair",
        ("person",),
        ("The two ends of {person} are {likeness}.", "So {person} has ends that are {likeness}."),
        ("For {person} we find {likeness} ends at the gap.", "Two {likeness} ends meet for {person}."),
    ),
    Relation(
        "magnet_rule",
        ("likeness",),
        (
            "Ends that are {likeness} {action} each other.",
            "By the rule, ends that are {likeness} {action}.",
            "Two ends that are {likeness} always {action}.",
        ),
        ("Magnets {action} when the ends are {likeness}.", "As we know, {likeness} ends {action}."),
        lambda slots: ACTION[slots["likeness"]] == slots["action"],
    ),
    Relation(
        "magnet_answer",
        ("person",),
        (
            "So the magnets of {person} {action}, choice ({letter}).",
            "Thus the two magnets of {person} {action}, choice ({letter}).",
        ),
        (
            "Choice ({letter}) is correct since the magnets of {person} {action}.",
            "That makes it ({letter}), for {person} has magnets that {action}.",
        ),
    ),
)


def _grid(inner: list[str], rng: random.Random) -> list[list[str]]:
    outer = ["blue" if color == "red" else "red" for color in inner]
    cells = pale(rng)
    cells[1] = [outer[0], inner[0], inner[1], outer[1]]
    return cells


def _draft(rng: random.Random, answer: int) -> Draft:
    person, actions = rng.choice(PERSONS), DOMAINS["action"]
    action = actions[answer]
    likeness = LIKENESS[action]
    left = rng.choice(COLORS)
    right = left if likeness == "alike" else COLORS[1 - COLORS.index(left)]
    inner = [left, right]
    return Draft(
        question=f"What will the two magnets of {person} do?",
        choices=actions,
        conclusions=tuple(Fact("magnet_answer", {"person": person, "action": a}) for a in actions),
        steps=(
            *(
                Fact("magnet_end", {"side": side, "person": person, "color": color})
                for side, color in zip(DOMAINS["side"], inner, strict=True)
            ),
            Fact("end_pair", {"person": person, "likeness": likeness}),
            Fact("magnet_rule", {"likeness": likeness, "action": action}),
        ),
        caption=rng.choice(("Two bar magnets lie on a table.", "A picture of two magnets.")),
        grid=freeze(_grid(inner, rng)),
    )


KIND = Kind(
    name="magnets",
    subject="natural science",
    topic="physics",
    category="Magnets",
    skill="Decide whether two magnets attract or repel",
    grades=("grade3", "grade4", "grade5"),
    n_choices=2,
    lecture="Every magnet has a red north end and a blue south end. Ends that are different attract each other. "
    "Ends that are alike repel each other.",
    relations=RELATIONS,
    draft=_draft,
)
