"""ROUGE-L of two texts, as the ScienceQA evaluation computes it."""

import re

# Scripts that write no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana and Chinese characters.
_UNSPACED = re.compile(
    "([\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)
_FULL_STOPS = str.maketrans(dict.fromkeys("。｡।॥۔።។", "."))


def spaced(text: str) -> str:
    """`text` with every character of a script without spaces as a word, and the full stops of all scripts as periods.

    Text in Latin script is returned as it is.
    """
    return _UNSPACED.sub(r" \1 ", text).translate(_FULL_STOPS)


def rouge_l_f(reference: str, hypothesis: str) -> float:
    """The summary-level ROUGE-L F score in [0, 1] (Lin 2004, section 3.2), over distinct words; 0 for a blank text.

    Sentences are what lies between full stops. P and R are the distinct words that are in a longest common
    subsequence of any sentence of one text with any sentence of the other, over the distinct words of the
    hypothesis and of the reference, characters in scripts without spaces (see `spaced`); F = 2 P R / (P + R + 1e-8), as in the package `rouge`.
    """
    gold, own = _sentences(reference), _sentences(hypothesis)
    if not gold or not own or not hypothesis.strip():
        return 0.0
    own_words, gold_words = [set(x) for x in own], [set(y) for y in gold]
    common: set[str] = set()
    # The evaluation calls the package with the reference as the summary, which decides how ties are broken.
    for x, of_x in zip(own, own_words, strict=True):
        for y, of_y in zip(gold, gold_words, strict=True):
            if x == y:
                common |= of_x
            elif not (of_x & of_y) <= common:  # otherwise it adds nothing
                common |= _common_subsequence(x, y)
    precision = len(common) / len(set().union(*own_words))
    recall = len(common) / len(set().union(*gold_words))
    return 2 * precision * recall / (precision + recall + 1e-8)


def _sentences(text: str) -> list[list[str]]:
    # A blank sentence is one empty word, which counts like any other: so it is in the package `rouge`.
    return [" ".join(part.split()).split(" ") for part in spaced(text).split(".") if part]


def _common_subsequence(x: list[str], y: list[str]) -> set[str]:
    """The words of one longest common subsequence: of several, the one that moves back in y on a tie.

    Row i of the table L(i, j) of lengths is an integer whose bit j is set where L(i, j + 1) > L(i, j), so that
    L(i, j) is the number of ones below bit j; a row follows from the one before by the bit-parallel recurrence
    of Allison and Dix (1986).
    """
    where: dict[str, int] = {}
    for j, word in enumerate(y):
        where[word] = where.get(word, 0) | 1 << j
    rows = [0]
    for word in x:
        either = rows[-1] | where.get(word, 0)
        rows.append(either & (either ^ (either - (rows[-1] << 1 | 1))))
    words: set[str] = set()
    i, j = len(x), len(y)
    while i and j:
        if x[i - 1] == y[j - 1]:
            words.add(x[i - 1])
            i, j = i - 1, j - 1
            continue
        up = (rows[i - 1] & ((1 << j) - 1)).bit_count()
        left = (rows[i] & ((1 << (j - 1)) - 1)).bit_count()
        i, j = (i - 1, j) if up > left else (i, j - 1)
    return words
