"""Numbers and short texts as answers write them."""

import re

_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_LATEX = re.compile(r"\\(?:text|mathrm|left|right|,|;|!|%|\$)|\^\s*\{?\\circ\}?|\\circ|°|\$")
_FRACTION = re.compile(r"\\d?frac\{(\d+)\}\{(\d+)\}")
# A number, and a unit without digits after it.
_NUMBER = re.compile(
    r"(?P<sign>[-+−–]?)\s*[$€£¥]?\s*(?P<value>\d+(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+)(?:\s*/\s*(?P<below>\d+))?"
    r"\s*(?P<unit>[^\d/,.^√π]*)\.?"
)
_SCALES = re.compile(
    r"\b(?:dozen|hundred|thousand|million|billion|trillion|k|m|bn|or|and|to|pi|sqrt)s?\b|[-−–+*x×÷=:]"
)


def plain(text: str) -> str:
    """A text for comparison: lower case, single spaces, without LaTeX's marks, quotes, emphasis and a final period."""
    bare = " ".join(
        _LATEX.sub("", text.replace("\\sqrt", "√"))
        .translate(str.maketrans("", "", '{}*`"'))
        .casefold()
        .split()
    )
    return bare.rstrip(" .,;:!").strip("'")


def number_in(text: str) -> float | None:
    """The number that a text is, with or without a unit; None for any other text, or one with two numbers.

    1,234.5 and 3/4 and \\frac{3}{4} are numbers, and so are the words from zero to twenty. A word that scales (5
    million) or a formula (2√3) makes it no number: what it stands for would be a guess.
    """
    bare = plain(_FRACTION.sub(r"\1/\2", text))
    if bare.split(" ")[0] in _WORDS and len(bare.split()) <= 2:
        return None if _SCALES.search(bare) else float(_WORDS.index(bare.split()[0]))
    found = _NUMBER.fullmatch(bare)
    if not found or _SCALES.search(found["unit"]):
        return None
    value = float(found["value"].replace(",", "")) / (float(found["below"] or 1) or float("nan"))
    return None if value != value else -value if found["sign"] in ("-", "−", "–") and found["sign"] else value
