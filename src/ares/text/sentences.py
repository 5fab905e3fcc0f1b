"""Sentences of a text, and the tokens they end on.

A sentence is the unit the Teacher scores and a reward is paid for, so its bounds must agree between the text
and its tokens. syntok proposes where sentences begin; the rules of this module reject some of its proposals
and add others, each for a kind of text that rationales are full of.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from syntok import segmenter

from ares.text.prompts import NEWLINES, SOLUTION
from ares.types import AresError, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Where a sentence may begin: after white space behind a terminator or a closing mark, and on a new line.
_GAP = re.compile(r"(?<=[.!?…‽。！？'\"”’»)\]}])\s+|[\r\n]\s*")
_TERMINATED = re.compile(r"[.!?…‽。！？]['\"”’»)\]}]*$")
# Three dots; a fourth is the full stop of the sentence.
_ELLIPSIS = re.compile(r"(?:(?<!\.)\.\.\.|(?<!\. )\. \. \.|…)['\"”’»)\]}]*$")

_PREFIX = re.compile(rf"^\s*{SOLUTION}\s*", re.IGNORECASE)
# A prefix, a bullet or a number such as "1.", "(b)" or "Solution: 2)." has its sentence still to come.
_UNBEGUN = re.compile(rf"(?:{_PREFIX.pattern})?(?:\(?(?:\d{{1,2}}|[A-Za-z])[.)]+|[-*•–])?", re.IGNORECASE)
# What these abbreviations announce follows them: they never end a sentence.
_ANNOUNCES = re.compile(
    r"(?<![\w.])(?:Drs?|Mrs?|Ms|Mx|Messrs|Mt|Prof|Gen|Sen|Rep|Gov|Capt|Lt|Col|Sgt|Maj|Rev|Hon|Pres"
    r"|[Ff]igs?|[Ee]qs?|Eds?|[Ee]\.g|[Ii]\.e|[Cc]f|[Cc]a|[Aa]pprox|[Vv]s|[Vv]iz|[Vv]ol|[Pp]p?)\.$"
)
# These, and letters with points between them, end one only before a word that rarely stands inside one.
_ABBREVIATION = re.compile(
    r"(?<![\w.])(?:Jr|Sr|Ste?|Ave|Blvd|Inc|Ltd|Co|Corp|Dept|Univ|Ph\.D|etc|al|(?:[A-Za-z]\.)+[A-Za-z])\.$"
)
_STARTER = re.compile(
    r"(?:The|This|That|These|Those|It|Its|He|She|They|We|You|His|Her|Their|There|Here|So|But|And|If|When|While"
    r"|Because|However|Therefore|Then|Thus|Since|As|In|On|At|For|To|What|Some|Many|Most|Both|Each|All|An?)\b"
)
# A point after these ends a sentence though syntok has its doubts: an ordinary word ("art" and "Sun" are on
# its list of abbreviations; it never lets a sentence begin in lower case), a number (before a capital), a
# letter that is no initial.
_WORD = re.compile(r"(?<![\w.])(?:[a-z]+[-'’])*(?:[a-z]{3,}|Sun|May)\.$")
_NUMBER = re.compile(r"\d\.$")
_SHORTENED = re.compile(r"\b(?:etc|vol|figs?|dept|est|max|min|temp|avg|incl|tel|gal|sec|deg|www)\.$")
_LETTER = re.compile(
    r"\b(?i:(?:answer|option|choice)(?: is)?|labell?ed|vitamin|magnet|model|solution) [A-Z]\.$"
)

_CONTINUES = "|.,;:!?)]}”’»"  # no sentence begins with one of these; "|" parts the cells of a table
_TAIL = 32  # characters before a boundary that the rules look at


def split_sentences(text: str) -> list[Span]:
    """The sentences of `text` as character spans, in order.

    Spans are disjoint, have no white space at either end and cover all other characters. No sentence ends at a
    decimal point, an initial, an abbreviation or an ellipsis. A line ends one, unless the next goes on in lower
    case; so does the text. A bullet, a number such as "1." and `Solution:` belong to the sentence they precede.
    """
    spans = []
    for start, end in pairwise([0, *_boundaries(text), len(text)]):
        sentence = text[start:end].strip()
        if sentence:
            start = text.index(sentence[0], start)
            spans.append(Span(start, start + len(sentence)))
    return spans


def sentences_of(text: str) -> list[str]:
    """The sentences of `text` as texts, in order: what a Teacher scores and an evaluation counts."""
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
    """Whether the sentence `before` is complete; `gap` is the white space that parts it from `after`."""
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
    """The text of a response, its sentences in characters, and the token each of them ends on.

    Args:
        tokenizer: a fast tokenizer; its `eos_token_id` and `pad_token_id` tell what belongs to no sentence.
        token_ids: (T,) ids of a response. They are decoded as they are and never
            encoded again: text that was sampled has many encodings.
        newline: "escape" reads an unknown token and an "n", which is what T5 makes of the escaped line breaks
            it was trained on, or a literal backslash and an "n", as a line break; "space" takes text as it is.

    Returns:
        `(text, spans, ends)` with `len(spans) == len(ends)`. `ends[i]` is the index in `token_ids` of the first
        token with which the text up to `spans[i].end` is complete; the last is that of the last token other than
        EOS and pads. They increase strictly: sentences that one token completes become one. Blank text has none.

    Raises:
        AresError: `newline` is neither "space" nor "escape".
    """
    decode = _decoder(tokenizer, newline)
    positions = _written(tokenizer, token_ids)
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


def decode_ids(
    tokenizer: "PreTrainedTokenizerBase", token_ids: Sequence[int], *, newline: str = "space"
) -> str:
    """The text of a response, as `sentence_spans` gives it; raises AresError for another `newline`."""
    return _decoder(tokenizer, newline)([int(token_ids[i]) for i in _written(tokenizer, token_ids)])


def sentence_token_ends(
    tokenizer: "PreTrainedTokenizerBase", token_ids: Sequence[int], *, newline: str = "space"
) -> list[int]:
    """The index in `token_ids` of the last token of each sentence: `ends` of `sentence_spans`."""
    return sentence_spans(tokenizer, token_ids, newline=newline)[2]


def _written(tokenizer: "PreTrainedTokenizerBase", token_ids: Sequence[int]) -> list[int]:
    """The positions of the tokens other than EOS and pads."""
    outside = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    return [index for index, token in enumerate(token_ids) if int(token) not in outside]


def _decoder(tokenizer: "PreTrainedTokenizerBase", newline: str) -> Callable[[list[int]], str]:
    """Turns ids into text, without special tokens and with line breaks as `newline` has it."""
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


def _last_tokens(
    tokenizer: "PreTrainedTokenizerBase",
    decode: Callable[[list[int]], str],
    ids: list[int],
    text: str,
    sentences: list[Span],
) -> Iterator[int]:
    """For each sentence the first index i such that `decode(ids[: i + 1])` holds it; the last index for the last.

    The pieces' lengths only say where to look first, so that mostly two prefixes a sentence are decoded.
    """

    def covers(index: int, end: int) -> bool:
        return decode(ids[: index + 1]).startswith(text[:end])

    special = set(tokenizer.all_special_ids)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    lengths = [0 if token in special else len(piece or "") for token, piece in zip(ids, pieces, strict=True)]
    reached = list(accumulate(lengths))
    token, ahead = 0, 0  # the token found last, and how far the pieces' lengths run ahead of the text there
    for span in sentences[:-1]:
        guess = bisect_left(reached, span.end + ahead)
        token = _first(partial(covers, end=span.end), guess, token, len(ids) - 1)
        ahead = reached[token] - span.end
        yield token
    if sentences:
        yield len(ids) - 1


def _first(holds: Callable[[int], bool], guess: int, low: int, high: int) -> int:
    """The smallest i in [low, high] with `holds(i)`, monotone and true of `high`, searched outwards from `guess`."""
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
    """`text` without the sentences that repeat an earlier one, and without the white space before them.

    Sentences are the same if they differ at most in case, in white space and in a leading `Solution:`. The rest
    of the text is kept verbatim.
    """
    kept = []
    end = 0
    for span, repeated in _repetitions(text):
        if not repeated:
            kept.append(text[end : span.end])
        end = span.end
    remaining = "".join([*kept, text[end:]])
    # Without what stood between them, sentences may now run on into one that repeats another.
    return text if remaining == text else remove_repeated_sentences(remaining)


def repetition_rate(text: str) -> float:
    """The share in [0, 1] of the sentences of `text` that repeat an earlier one; 0.0 without a sentence."""
    repeated = [repeats for _, repeats in _repetitions(text)]
    return sum(repeated) / len(repeated) if repeated else 0.0


def _repetitions(text: str) -> Iterator[tuple[Span, bool]]:
    """Each sentence of `text` and whether it repeats an earlier one.

    A line without a full stop, such as "- Volume = 50 mL", may rightly stand in two lists. It is a repetition
    where it directly follows itself or a repetition.
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
