"""A sentence about an animal: its form follows from its ending and purpose."""

import random

from ares.data.sample.items import Draft, Fact, Kind
from ares.data.sample.words import ANIMALS, DOMAINS, PERSONS

FORMS = DOMAINS["form"]
PURPOSE = dict(zip(FORMS, DOMAINS["purpose"], strict=True))
ENDING = dict(
    zip(FORMS, ("a full stop", "a question mark", "a full stop", "an exclamation mark"), strict=True)
)
# From the past form to the base form.
VERBS = {"fed": "feed", "washed": "wash", "found": "find", "sold": "sell", "saw": "see", "drew": "draw"}


def _sentence(form: str, person: str, animal: str, past: str, base: str) -> str:
    return {
        "declarative": f"{person} {past} the {animal}.",
        "interrogative": f"Did {person} {base} the {animal}?",
        "imperative": f"Please {base} the {animal}, {person}.",
        "exclamatory": f"How well {person} {past} the {animal}!",
    }[form]


def _draft(rng: random.Random, answer: int) -> Draft:
    form, person, animal = FORMS[answer], rng.choice(PERSONS), rng.choice(ANIMALS)
    text = _sentence(form, person, animal, *rng.choice(list(VERBS.items())))
    return Draft(
        question=f"Which form of sentence is this? {text}",
        choices=FORMS,
        conclusions=tuple(Fact("form_answer", {"person": person, "form": f}) for f in FORMS),
        steps=(
            Fact("ending", {"animal": animal, "ending": ENDING[form]}),
            Fact("purpose", {"person": person, "purpose": PURPOSE[form]}),
            Fact("form_rule", {"purpose": PURPOSE[form], "form": form}),
        ),
    )


KIND = Kind.read("grammar", _draft, form_rule=lambda slots: PURPOSE[slots["form"]] == slots["purpose"])
