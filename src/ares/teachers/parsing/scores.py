"""Sentence scores from a Teacher's reply.

The form is read leniently (surrounding prose, reasoning, missing or extra commas, several objects, bullets), the content strictly
(count, order, number format). A reply either has exactly the requested scores or raises FeedbackError.
"""

import re
from collections.abc import Sequence
from itertools import chain

from ares.teachers.parsing.entries import (
    Entry,
    json_entries,
    json_leaves,
    json_parts,
    json_rows,
    line_objects,
    load_json,
    objects,
    plain_pairs,
    sections,
)
from ares.teachers.parsing.errors import FeedbackError
from ares.teachers.parsing.reasoning import without_reasoning

BLANK = "xxx"
_SCORE = re.compile(r"\+?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NUMBERED_KEY = re.compile(r"(\d+)\.(\d+)(\s.*)?", re.ASCII | re.DOTALL)  # the sentence may follow
_KEY = re.compile(r"[\"']\d+\.\d+[\"']\s*:", re.ASCII)
_PLAIN_KEY = re.compile(r"[\"'](\d+)[\"']\s*:", re.ASCII)
_LABEL = re.compile(rf"[\"'](id|index|number|rationale)[\"']\s*:|{_KEY.pattern}", re.ASCII | re.IGNORECASE)


def parse_scores(text: str, n_sentences: int, *, sentences: Sequence[str] | None = None) -> list[float]:
    """The scores of one rationale's sentences, each in [0, 1], from a reply of `"sentence": score` lines.

    By the original code's line rule: inside each shortest `{...}`, a line's score follows its last colon. If the
    number of scores does not match, unfilled copies of the question are left out, then the reply is read as JSON.
    With `sentences`, the keys must be these, in order (up to white space, quotes and bullets). Raises
    FeedbackError.
    """
    text = without_reasoning(text).replace("\r\n", "\n").replace("\r", "\n")
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
    otherwise as one part per rationale: under headings `Rationale <i>`, or as many objects or JSON lists as there
    are rationales. An unreadable part becomes a FeedbackError in its place and leaves the others alone; if the
    parts cannot be distinguished, or the keys are numbered differently, all are errors.
    """
    text = without_reasoning(text).replace("\r\n", "\n").replace("\r", "\n")
    if '"' not in text:  # Python's quotes
        text = text.replace("'", '"')
    numbered = _numbered_entries(text)
    if foreign := [f"{i}.{j}" for i, j, _ in numbered if not (1 <= i <= len(counts) and j >= 1)]:
        return [FeedbackError(f"there is no sentence {foreign[0]}")] * len(counts)
    if numbered:
        return [_numbered_scores(numbered, i, count) for i, count in enumerate(counts, start=1)]
    plain = [int(number) for number in _PLAIN_KEY.findall(text)]
    if _LABEL.search(text) or plain != [*range(1, len(plain) + 1)]:
        # Unreadable keys may mean another order than that of the lines.
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
        # Of several keys on one line that is not JSON, the line rule sees only one.
        if found and (entries is not lines or len(found) >= len(_KEY.findall(text))):
            return found
    keys = [(key.split("."), value) for key, value in plain_pairs(text)]
    return [(int(i), int(j), value) for (i, j), value in keys]


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
                raise FeedbackError(f"sentence {number} of the reply is not the one that was asked about")
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
