"""Reading a Teacher's replies: sentence scores, repaired rationales, verdicts.

A reply either gives exactly what was asked for or raises FeedbackError; nothing is guessed. Scores are read
leniently in form (prose around, missing commas, several objects, bullets) and strictly in content (count,
order, number format).
"""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Literal

from ares.teachers.parsing.entries import (
    Entry,
    json_entries,
    json_leaves,
    json_parts,
    json_rows,
    json_values,
    line_objects,
    load_json,
    objects,
    sections,
)

Winner = Literal["first", "second", "tie"]

BLANK = "xxx"
_SCORE = re.compile(r"\+?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NUMBERED_KEY = re.compile(r"(\d+)\.(\d+)(\s.*)?", re.ASCII | re.DOTALL)  # the sentence may follow
_KEY = re.compile(r"[\"']\d+\.\d+[\"']\s*:", re.ASCII)
_PLAIN_KEY = re.compile(r"[\"'](\d+)[\"']\s*:", re.ASCII)
_LABEL = re.compile(rf"[\"'](id|index|number|rationale)[\"']\s*:|{_KEY.pattern}", re.ASCII | re.IGNORECASE)
_FINAL_KEY = re.compile(r"[\"'*]*final[_ ]rationale[\"'*]*\s*:\s*", re.IGNORECASE)
_REFUSAL = re.compile(
    r"(solution:\s*)?"
    r"(i('m| am) (sorry|unable|not (able|going|comfortable)|afraid)|(my )?(sorry|apologies)\b|i (must )?apologi[sz]e"
    r"|i (cannot|can't|can not|could not|couldn't|will not|won't|would not|wouldn't|must decline|decline|refuse)\b"
    r"|i (do not|don't|did not|didn't) (see|have)\b|unfortunately,? (i|there|the image)"
    r"|as an? (ai|(large )?language model|assistant)\b|there is no (image|rationale|text)|(n/?a|none|null)\W*$)",
    re.IGNORECASE,
)
_HALF = re.compile("[\ud800-\udfff]")  # what an escape in JSON can leave, and no file can hold
_ECHO = re.compile(
    r"original[_ ]rationale|final_rationale|corrected rationales? (inside|within)|your task (involves|is)\b",
    re.IGNORECASE,
)
_WINNER = re.compile(r"\b(first|second|tie)\b", re.IGNORECASE)
# What follows the word "winner", or is all of the reply. Prose that speaks of one of the two prefers nothing yet.
_STATED = re.compile(r"\W*(?:is\W+)?(?:(?:the|a)\W+)?(first|second|tie)\b", re.IGNORECASE)
_ALONE = re.compile(rf"{_STATED.pattern}(?:\W+(?:one|rationale))?\W*", re.IGNORECASE)


class FeedbackError(Exception):
    """A reply that cannot be used; `reason` says why in a few words, `reply` is its text where there is one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = ""


# --------------------------------------------------------------------------------------------------
# Scores
# --------------------------------------------------------------------------------------------------


def parse_scores(text: str, n_sentences: int, *, sentences: Sequence[str] | None = None) -> list[float]:
    """The scores of one rationale's sentences, each in [0, 1], from a reply of `"sentence": score` lines.

    The line rule of the original code: inside each shortest `{...}`, a line's score is what follows its last
    colon. Where that does not fit, unfilled copies of the question are left out, then the reply is read as
    JSON. With `sentences`, the keys must be these, in order (white space, quotes and bullets apart). Raises
    FeedbackError.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found = line_objects(text)
    filled = [entries for entries in found if any(value != BLANK for _, value in entries)]
    attempts = [list(chain.from_iterable(found)), list(chain.from_iterable(filled)), json_entries(text)]
    failure: FeedbackError | None = None
    for entries in attempts:
        try:
            return _read_entries(entries, n_sentences, sentences)
        except FeedbackError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def parse_grouped_scores(text: str, counts: Sequence[int]) -> list[list[float] | FeedbackError]:
    """The scores of several rationales of one question, `counts[i]` sentences each, from one reply.

    Read as keys `<rationale>.<sentence>` counted from 1, or as JSON rows `{"id": <key>, "score": <score>}`;
    else as one part a rationale: under headings `Rationale <i>`, or as many objects or JSON lists as there
    are rationales. A part that cannot be read is a FeedbackError in its place and leaves the others alone;
    where the parts cannot be told apart, or keys tell that they are counted otherwise, all are errors.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    numbered = _numbered_entries(text)
    if foreign := [f"{i}.{j}" for i, j, _ in numbered if not (1 <= i <= len(counts) and j >= 1)]:
        return [FeedbackError(f"there is no sentence {foreign[0]}")] * len(counts)
    if numbered:
        return [_numbered_scores(numbered, i, count) for i, count in enumerate(counts, start=1)]
    plain = [int(number) for number in _PLAIN_KEY.findall(text)]
    if _LABEL.search(text) or plain != [*range(1, len(plain) + 1)]:
        # Keys that could not be read may tell of another order than that of the lines.
        return [FeedbackError("the scores are not under the keys that were asked for")] * len(counts)
    parts = json_parts(text)
    if len(parts) != len(counts) and load_json(text) is None:
        if named := sections(text):
            return [_part(named.get(i), count) for i, count in enumerate(counts, start=1)]
        parts = objects(text)
    if len(counts) == 1 and len(parts) != 1:
        parts = [text]
    if len(parts) != len(counts):
        return [FeedbackError(f"{len(parts)} parts for {len(counts)} rationales")] * len(counts)
    return [_part(part, count) for part, count in zip(parts, counts, strict=True)]


def _part(text: str | None, count: int) -> list[float] | FeedbackError:
    if text is None:
        return FeedbackError("the rationale is missing from the reply")
    try:
        return parse_scores(text, count)
    except FeedbackError as error:
        return error


def _numbered_entries(text: str) -> list[tuple[int, int, str]]:
    lines = [] if load_json(text) is not None else list(chain.from_iterable(line_objects(text)))
    for entries in (json_rows(text), json_leaves(text), lines):
        matches = [(_NUMBERED_KEY.fullmatch(key.strip(" \"'{,-*\t")), value) for key, value in entries]
        found = [(int(match[1]), int(match[2]), value) for match, value in matches if match]
        # Of several keys on a line that is no JSON, the line rule sees one.
        if found and (entries is not lines or len(found) >= len(_KEY.findall(text))):
            return found
    return []


def _numbered_scores(
    entries: Sequence[tuple[int, int, str]], rationale: int, count: int
) -> list[float] | FeedbackError:
    own = [(sentence, value) for number, sentence, value in entries if number == rationale]
    if sorted(sentence for sentence, _ in own) != list(range(1, count + 1)):
        return FeedbackError(f"{len(own)} scores for {count} sentences")
    try:
        return [_score(value) for _, value in sorted(own)]
    except FeedbackError as error:
        return error


def _read_entries(entries: Sequence[Entry], n_sentences: int, sentences: Sequence[str] | None) -> list[float]:
    if not entries:
        raise FeedbackError("no scores in braces")
    if len(entries) != n_sentences:
        raise FeedbackError(f"{len(entries)} scores for {n_sentences} sentences")
    if sentences is not None:
        for number, ((key, _), sentence) in enumerate(zip(entries, sentences, strict=True), start=1):
            if _folded(key) != _folded(sentence):
                raise FeedbackError(f"sentence {number} of the reply is another one than was asked about")
    return [_score(value) for _, value in entries]


def _folded(sentence: str) -> str:
    # Hand-written JSON: quotes may be escaped or not, bullets may replace them.
    bare = re.sub(r"[\"'“”‘’\\{]", "", sentence)
    return " ".join(re.sub(r"^\s*([-*•]|\d+[.)](?=\s))", "", bare).split())


def _score(value: str) -> float:
    value = value.strip()
    if value == BLANK:
        raise FeedbackError("a score was left blank")
    if not _SCORE.fullmatch(value) or not float(value) <= 1:
        raise FeedbackError(f"{value[:20]!r} is not a score in [0, 1]")
    return float(value)


# --------------------------------------------------------------------------------------------------
# Repaired rationales and verdicts
# --------------------------------------------------------------------------------------------------


def parse_correction(text: str, echo: re.Pattern[str] | None = None) -> str:
    """The repaired rationale, on one line, from a reply `final_rationale: {...}` or JSON with this key.

    Of several, the last one counts. Raises FeedbackError for a reply without it, an empty one, one that is
    cut off, a refusal, and one that names or repeats the question instead of answering it; `echo` is found in
    what only the question says.
    """
    value = _json_final(text)
    if value is None:
        keys = list(_FINAL_KEY.finditer(text))
        if not keys:
            raise FeedbackError("no final rationale in the reply")
        value = _without_bullets(_braced(text[keys[-1].end() :]))
    value = " ".join(value.split())
    if _HALF.search(value):
        raise FeedbackError("the final rationale holds half a character")
    if not re.search(r"\w", value):
        raise FeedbackError("the final rationale is empty")
    if _ECHO.search(value) or (echo and echo.search(value)):
        raise FeedbackError("the reply speaks of the question's form instead of answering it")
    if _REFUSAL.match(value.replace("’", "'")):
        raise FeedbackError("the Teacher refused")
    return value


def parse_verdict(text: str) -> Winner:
    """Which rationale a reply prefers, from `winner: first|second|tie`; raises FeedbackError otherwise."""
    *before, after = re.split("winner", text, flags=re.IGNORECASE)
    stated = _STATED.match(after) if before else _ALONE.fullmatch(after)
    if stated is None or len({match.lower() for match in _WINNER.findall(after)}) != 1:
        raise FeedbackError("no single winner in the reply")
    return stated[1].lower()  # type: ignore[return-value]


def _json_final(text: str) -> str | None:
    found = json_values(text, "final_rationale")
    if found and not isinstance(found[-1], str):
        raise FeedbackError("the final rationale is no text")
    return found[-1] if found else None


def _braced(text: str) -> str:
    # `{...}` up to its own closing brace, however deep; without braces all up to the reply's closing one.
    if not text.startswith("{"):
        plain = re.split(r"\n\s*}|}\s*\Z", text)[0].strip(" ',")
        if plain.startswith('"') and not plain.endswith('"'):
            raise FeedbackError("the final rationale is cut off")
        return plain.strip(" \"',")
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            inside = text[1:at].strip()
            return _braced(inside) if inside.startswith("{") and inside.endswith("}") else inside
    raise FeedbackError("the final rationale is cut off")


def _without_bullets(text: str) -> str:
    lines = text.replace("\\n", "\n").split("\n")
    return "\n".join(re.sub(r"^\s*[-*•]\s+", "", line) for line in lines)
