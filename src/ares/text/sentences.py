"""The sentences of a text, and the token that each of them ends on.

The Teacher scores sentences and RL rewards them, so their bounds must agree between the text and its tokens.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from ares.text.boundaries import PREFIX, TERMINATED, boundaries
from ares.text.decoding import decoder, written_positions
from ares.types import Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def split_sentences(text: str) -> list[Span]:
    """Returns the sentences of `text` as character spans, in order.

    Spans are disjoint, have no white space at either end and cover all other characters. No sentence ends at a
    decimal point, an initial, an abbreviation or an ellipsis. The end of a line ends a sentence unless the next
    line continues in lower case. A bullet, a number such as "1." and `Solution:` belong to the sentence they precede.
    """
    spans = []
    for start, end in pairwise([0, *boundaries(text), len(text)]):
        sentence = text[start:end].strip()
        if sentence:
            start = text.index(sentence[0], start)
            spans.append(Span(start, start + len(sentence)))
    return spans


def sentences_of(text: str) -> list[str]:
    """The sentences of `text` as texts, in order, as a Teacher scores them and an evaluation counts them."""
    return [text[span.start : span.end] for span in split_sentences(text)]


def sentence_spans(
    tokenizer: "PreTrainedTokenizerBase", token_ids: Sequence[int], *, newline: str = "space"
) -> tuple[str, list[Span], list[int]]:
    """Returns the text of a response, its sentences as character spans, and the token that each of them ends on.

    Args:
        tokenizer: a fast tokenizer; its `eos_token_id` and `pad_token_id` belong to no sentence.
        token_ids: (T,) ids of a response. They are decoded as they are and never
            encoded again: text that was sampled has many encodings.
        newline: "escape" reads an unknown token and an "n", as T5 tokenizes the escaped line breaks
            it was trained on, or a literal backslash and an "n", as a line break; "space" takes text as it is.

    Returns:
        `(text, spans, ends)` with `len(spans) == len(ends)`. `ends[i]` is the index in `token_ids` of the first
        token with which the text up to `spans[i].end` is complete; the last is that of the last token other than
        EOS and pads. They increase strictly: sentences completed by the same token are merged. Blank text has none.

    Raises:
        AresError: `newline` is neither "space" nor "escape".
    """
    decode = decoder(tokenizer, newline)
    positions = written_positions(tokenizer, token_ids)
    ids = [int(token_ids[index]) for index in positions]
    text = decode(ids)
    sentences = split_sentences(text)
    spans: list[Span] = []
    tokens: list[int] = []
    for span, token in zip(sentences, _last_tokens(tokenizer, decode, ids, text, sentences), strict=True):
        if tokens and token == tokens[-1]:
            spans[-1] = Span(spans[-1].start, span.end)
        else:
            spans.append(span)
            tokens.append(token)
    return text, spans, [positions[token] for token in tokens]


def sentence_token_ends(
    tokenizer: "PreTrainedTokenizerBase", token_ids: Sequence[int], *, newline: str = "space"
) -> list[int]:
    """Returns the index in `token_ids` of the last token of each sentence: `ends` of `sentence_spans`."""
    return sentence_spans(tokenizer, token_ids, newline=newline)[2]


def _last_tokens(
    tokenizer: "PreTrainedTokenizerBase",
    decode: Callable[[list[int]], str],
    ids: list[int],
    text: str,
    sentences: list[Span],
) -> Iterator[int]:
    """For each sentence the first index i such that `decode(ids[: i + 1])` contains it; the last index for the last.

    The lengths of the pieces give the first guess, so that usually two prefixes per sentence are decoded.
    """

    def covers(index: int, end: int) -> bool:
        prefixes = [decode(ids[: index + 1])]
        if prefixes[0].endswith("\ufffd"):
            # With byte fallback, up to three bytes of an incomplete character make those before it unreadable too.
            prefixes += [decode(ids[:stop]) for stop in range(max(index - 2, 0), index + 1)]
        return any(prefix.startswith(text[:end]) for prefix in prefixes)

    special = set(tokenizer.all_special_ids)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    lengths = [0 if token in special else len(piece or "") for token, piece in zip(ids, pieces, strict=True)]
    reached = list(accumulate(lengths))
    token, ahead = 0, 0  # the token found last, and how far the lengths of the pieces exceed the text there
    for span in sentences[:-1]:
        guess = bisect_left(reached, span.end + ahead)
        token = _first(partial(covers, end=span.end), guess, token, len(ids) - 1)
        ahead = reached[token] - span.end
        yield token
    if sentences:
        yield len(ids) - 1


def _first(holds: Callable[[int], bool], guess: int, low: int, high: int) -> int:
    """The smallest i in [low, high] with `holds(i)`, monotone and true at `high`; the search starts at `guess`."""
    guess = min(max(guess, low), high)
    step = 1
    if holds(guess):
        high = guess
        while high - step >= low and holds(high - step):
            high, step = high - step, 2 * step
        low = max(low, high - step + 1)
    else:
        low = guess + 1
        while low + step <= high and not holds(low + step - 1):
            low, step = low + step, 2 * step
        high = min(high, low + step - 1)
    return bisect_left(range(high), True, low, high, key=holds)


def remove_repeated_sentences(text: str) -> str:
    """Returns `text` without the sentences that repeat an earlier one and the white space before them.

    Sentences are equal if they differ at most in case, white space and a leading `Solution:`. The rest of the
    text is kept verbatim.
    """
    kept = []
    end = 0
    for span, repeated in _repetitions(text):
        if not repeated:
            kept.append(text[end : span.end])
        end = span.end
    remaining = "".join([*kept, text[end:]])
    # Sentences that are now adjacent may merge into one that repeats another.
    return text if remaining == text else remove_repeated_sentences(remaining)


def repetition_rate(text: str) -> float:
    """Returns the fraction of the sentences of `text` that repeat an earlier one; 0.0 without sentences."""
    repeated = [repeats for _, repeats in _repetitions(text)]
    return sum(repeated) / len(repeated) if repeated else 0.0


def _repetitions(text: str) -> Iterator[tuple[Span, bool]]:
    """Each sentence of `text` and whether it repeats an earlier one.

    A line without a period, such as "- Volume = 50 mL", may occur in two lists. It counts as a repetition only
    directly after itself or after another repetition.
    """
    seen: set[str] = set()
    previous, repeated = "", False
    for span in split_sentences(text):
        sentence = " ".join(PREFIX.sub("", text[span.start : span.end]).split()).casefold()
        complete = TERMINATED.search(sentence) is not None
        repeated = sentence in seen and (complete or repeated or sentence == previous)
        yield span, repeated
        seen.add(sentence)
        previous = sentence
