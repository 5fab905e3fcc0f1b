"""The rules that decide whether a sentence ends at a position, each for a kind of text that is common in rationales."""

import re
from collections.abc import Iterator

from syntok import segmenter

from ares.text.prompts import SOLUTION

_CONTINUES = "|.,;:!?)]}”’»、，；：」』）】》〉"  # no sentence begins with one of these; "|" separates cells of a table
_CLOSING = r"['\"”’»)\]}」』）】》〉]"
# Marks of scripts whose next sentence may follow without a space, in lower case or in none.
_FULL_STOPS = "。！？｡।॥؟۔።។։"
# Where a sentence may begin: after white space that follows a terminator or a closing mark, on a new line, and after
# one of those marks.
_GAP = re.compile(rf"(?<=[.!?…‽'\"”’»)\]}}¹²³⁰⁴-⁹])\s+|[{_FULL_STOPS}]+{_CLOSING}*\s*|[\r\n]\s*")
# A terminator, closing marks, and numbers of footnotes as in "[2]" or "[2, 3]".
_FOOTNOTE = r"(?:\[\d[\d,\s–-]*\]|[¹²³⁰⁴-⁹]+)"
TERMINATED = re.compile(rf"[.!?…‽{_FULL_STOPS}]{_CLOSING}*{_FOOTNOTE}*$")
_FULL_STOP = re.compile(rf"[{_FULL_STOPS}]{_CLOSING}*$")
# Where syntok may begin a sentence that no gap precedes: at a capital or after a bracket; at white space that only one of
# the two knows.
_TIGHT = re.compile(
    rf"[.!?…‽{_FULL_STOPS}](?:{_CLOSING}|{_FOOTNOTE})*(?:(?=[^\W\d_])(?![a-z])|(?<=[)\]}}」』）】》〉])(?![\s{re.escape(_CONTINUES)}]))"
    r"|[」』）】》〉]\s|[\u200b\x1c-\x1f\x85]"
)
# Three dots; a fourth is the sentence's period.
_ELLIPSIS = re.compile(r"(?:(?<!\.)\.\.\.|(?<!\. )\. \. \.|…)['\"”’»)\]}]*$")

PREFIX = re.compile(rf"^\s*{SOLUTION}\s*", re.IGNORECASE)
# After a prefix, a bullet or a number such as "1.", "(b)" or "Solution: 2)." the sentence has yet to begin.
_UNBEGUN = re.compile(rf"(?:{PREFIX.pattern})?(?:\(?(?:\d{{1,2}}|[A-Za-z])[.)]+|[-*•–])?", re.IGNORECASE)
# Abbreviations that introduce what follows: they never end a sentence.
_ANNOUNCES = re.compile(
    r"(?<![\w.])(?:Drs?|Mrs?|Ms|Mx|Messrs|Mt|Prof|Gen|Sen|Rep|Gov|Capt|Lt|Col|Sgt|Maj|Rev|Hon|Pres|Adm|Cmdr|Cpl|Pvt"
    r"|[Ff]igs?|[Ee]qs?|Eqns?|Eds?|[Ee]\.g|[Ii]\.e|[Cc]f|[Cc]a|[Aa]pprox|[Vv]s|[Vv]iz|[Vv]ol)\.$"
)
# These introduce a number; before anything else they are treated like other words.
_ANNOUNCES_NUMBER = re.compile(
    r"(?<![\w.])(?<!\d )(?<!is )(?<!was )(?<!say )(?<!says )(?<!said )(?:[Ss]ecs?|[Ss]ects?|[Nn]os?|[Nn]rs?|[Nn]um"
    r"|[Cc]h(?:ap)?s?|Arts?|[Pp]aras?|Pars?|Exs?|Pts?|Thms?|Tabs?|[Rr]efs?|App|[Vv]er|[Vv]ols|[Pp]gs?|[Pp]p?|[Ll]l|est"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.$"
)
_MEASURE = re.compile(r"\d ?(?:ft|in|yds?|mi|lbs?|oz|yrs?|hrs?|mins?|secs?)\.$")  # "5 ft. 3 in. tall"
_NUMERAL = re.compile(r"[#(§]?(?:\d|[IVXLC]{2,}\b)")
# These, and letters with periods between them, end a sentence only before a word that rarely occurs inside one.
_ABBREVIATION = re.compile(
    r"(?<![\w.])(?:Jr|Sr|Ste?|Ave|Blvd|Inc|Ltd|Co|Corp|Dept|Univ|Ph\.D|etc|al|(?:[A-Za-z]\.)+[A-Za-z])\.$"
)
_STARTER = re.compile(
    r"(?:The|This|That|These|Those|It|Its|He|She|They|We|You|His|Her|Their|There|Here|So|But|And|If|When|While"
    r"|Because|However|Therefore|Then|Thus|Since|As|In|On|At|For|To|What|Some|Many|Most|Both|Each|All|An?)\b"
)
# A period after these ends a sentence even if syntok disagrees: an ordinary word ("art" and "Sun" are on its
# list of abbreviations; it never lets a sentence begin in lower case), a letter that is not an initial.
_WORD = re.compile(r"(?<![\w.])(?:[a-z]+[-'’])*(?:[a-z]{3,}|Sun|May)\.$")
_SHORTENED = re.compile(r"\b(?:etc|vol|figs?|dept|est|max|min|temp|avg|incl|tel|gal|sec|deg|www)\.$")
_LETTER = re.compile(
    r"\b(?:(?i:answer|option|choice|labell?ed|called|equals?|pick|choose|select|letter|vitamin|magnet|model|solution|sample|beaker"
    r"|container|point|part|step|pair|group|figure|type|plate|planet|object)(?i:s)?(?i: is|:)?"
    r"|[A-Z],? (?:and|or|nor|to|than|from|with|not|versus)) [A-Z]\.$"
)
# What ends a sentence before a capital.
_BEFORE_CAPITAL = (
    re.compile(r"\d\.$"),
    # A unit: "40 mL", "45 °F", "5 m/s^2", but no year and initial.
    re.compile(
        r"\d\s?(?<!\b1\d{3}\s)(?<!\b20\d{2}\s)(?!(?:deg|sq|cu)\.)[°µμ]?[A-Za-zΩ°%′″]{1,3}(?:[/·*^]\w+)*\.$"
    ),
    re.compile(r"°\s?[CFK]\.$"),
    # A symbol: "pH", "π", "x" ("v." is "versus"), a genotype such as "ff".
    re.compile(r"(?<![\w.])(?:[a-z]{1,2}[A-Z]\w*|[Α-ω]|[a-uw-z]|([A-Za-z])(?i:\1))\.$"),
    # A formula: "\frac{1}{2}", "\( x \)", "$x$", "= B"; "(1)." is the number of what follows.
    re.compile(r"(?<!\(\d)(?<!\(\w)(?<!\(\d\d)[)\]}$`|]\.$|[=+*/×·^<>−] ?[A-Z]\.$"),
    # A sentence that ends inside brackets, or in a footnote.
    re.compile(rf"[.!?]{_CLOSING}*[)\]}}][)\]}}\"'”’]*$|[.!?]{_CLOSING}*{_FOOTNOTE}+$"),
)
# One of the first letters after a word in lower case is a label, unless the word introduces a name or a list of choices.
_LABEL = re.compile(r"(?<![\w.])([a-z]+) [A-I]\.$")
_BEFORE_NAME = re.compile(
    r"by|and|or|with|of|from|to|for|like|after|named|are|a|an|the|that|when|while|because|as|but|where|met|poet"
    r"|president|general|king|judge|justice|singer|(?:writ|compos|engine|philosoph|explor|lead|teach|paint|astronom)er|[a-z]+(?:ist|ian|or)"
)

