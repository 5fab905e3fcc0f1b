"""The carriers of the sample data set: a kind of question, a draft of one question, a finished item."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL.Image import Image

from ares.data.sample.drawing import Grid
from ares.data.sample.relations import Relation
from ares.types import Problem


@dataclass(frozen=True)
class Fact:
    """A statement: the name of a relation and the words in its slots."""

    relation: str
    slots: Mapping[str, str]


@dataclass(frozen=True)
class Draft:
    """A question before its choices are put in order.

    `choices[0]` is right; `conclusions[i]` states choices[i], still without its letter. `steps` are the statements of
    the solution before the conclusion, in order; `known` are further truths that the solution does not mention.
    """

    question: str
    hint: str
    choices: tuple[str, ...]
    conclusions: tuple[Fact, ...]
    steps: tuple[Fact, ...]
    known: tuple[Fact, ...] = ()
    caption: str = ""
    grid: Grid | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of question: its place in the curriculum, what it can say and how a question is drawn.

    Every draft has `n_choices` choices, and a grid where `has_image`.
    """

    name: str
    subject: str
    topic: str
    category: str
    skill: str
    grades: tuple[str, ...]
    n_choices: int
    has_image: bool
    lecture: str
    relations: tuple[Relation, ...]
    draft: Callable[[random.Random], Draft]


@dataclass(frozen=True)
class Item:
    """A finished question with its truth.

    `steps` are the facts of the solution in order, the last one the conclusion with its letter; `wrong` are the
    conclusions that the other choices would give; `known` further truths.
    """

    problem: Problem
    kind: str
    steps: tuple[Fact, ...]
    wrong: tuple[Fact, ...]
    known: tuple[Fact, ...] = ()
    image: Image | None = None
