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
    if right.startswith("|"):
        return "table cell"
    if re.match(r"[”)]", right):
        return "inside a quote or bracket"
    if re.search(r"(?:^|\s|n)\(?\d[.)]+$", left):
        return "enumeration"
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
    equal = 0
    for sequence in golden["sequences"]:
        found = list(disagreements(sequence, t5_tokenizer))
        equal += not found
        counts.update(found)
    ends = sum(len(sequence["reward_positions"]) for sequence in golden["sequences"])
    missed = sum(count for (side, _), count in counts.items() if side == "theirs")
    assert (len(golden["sequences"]), equal, ends, ends - missed) == (448, 330, 3149, 3074)
    assert dict(counts) == {
        ("ours", "line without a stop"): 202,
        ("ours", "cut off"): 31,
        ("ours", "closing quote"): 23,
        ("ours", "short sentence next"): 17,
        ("ours", "number before the stop"): 9,
        ("ours", "end of the response"): 7,
        ("ours", "doubled mark"): 2,
        ("theirs", "table cell"): 27,
        ("theirs", "abbreviation or initial"): 18,
        ("theirs", "end of the response"): 14,
        ("theirs", "enumeration"): 5,
        ("theirs", "decimal or address"): 4,
        ("theirs", "unknown token at the end"): 3,
        ("theirs", "inside a quote or bracket"): 3,
        ("theirs", "marks alone"): 1,
    }


def bare(text: str, tokenizer) -> str:
    """`text` as the original writes it, less what its handling of line breaks (a bare "n") does to it."""
    ids = tokenizer(text.replace("\n", "\\n"), truncation=False, verbose=False).input_ids
    written = tokenizer.decode(ids, skip_special_tokens=True).removeprefix("Solution:")
    return re.sub(r"[\sn]", "", written)


def class_of_dedup(text: str, ours: str, theirs: str, tokenizer) -> str:
    if bare(ours, tokenizer) == bare(theirs, tokenizer):
        return "equal"
    first = split_sentences(text)[0]
    once = bare(text[first.start : first.end], tokenizer)
    head, found, tail = bare(theirs, tokenizer).removeprefix(once).partition(once)
    if found and once + head + tail == bare(ours, tokenizer):
        return "repeat of the first sentence kept"
    if text.startswith("Solution: Solution:"):
        return "two prefixes"
    if text.endswith(":"):
        return "open end dropped"
    if re.search(r":\n(.+\.)\n[\s\S]*:\n\1", text):
        return "repeat after a heading kept"
    return "unclassified"


def test_every_difference_in_deduplication_is_classified(golden: dict, t5_tokenizer) -> None:
    counts: Counter[str] = Counter()
    verbatim = 0
    for case in golden["dedup"]:
        text = case["text"].replace("\\n", "\n")
        ours = remove_repeated_sentences(text)
        verbatim += " ".join(ours.removeprefix("Solution:").split()) == " ".join(case["dedup"].split())
        counts[class_of_dedup(text, ours, case["dedup"], t5_tokenizer)] += 1
    assert (len(golden["dedup"]), verbatim) == (356, 292)
    assert dict(counts) == {
        "equal": 341,
        "repeat of the first sentence kept": 12,
        "two prefixes": 1,
        "open end dropped": 1,
        "repeat after a heading kept": 1,
    }
