"""Prompts as token ids that fit a T5: of one that is too long, the context is shortened, never options or cue."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from ares.text.prompts import fitted
from ares.types import AresError, Example

_UNLIMITED = 10**9


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], limit: int
) -> tuple[list[list[int]], int]:
    """The ids of each prompt, at most `limit` with EOS as the last one, and how many prompts had to be shortened.

    Raises AresError, with the problem, for a question that does not fit with its options alone.
    """

    def fits(example: Example) -> bool:
        return len(encode_texts(tokenizer, [example.prompt], limit + 1)[0]) <= limit

    rows = encode_texts(tokenizer, [example.prompt for example in examples], limit + 1)
    too_long = [index for index, row in enumerate(rows) if len(row) > limit]
    for index in too_long:
        shorter = fitted(examples[index], fits)
        if shorter is None:
            raise _refusal(tokenizer, examples[index], limit)
        [rows[index]] = encode_texts(tokenizer, [shorter.prompt], limit)
    return rows, len(too_long)


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int) -> list[list[int]]:
    """The ids of texts, cut to `limit` with EOS kept as the last one."""
    # A data set may lack a split, and tokenizers refuse an empty list.
    return tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"] if texts else []


def _refusal(tokenizer: PreTrainedTokenizerBase, example: Example, limit: int) -> AresError:
    shortest = example.shorter(0) if example.shorter else example
    [ids] = encode_texts(tokenizer, [shortest.prompt], _UNLIMITED)
    return AresError(
        f"The question and the options of problem {example.pid} have {len(ids)} tokens, more than "
        f"text.max_input_tokens={limit}; raise it, or leave the problem out."
    )
