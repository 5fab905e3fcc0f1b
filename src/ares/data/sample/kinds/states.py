"""A substance in a container: its state of matter follows from how it behaves."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.words import CONTAINERS, DOMAINS, PERSONS, STATE, SUBSTANCES_BY_STATE

STATES = DOMAINS["state"]
BEHAVIOUR = dict(zip(STATES, DOMAINS["behaviour"], strict=True))


def _draft(rng: random.Random, answer: int) -> Draft:
    state, person = STATES[answer], rng.choice(PERSONS)
    substance = rng.choice(SUBSTANCES_BY_STATE[state])
    container = rng.choice(CONTAINERS)
    return Draft(
        question=f"In which state is the {substance} in the {container} of {person}?",
        choices=STATES,
        conclusions=tuple(
            Fact("state_answer", {"person": person, "substance": substance, "state": s}) for s in STATES
        ),
        steps=(
            Fact("asked_substance", {"person": person, "substance": substance}),
            Fact("behaviour", {"substance": substance, "behaviour": BEHAVIOUR[state]}),
            Fact("state_rule", {"behaviour": BEHAVIOUR[state], "state": state}),
        ),
    )


KIND = Kind.read(
    "states",
    _draft,
    behaviour=lambda slots: BEHAVIOUR[STATE[slots["substance"]]] == slots["behaviour"],
    state_rule=lambda slots: BEHAVIOUR[slots["state"]] == slots["behaviour"],
)
