"""What the sample can say: relations between words, and the sentence templates that state them.

A relation's sentences have named slots; a *statement* is a relation with its slots filled. Gold solutions are written
with the `gold` templates; the `paraphrase` templates state the same in words that no gold text uses.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ares.data.sample.words import DOMAINS

Templates = Literal["gold", "paraphrase"]
Slots = Mapping[str, str]


def _template_pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    literals, slots = parts[::2], parts[1::2]
    pattern = re.escape(literals[0])
    for slot, literal in zip(slots, literals[1:], strict=True):
        pattern += f"(?P<{slot}>{'|'.join(map(re.escape, DOMAINS[slot]))})" + re.escape(literal)
    return re.compile(pattern)


@dataclass(frozen=True)
class Relation:
    """A relation, its sentence templates and its truth.

    The slots in `key` identify what a statement is about; the others hold what it says. `holds` decides statements
    whose truth does not depend on the problem (rules, arithmetic); None: only a problem's facts decide.
    """

    name: str
    key: tuple[str, ...]
    gold: tuple[str, ...]
    paraphrase: tuple[str, ...]
    holds: Callable[[Slots], bool] | None = None
    sole: Slots = field(default_factory=dict)  # the slots of the one statement that a maxim makes

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The slots' names, in the order of the first template."""
        return tuple(re.findall(r"\{(\w+)\}", self.gold[0]))

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(_template_pattern(template) for template in (*self.gold, *self.paraphrase))

    def write(self, slots: Slots, rng: random.Random, templates: Templates = "gold") -> str:
        """A sentence that states the relation of `slots`, its template drawn with `rng`."""
        choices = self.gold if templates == "gold" else self.paraphrase
        return rng.choice(choices).format(**slots)

    def restate(self, sentence: str, slots: Slots) -> str:
        """A sentence that `parse` reads, with other slots in the same words; raises StopIteration for another text."""
        templates = zip((*self.gold, *self.paraphrase), self._patterns, strict=True)
        return next(template for template, pattern in templates if pattern.fullmatch(sentence)).format(
            **slots
        )

    def parse(self, sentence: str) -> dict[str, str] | None:
        """The slots of a sentence written with one of this relation's templates, None for any other text."""
        for pattern in self._patterns:
            if match := pattern.fullmatch(sentence):
                return match.groupdict()
        return None


def maxim(name: str, sole: Slots, gold: tuple[str, ...], paraphrase: tuple[str, ...]) -> Relation:
    """A relation with one true statement, independent of the question: a rule that every solution may quote."""
    return Relation(name, (), gold, paraphrase, lambda slots: slots == sole, sole)
