"""The forms in which rationales go to a Teacher; each form has a version, which is part of every request's
hash.

Sentences are numbered `<rationale>.<sentence>`, both counted from 1, so that a reply need not repeat their
text and one bad rationale does not spoil its siblings (`parsing.parse_grouped_scores`).
"""

from collections.abc import Sequence

VERSION = "1"
PREFIX = "Solution:"


def strip_solution(sentences: Sequence[str]) -> list[str]:
    """The sentences without the `Solution:` that opens a rationale; their number stays the same.

    A first sentence that is nothing else becomes empty: it still is one to be scored.
    """
    stripped = list(sentences)
    if stripped and stripped[0].startswith(PREFIX):
        stripped[0] = stripped[0][len(PREFIX) :].lstrip()
    return stripped


def sentence_keys(counts: Sequence[int]) -> list[list[str]]:
    """The keys of the sentences of rationales with `counts` sentences: [["1.1", "1.2"], ["2.1"], ...]."""
    return [[f"{i}.{j}" for j in range(1, count + 1)] for i, count in enumerate(counts, start=1)]


def number_sentences(rationales: Sequence[Sequence[str]]) -> str:
    """All sentences of a question's rationales, one a line, each after its key."""
    keys = sentence_keys([len(sentences) for sentences in rationales])
    return "\n".join(
        f"{key} {' '.join(sentence.split())}"
        for own, sentences in zip(keys, rationales, strict=True)
        for key, sentence in zip(own, sentences, strict=True)
    )
