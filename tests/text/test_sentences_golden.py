"""Agreement with the sentence ends of the original code, every disagreement put into a class.

The original looks for hard-coded token ids: a full stop (5), "?" or "!", unless a full stop follows within three
tokens or a number of its list stands before. So it splits at abbreviations, misses short sentences, quoted ends
and lines, and drops what follows the last mark of a cut-off response.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ares.text.sentences import remove_repeated_sentences, sentence_spans, split_sentences

EOS, STOP = 1, 5


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict:
    return json.loads((shared / "golden" / "sentences.json").read_text())


def class_of_ours(left: str, right: str, following: list[int]) -> str | None:
    """Why the original sees no end where we do; `following` are the ids after it, EOS and pads included."""
    if not following:
        return "cut off"
    if left.endswith("<unk>"):
        return "unknown token at the end"
    if re.search(r"[.?!](?:<unk>)?[\"”]\.?$", left):
        return "closing quote"
    if re.search(r"[.?!]$", left) and STOP in following[:3]:
        return "short sentence next"
    if re.search(r"\d\.$", left):
        return "number before the stop"
    if re.search(r"(?:\?\?|!!)$", left):
        return "doubled mark"
    if following[0] == EOS:
        return "end of the response"
    if right.startswith("<unk>n") and not re.search(r"[.?!]$", left):
        return "line without a stop"
    return None


def class_of_theirs(left: str, right: str, token: int) -> str | None:
    """Why the original sees an end where we do not."""
    if token == EOS:
        return "end of the response"
    if right.startswith("<unk>") and not right.replace("<unk>", "").strip("n "):
        return "unknown token at the end"
    if re.search(r"(?:[A-Za-z]\.)[A-Za-z]\.$|\b(?:Jr|Sr|Fig|etc|[A-Z])\.$", left):
        return "abbreviation or initial"
    if re.search(r"(?:^|\s|n)\(?\d[.)]+$", left):
        return "enumeration"
    if re.match(r"[”)]", right):
        return "inside a quote or bracket"
    if re.match(r"[a-z\d]", right):
        return "decimal or address"
    if right.startswith("!"):
        return "marks alone"
    return None


def disagreements(sequence: dict, tokenizer) -> Iterator[tuple[str, str]]:
    ids = sequence["actions"][1:]
    ours = set(sentence_spans(tokenizer, ids, newline="escape")[2])
    theirs = set(sequence["reward_positions"])
    for end in sorted(ours ^ theirs):
        left, right = tokenizer.decode(ids[: end + 1]), tokenizer.decode(ids[end + 1 :])
        if end in ours:
            yield "ours", str(class_of_ours(left, right, ids[end + 1 :]))
        else:
            yield "theirs", str(class_of_theirs(left, right, ids[end]))


def test_every_disagreement_with_the_original_is_classified(golden: dict, t5_tokenizer) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    equal = theirs = 0
    for sequence in golden["sequences"]:
        found = list(disagreements(sequence, t5_tokenizer))
        equal += not found
        theirs += len(sequence["reward_positions"])
        counts.update(found)
    print(equal,theirs,counts)
