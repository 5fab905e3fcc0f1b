"""What the sample can say: relations between words, and the sentence templates that state them.

A relation's sentences have named slots; a *statement* is a relation with its slots filled. Gold solutions are written
with the `gold` templates; the `paraphrase` templates state the same in words that no gold text uses. Relations are
read from the YAML files of this package.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import eq
from typing import Any

from ares.data.sample.words import DOMAINS

Slots = Mapping[str, str]
Rule = Callable[[Slots], bool]  # whether the statement with these slots is true


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
    whose truth does not depend on the problem (rules, arithmetic); None: only a problem's facts decide. A maxim has one
    true statement, with the slots `sole`: a rule that every solution of its kind may quote. A solution may leave out
    statements of an `optional` relation: a rule that helps little, or a detail.
    """

    name: str
    gold: tuple[str, ...]
    paraphrase: tuple[str, ...]
    key: tuple[str, ...] = ()
    holds: Rule | None = None
    sole: Slots = field(default_factory=dict)
    optional: bool = False

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The slots' names, in the order of the first template."""
        return tuple(re.findall(r"\{(\w+)\}", self.gold[0]))

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(_template_pattern(template) for template in (*self.gold, *self.paraphrase))

    def write(self, slots: Slots, rng: random.Random) -> str:
        """A sentence of a gold solution that states the relation of `slots`, its template drawn with `rng`."""
        return rng.choice(self.gold).format(**slots)

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


def relations_of(entries: Mapping[str, Any], rules: Mapping[str, Rule] | None = None) -> tuple[Relation, ...]:
    """The relations that a YAML file describes by name; `rules` decide those whose truth is general (`holds`)."""
    maxims: dict[str, Rule] = {
        n: partial(eq, entry["sole"]) for n, entry in entries.items() if "sole" in entry
    }
    decided = {**maxims, **(rules or {})}
    return tuple(Relation(name, holds=decided.get(name), **tuples(entry)) for name, entry in entries.items())


def tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping of a YAML file with tuples in place of its lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
