"""The one rule from the ids of a response to its text."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ares.text.prompts import NEWLINES
from ares.types import AresError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def decode_ids(
    tokenizer: "PreTrainedTokenizerBase", token_ids: Sequence[int], *, newline: str = "space"
) -> str:
    """The text of a response (T,), without EOS, pads and other special tokens.

    `newline="escape"` decodes an unknown token or a backslash, followed by an "n", as a line break (T5's vocabulary has
    no backslash); "space" leaves the text as it is. Raises AresError for another `newline`.
    """
    ids = [int(token_ids[index]) for index in written_positions(tokenizer, token_ids)]
    return decoder(tokenizer, newline)(ids)


def written_positions(tokenizer: "PreTrainedTokenizerBase", token_ids: Sequence[int]) -> list[int]:
    """The positions of the tokens other than EOS and pads."""
    outside = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    return [index for index, token in enumerate(token_ids) if int(token) not in outside]


def decoder(tokenizer: "PreTrainedTokenizerBase", newline: str) -> Callable[[list[int]], str]:
    """A function that turns ids without EOS and pads into text (see `decode_ids`)."""
    if newline not in NEWLINES:
        raise AresError(f"text.newline is {newline!r}: write one of {', '.join(NEWLINES)}.")
    unknown = tokenizer.unk_token or "<unk>"
    hidden = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}

    def decode(ids: list[int]) -> str:
        if newline == "space":
            return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        shown = [token for token in ids if token not in hidden]
        text = str(tokenizer.decode(shown, clean_up_tokenization_spaces=False))
        return text.replace(unknown + "n", "\n").replace(unknown, "").replace("\\n", "\n")

    return decode
