"""The sentences of a text, and the token that each of them ends on.

The Teacher scores sentences and RL rewards them, so their bounds must agree between the text and its tokens.
syntok proposes where sentences begin; the rules of this module reject some of its proposals and add others,
each for a kind of text that is common in rationales.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from syntok import segmenter

from ares.text.decoding import decoder, written_positions
from ares.text.prompts import SOLUTION
from ares.types import Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Where a sentence may begin: after white space that follows a terminator or a closing mark, and on a new line.
_GAP = re.compile(r"(?<=[.!?…‽。！？'\"”’»)\]}])\s+|[\r\n]\s*")
_TERMINATED = re.compile(r"[.!?…‽。！？]['\"”’»)\]}]*$")
# Three dots; a fourth is the sentence's period.
_ELLIPSIS = re.compile(r"(?:(?<!\.)\.\.\.|(?<!\. )\. \. \.|…)['\"”’»)\]}]*$")

_PREFIX = re.compile(rf"^\s*{SOLUTION}\s*", re.IGNORECASE)
# After a prefix, a bullet or a number such as "1.", "(b)" or "Solution: 2)." the sentence has yet to begin.
_UNBEGUN = re.compile(rf"(?:{_PREFIX.pattern})?(?:\(?(?:\d{{1,2}}|[A-Za-z])[.)]+|[-*•–])?", re.IGNORECASE)
# Abbreviations that introduce what follows: they never end a sentence.
_ANNOUNCES = re.compile(
    r"(?<![\w.])(?:Drs?|Mrs?|Ms|Mx|Messrs|Mt|Prof|Gen|Sen|Rep|Gov|Capt|Lt|Col|Sgt|Maj|Rev|Hon|Pres"
    r"|[Ff]igs?|[Ee]qs?|Eds?|[Ee]\.g|[Ii]\.e|[Cc]f|[Cc]a|[Aa]pprox|[Vv]s|[Vv]iz|[Vv]ol|[Pp]p?)\.$"
)
# These, and letters with periods between them, end a sentence only before a word that rarely occurs inside one.
_ABBREVIATION = re.compile(
    r"(?<![\w.])(?:Jr|Sr|Ste?|Ave|Blvd|Inc|Ltd|Co|Corp|Dept|Univ|Ph\.D|etc|al|(?:[A-Za-z]\.)+[A-Za-z])\.$"
)
_STARTER = re.compile(
    r"(?:The|This|That|These|Those|It|Its|He|She|They|We|You|His|Her|Their|There|Here|So|But|And|If|When|While"
    r"|Because|However|Therefore|Then|Thus|Since|As|In|On|At|For|To|What|Some|Many|Most|Both|Each|All|An?)\b"
)
# A period after these ends a sentence even if syntok disagrees: an ordinary word ("art" and "Sun" are on its
# list of abbreviations; it never lets a sentence begin in lower case), a number (before a capital), a letter
# that is not an initial.
_WORD = re.compile(r"(?<![\w.])(?:[a-z]+[-'’])*(?:[a-z]{3,}|Sun|May)\.$")
_NUMBER = re.compile(r"\d\.$")
_SHORTENED = re.compile(r"\b(?:etc|vol|figs?|dept|est|max|min|temp|avg|incl|tel|gal|sec|deg|www)\.$")
_LETTER = re.compile(
    r"\b(?i:(?:answer|option|choice)(?: is)?|labell?ed|vitamin|magnet|model|solution) [A-Z]\.$"
)

_CONTINUES = "|.,;:!?)]}”’»"  # no sentence begins with one of these; "|" separates the cells of a table
_TAIL = 32  # characters before a boundary that the rules inspect


def split_sentences(text: str) -> list[Span]:
    """Returns the sentences of `text` as character spans, in order.

    Spans are disjoint, have no white space at either end and cover all other characters. No sentence ends at a
    decimal point, an initial, an abbreviation or an ellipsis. The end of a line ends a sentence unless the next
    line continues in lower case. A bullet, a number such as "1." and `Solution:` belong to the sentence they precede.
    """
    spans = []
    for start, end in pairwise([0, *_boundaries(text), len(text)]):
        sentence = text[start:end].strip()
        if sentence:
            start = text.index(sentence[0], start)
            spans.append(Span(start, start + len(sentence)))
    return spans


def sentences_of(text: str) -> list[str]:
    """The sentences of `text` as texts, in order, as a Teacher scores them and an evaluation counts them."""
    return [text[span.start : span.end] for span in split_sentences(text)]


def _boundaries(text: str) -> Iterator[int]:
    """Positions, strictly increasing, at which a sentence other than the first begins."""
    proposed = {tokens[0].offset for paragraph in segmenter.analyze(text) for tokens in paragraph}
    start = 0
    for position in sorted(proposed | {match.end() for match in _GAP.finditer(text)}):
        before = text[start:position].rstrip()
        gap = text[start + len(before) : position]
        after = text[position : position + _TAIL]
        if before and after and _is_boundary(before, gap, after, position in proposed):
            yield position
            start = position


def _is_boundary(before: str, gap: str, after: str, proposed: bool) -> bool:
    """Whether the sentence `before` is complete; `gap` is the white space between it and `after`."""
    tail = before[-_TAIL:]
    if len(before) < _TAIL and _UNBEGUN.fullmatch(before):
        return False
    terminated = _TERMINATED.search(tail) is not None
    if "\n" in gap or "\r" in gap:
        return terminated or not after[0].islower()
    if not terminated or after[0] in _CONTINUES or _ELLIPSIS.search(tail) or _ANNOUNCES.search(tail):
        return False
    if _ABBREVIATION.search(tail):
        return bool(_STARTER.match(after))
    if proposed or _LETTER.search(tail) or (_NUMBER.search(tail) and after[0].isupper()):
        return True
    return bool(_WORD.search(tail)) and not _SHORTENED.search(tail)


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
        sentence = " ".join(_PREFIX.sub("", text[span.start : span.end]).split()).casefold()
        complete = _TERMINATED.search(sentence) is not None
        repeated = sentence in seen and (complete or repeated or sentence == previous)
        yield span, repeated
        seen.add(sentence)
        previous = sentence