_QUOTED_IN = re.compile(r"(?:と|って)")  # Japanese: what was quoted is said
_OPENING = "\"'“‘«(["
_TAIL = 32  # characters before a boundary that the rules inspect


def boundaries(text: str) -> Iterator[int]:
    """Positions, strictly increasing, at which a sentence of `text` other than the first begins.

    The rules find most of them. syntok, which takes most of the time, is asked where they leave the decision to it or
    where a sentence may begin without a gap before it.
    """
    proposed = _proposals(text) if _TIGHT.search(text) else None
    start = 0
    for position in sorted((proposed or set()).union(match.end() for match in _GAP.finditer(text))):
        before = text[start:position].rstrip()
        gap = text[start + len(before) : position]
        after = text[position : position + _TAIL]
        if not before or not after:
            continue
        is_boundary = _is_boundary(before, gap, after)
        if is_boundary is None:
            proposed = _proposals(text) if proposed is None else proposed
            is_boundary = position in proposed
        if is_boundary:
            yield position
            start = position


def _proposals(text: str) -> set[int]:
    """Where sentences begin according to syntok."""
    return {tokens[0].offset for paragraph in segmenter.analyze(text) for tokens in paragraph}


def _is_boundary(before: str, gap: str, after: str) -> bool | None:
    """Whether the sentence `before` is complete, None if syntok decides; `gap` is the white space before `after`."""
    tail = before[-_TAIL:]
    if len(before) < _TAIL and _UNBEGUN.fullmatch(before):
        return False
    terminated = TERMINATED.search(tail) is not None
    if "\n" in gap or "\r" in gap:
        return terminated or not after[0].islower()
    if not terminated or after[0] in _CONTINUES or _ELLIPSIS.search(tail) or _ANNOUNCES.search(tail):
        return False
    if _FULL_STOP.search(tail):
        return not (tail[-1] not in _FULL_STOPS and _QUOTED_IN.match(after))
    if _ANNOUNCES_NUMBER.search(tail) and _NUMERAL.match(after):
        return False
    if _MEASURE.search(tail) and not after[0].isupper():
        return False
    bare = tail.rstrip(")]}")
    if _ABBREVIATION.search(bare):
        return bool(_STARTER.match(after))
    if _LETTER.search(tail):
        return True
    first = after.lstrip(_OPENING)[:1]
    if _is_caseless(first) and _is_caseless(tail.rstrip(".!?'\"”’»)]}")[-1:]):
        return True
    if first.isupper() and _ends_before_capital(tail, after):
        return True
    return True if _WORD.search(tail) and not _SHORTENED.search(tail) else None


def _ends_before_capital(tail: str, after: str) -> bool:
    label = _LABEL.search(tail)
    if label and not re.match(r"[A-Z]\.", after):
        return not _BEFORE_NAME.fullmatch(label[1]) or bool(_STARTER.match(after))
    return any(rule.search(tail) for rule in _BEFORE_CAPITAL)


def _is_caseless(character: str) -> bool:
    """Whether this is a letter of a script without capitals."""
    return character.isalpha() and character.lower() == character.upper()
