"""The chat messages of an example: the one place that knows what a chat model is asked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ares.text.prompts import SOLUTION
from ares.types import Example

# {"role": ..., "content": [{"type": "image"} or {"type": "text", "text": ...}, ...]}
Message = dict[str, Any]


@dataclass(frozen=True)
class Prompts:
    """The texts of messages: `{question}` stands for question, context and options, `{rationale}` for the rationale.

    `rationale` has the first, `answer` both (`ares.config.options.PromptsArguments`).
    """

    system: str | None
    rationale: str
    answer: str

    @classmethod
    def of(cls, settings: Mapping[str, str | None]) -> "Prompts":
        """The prompts of a configuration."""
        return cls(settings["system"], settings["rationale"] or "", settings["answer"] or "")


def messages_of(
    example: Example, prompts: Prompts, special: re.Pattern[str], *, images: int
) -> list[Message]:
    """The messages that ask for the example's rationale or, where it has one, for the answer; the images come first.

    Those of a verbatim example are its question, after the earlier turns of its conversation.
    `special` finds the special tokens, which texts of the data must not produce (see `escaped`).
    """
    question = escaped(example.question, special)
    if example.verbatim:
        text = question
    elif example.rationale is None:
        text = prompts.rationale.replace("{question}", question)
    else:
        head, tail = prompts.answer.replace("{question}", question).split("{rationale}", 1)
        text = head + escaped(without_cue(example.rationale), special) + tail
    said = [escaped(part, special) for turn in example.turns for part in turn]
    messages = [
        {"role": "assistant" if number % 2 else "user", "content": [{"type": "text", "text": part}]}
        for number, part in enumerate([*said, text])
    ]
    messages[0]["content"] = [*({"type": "image"} for _ in range(images)), *messages[0]["content"]]
    if not prompts.system:
        return messages
    return [{"role": "system", "content": [{"type": "text", "text": prompts.system}]}, *messages]


def target_of(example: Example, special: re.Pattern[str]) -> str:
    """What the model is trained to reply: the example's target without T5's `Solution:`."""
    return escaped(without_cue(example.target), special)


def without_cue(text: str) -> str:
    """A rationale without the `Solution:` that opens it in T5's format."""
    return text.removeprefix(SOLUTION).lstrip()


def escaped(text: str, special: re.Pattern[str]) -> str:
    """The text with a space after the first character of every special token that is written out in it.

    A tokenizer reads "<image>" in a question as an image that is not there. "< image>" is ordinary text.
    """
    while special.search(text):
        text = special.sub(lambda token: f"{token[0][0]} {token[0][1:]}", text)
    return text


def special_tokens(tokenizer: Any) -> dict[int, str]:
    """The tokens that are no text, by id: of images and turns, padding; also those that have no name as an attribute."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = sorted(added.union(tokenizer.all_special_ids))
    return dict(zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True))
