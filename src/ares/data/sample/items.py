"""The carriers of the sample data set: a kind of question, a draft of one question, a finished item."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from PIL.Image import Image

from ares.data.sample.drawing import Grid
from ares.data.sample.relations import Relation, Rule, relations_of, tuples
from ares.types import Problem


def read_yaml(name: str) -> dict[str, Any]:
    """The contents of `<name>.yaml` in this package."""
    found: Any = OmegaConf.to_container(OmegaConf.load(Path(__file__).parent / f"{name}.yaml"))
    return found


@dataclass(frozen=True)
class Fact:
    """A statement: the name of a relation and the words in its slots."""

    relation: str
    slots: Mapping[str, str]


@dataclass(frozen=True)
class Truth:
    """Every true statement about one question, and the conclusions of its wrong choices.

    `steps` are the facts of the solution in order, the last one the conclusion with its letter; `unsaid` are
    true but not in the solution; `wrong` are the conclusions of the other choices.
    """

    kind: str
    steps: tuple[Fact, ...]
    unsaid: tuple[Fact, ...]
    wrong: tuple[Fact, ...]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Truth":
        """The inverse of `dataclasses.asdict`, also after a detour through JSON."""
        facts = {name: tuple(Fact(**fact) for fact in record[name]) for name in ("steps", "unsaid", "wrong")}
        return cls(record["kind"], **facts)

    @property
    def facts(self) -> Iterator[Fact]:
        """Every true statement about the question."""
        yield from self.steps
        yield from self.unsaid

    def mentions(self, slot: str, word: str) -> bool:
        """Whether a statement about the question, true or wrong, has this word in this slot."""
        return any(fact.slots.get(slot) == word for fact in (*self.facts, *self.wrong))


@dataclass(frozen=True)
class SampleProblem(Problem):
    """A problem of the sample, which carries its own truth."""

    truth: Truth = field(kw_only=True)


@dataclass(frozen=True)
class Draft:
    """A question with its truth, before it has a place in the data set.

    `conclusions[i]` states choices[i], without its letter. `steps` are the possible statements before the conclusion, in
    order: with the right conclusion, the maxims and the remarks they are all true statements about the question.
    """

    question: str
    choices: tuple[str, ...]
    conclusions: tuple[Fact, ...]
    steps: tuple[Fact, ...]
    hint: str = ""
    caption: str = ""
    grid: Grid | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of question: its place in the curriculum, what it can say and how a question is drawn.

    `draft(rng, answer)` draws a question whose right choice is number `answer`. Every draft has `n_choices` choices,
    always in the same order (true and false, or numbers by size). All drafts of a kind have a grid, or none has.
    """

    name: str
    subject: str
    topic: str
    category: str
    skill: str
    grades: tuple[str, ...]
    n_choices: int
    lecture: str
    relations: tuple[Relation, ...]
    draft: Callable[[random.Random, int], Draft]

    @classmethod
    def read(cls, name: str, draft: Callable[[random.Random, int], Draft], **rules: Rule) -> "Kind":
        """The kind that `kinds/<name>.yaml` describes; `rules` decide the truth of its rules by relation."""
        values = read_yaml(f"kinds/{name}")
        relations = relations_of(values.pop("relations"), rules)
        return cls(name=name, relations=relations, draft=draft, **tuples(values))

    @property
    def maxims(self) -> Iterator[Fact]:
        """The true statements that do not depend on the question."""
        yield from (Fact(relation.name, relation.sole) for relation in self.relations if relation.sole)


@dataclass(frozen=True)
class Item:
    """A finished question with its picture, if it has one."""

    problem: SampleProblem
    image: Image | None = None

    @property
    def truth(self) -> Truth:
        """The truth about the question."""
        return self.problem.truth
