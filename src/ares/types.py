"""The frozen carriers that travel between steps, and the error that is shown to the user.

This module imports nothing of the project, torch or transformers, so that every other module may import it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

SPLITS = ("train", "val", "test")


_NOTHING = ("n/a", "na", "nan", "none", "null", "nil", "unknown")


def has_words(text: str) -> bool:
    """Whether a text says anything: it has a letter or a digit, and is no word for nothing."""
    bare = text.strip(" \t\r\n.,;:!?-–—_*#\"'()[]{}<>").casefold()
    return any(character.isalnum() for character in text) and bare not in _NOTHING


class AresError(Exception):
    """A mistake in configuration or data, shown to the user without a traceback; `train.py` exits with code 2."""


@dataclass(frozen=True)
class Problem:
    """A question with the fields of its source.

    `answer` is the index of the right choice, None if the source withholds it. A question without choices has its right
    answers, of which any will do, in `direct_answers`. `images` are the expected paths of its
    images, whether or not the files exist, and `image` is the first, None without one; either field sets the other.
    `rationales`, `difficult` and, of a question with choices, `direct_answers` are A-OKVQA's; `rejected` is a response
    that is worse than `solution`. An instruction, whose prompt is `question` alone, has `turns`: the earlier prompts and
    replies of its conversation, in order.
    """

    pid: str
    question: str
    choices: tuple[str, ...]
    answer: int | None
    hint: str
    caption: str
    lecture: str
    solution: str
    image: Path | None
    split: str
    subject: str
    topic: str
    category: str
    skill: str
    grade: str
    task: str
    rationales: tuple[str, ...] = ()
    direct_answers: tuple[str, ...] = ()
    difficult: bool = False
    images: tuple[Path, ...] = ()
    rejected: str = ""
    turns: tuple[tuple[str, str], ...] | None = None

    def __post_init__(self) -> None:
        if self.image is not None and self.image not in self.images:
            object.__setattr__(self, "images", (self.image, *self.images))
        if self.images:
            object.__setattr__(self, "image", self.images[0])

    @property
    def has_solution(self) -> bool:
        """Whether the source gives a solution: more than white space, punctuation and words for nothing such as "N/A"."""
        return has_words(self.solution)


@dataclass(frozen=True)
class Example:
    """The input text and the target text of one example; `pid` and `images` are its problem's.

    A chat model writes its own prompt from `question` (question, context and options, a line each) and, in an example
    that asks for an answer, the `rationale` to answer with. `shorter(n)` is the same example with at most n characters of
    rationale, caption and hint, in this order (see `ares.text.prompts.fitted`). `verbatim`: a chat model's prompt is
    `question` and nothing else, after `turns`, the earlier ones of its conversation.
    """

    prompt: str
    target: str
    pid: str = field(default="", compare=False)
    images: tuple[Path, ...] = field(default=(), compare=False)
    question: str = field(default="", compare=False)
    rationale: str | None = field(default=None, compare=False)
    shorter: Callable[[int], Self] | None = field(default=None, compare=False, repr=False)
    verbatim: bool = field(default=False, compare=False)
    turns: tuple[tuple[str, str], ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text."""

    start: int
    end: int


@dataclass(frozen=True)
class Response:
    """A policy's text for a problem; `token_ids` has EOS if it was emitted, and no padding."""

    pid: str
    text: str
    token_ids: tuple[int, ...]
    truncated: bool


@dataclass(frozen=True)
class Rationale(Response):
    """A greedy rationale."""


@dataclass(frozen=True)
class Rollout:
    """A sampled rationale, its sentences and the log-probabilities (nats) of its tokens.

    `token_ids`, `logprobs` and `ref_logprobs` have one entry per response token, EOS included; so has
    `sampler_logprobs`, what a server that wrote it says, None if the policy itself did. `spans` are characters of
    `text`, `token_ends[i]` is the index of the last token of sentence i, `repetition` the share of repeated sentences.
    """

    row_id: str
    pid: str
    sample: int
    text: str
    token_ids: tuple[int, ...]
    truncated: bool
    spans: tuple[Span, ...]
    token_ends: tuple[int, ...]
    logprobs: tuple[float, ...]
    ref_logprobs: tuple[float, ...]
    sampler_logprobs: tuple[float, ...] | None = None
    repetition: float = 0.0

    @property
    def sentences(self) -> list[str]:
        """The sentences of the rationale, in order."""
        return [self.text[span.start : span.end] for span in self.spans]


@dataclass(frozen=True)
class Feedback:
    """The Teacher's scores in [0, 1], one per sentence; `status` is ok, quarantined (scores None) or empty."""

    row_id: str
    scores: tuple[float, ...] | None
    status: str
    reason: str = ""
    request_hash: str = ""


@dataclass(frozen=True)
class Advantages:
    """The advantages of a rollout's sentences in the first epoch of RL: means over their tokens."""

    row_id: str
    advantages: tuple[float, ...]


@dataclass(frozen=True)
class Correction:
    """A greedy rationale, the same without repeated sentences, and the Teacher's repair."""

    pid: str
    rationale: str
    deduplicated: str
    corrected: str | None
    status: str
    reason: str = ""
    request_hash: str = ""


@dataclass(frozen=True)
class Side:
    """One of the two responses of a pair, with its sentences as in `Rollout`.

    `token_ids` and `ref_logprobs` (nats, under the policy that `prefer` starts from) have one entry per token, EOS
    included; `scores` one per sentence. Scores and log-probabilities are None where they are unknown.
    """

    text: str
    token_ids: tuple[int, ...]
    spans: tuple[Span, ...]
    token_ends: tuple[int, ...]
    scores: tuple[float, ...] | None = None
    ref_logprobs: tuple[float, ...] | None = None

    @property
    def sentences(self) -> list[str]:
        """The sentences of the response, in order."""
        return [self.text[span.start : span.end] for span in self.spans]


@dataclass(frozen=True)
class Pair:
    """Two responses to a problem of the data, of which `chosen` is preferred.

    `origin`: rollouts (two scored ones), same_prefix (two that differ from one sentence on), corrections (a rationale and
    its repair), solutions (a right and a wrong one of self-training) or brought (the data set's own pair).
    """

    row_id: str
    pid: str
    origin: str
    chosen: Side
    rejected: Side


@dataclass(frozen=True)
class Verdict:
    """Which of two rationales of a question is better: `winner` is a, b or tie, None without two usable replies.

    `first_order` (a shown first) and `second_order` (b shown first) are a, b, tie or quarantined.
    """

    pid: str
    winner: str | None
    first_order: str
    second_order: str
    request_hashes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """An answer given a rationale; `answer` is a choice index or a free answer, None if none could be extracted."""

    pid: str
    rationale: str
    output: str
    answer: int | str | None
    correct: bool
