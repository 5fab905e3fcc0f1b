"""The chat messages of an example: the one place that knows what a chat model is asked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ares.text.prompts import SOLUTION
from ares.types import AresError, Example

Message = dict[
    str, Any
]  # {"role": ..., "content": [{"type": "image"} or {"type": "text", "text": ...}, ...]}


@dataclass(frozen=True)
class Prompts:
    """The texts of messages: `{question}` stands for question, context and options, `{rationale}` for the rationale."""

    system: str | None
    rationale: str
    answer: str

    def __post_init__(self) -> None:
        needed = {"rationale": ["{question}"], "answer": ["{question}", "{rationale}"]}
        for name, parts in needed.items():
            if missing := [part for part in parts if part not in getattr(self, name)]:
                raise AresError(
                    f"model.prompts.{name} has no {missing[0]}; write it where that text belongs."
                )

    @classmethod
    def of(cls, settings: Mapping[str, str | None]) -> "Prompts":
        """The prompts of a configuration."""
        return cls(settings["system"], settings["rationale"] or "", settings["answer"] or "")


def messages_of(example: Example, prompts: Prompts, special: Iterable[str], *, images: int) -> list[Message]:
    """The messages that ask for the example's rationale or, where it has one, for the answer; the images come first.

    `special` are the tokenizer's special tokens, which texts of the data must not produce (see `escaped`).
    """
    special = list(special)
    question = escaped(example.question, special)
    if example.rationale is None:
        text = prompts.rationale.replace("{question}", question)
    else:
        head, tail = prompts.answer.replace("{question}", question).split("{rationale}", 1)
        text = head + escaped(without_cue(example.rationale), special) + tail
    content: list[Message] = [{"type": "image"} for _ in range(images)]
    user = {"role": "user", "content": [*content, {"type": "text", "text": text}]}
    if not prompts.system:
        return [user]
    return [{"role": "system", "content": [{"type": "text", "text": prompts.system}]}, user]


def target_of(example: Example, special: Iterable[str]) -> str:
    """What the model is trained to reply: the example's target without T5's `Solution:`."""
    return escaped(without_cue(example.target), special)


def without_cue(text: str) -> str:
    """A rationale without the `Solution:` that opens it in T5's format."""
    return text.removeprefix(SOLUTION).lstrip()


def escaped(text: str, special: Iterable[str]) -> str:
    """The text with a space after the first character of every special token that is written out in it.

    A tokenizer reads "<image>" in a question as an image that is not there. "< image>" is ordinary text.
    """
    while found := [token for token in special if token in text]:
        longest = max(found, key=len)
        text = text.replace(longest, f"{longest[0]} {longest[1:]}")
    return text
