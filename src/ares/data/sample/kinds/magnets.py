"""Two magnets side by side: the facing ends are read off the picture, then the rule of magnets is applied."""

import random

from ares.data.sample.drawing import freeze, pale
from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.words import DOMAINS, PERSONS

COLORS = ("red", "blue")
ACTION = {"alike": "repel", "different": "attract"}
LIKENESS = {action: likeness for likeness, action in ACTION.items()}


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


KIND = Kind.read("magnets", _draft, magnet_rule=lambda slots: ACTION[slots["likeness"]] == slots["action"])
