"""Words as the reference Teacher reads them: stems, numbers, and classes whose members exclude one another.

General English only: nothing here is taken from a data set.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_STOP_WORDS = """
    a an the this that these those it its they them their there here he she his her him hers i me my we us our
    you your who whom whose which what when where why how
    is are was were be been being am do does did done doing having will would shall should can could may
    might must
    of in on at by for with from to into onto upon over about as through during between among against within
    than and or but so if then thus hence therefore because since although though while also too very just only
    even still yet however moreover next finally now both either each every all any some such other another own
    get gets got go goes make makes made let see seen know known use used using given take takes taken
    say says said call called name named mean means look looks find found choice option correct
    """
STOP_WORDS = frozenset(_STOP_WORDS.split())

_NEGATIONS = "not no never none nothing neither nor cannot without"
NEGATIONS = frozenset(_NEGATIONS.split())

_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen twenty"
)
NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())}
NUMBERS |= {plural: NUMBERS[word] for plural, word in (("twos", "two"), ("fives", "five"), ("tens", "ten"))}

# One class a line, its values between semicolons, words for the same value between strokes.
_CLASSES = """
red; orange; yellow; green; blue; purple|violet; pink; black; white; grey|gray; brown
north|northern|northernmost; south|southern|southernmost; east|eastern|easternmost; \
west|western|westernmost; northeast|northeastern; northwest|northwestern; \
southeast|southeastern; southwest|southwestern
left; right
top|topmost|up|upper|uppermost; bottom|bottommost|down|lower|lowermost; \
middle; first; second; third; fourth; fifth; last
more|greater|greatest|most|larger|largest|bigger|biggest|higher|highest|increase|increases|increased; \
less|least|fewer|fewest|smaller|smallest|lowest|decrease|decreases|decreased; \
alike|same|equal|equally|identical; different|differ|differs|unequal
attract|attracts|attracted|attraction; repel|repels|repelled|repulsion
push|pushes|pushed; pull|pulls|pulled
hot|hotter|hottest|warm|warmer|warmest; cold|colder|coldest|cool|cooler|coolest
long|longer|longest; short|shorter|shortest
heavy|heavier|heaviest; light|lighter|lightest
strong|stronger|strongest; weak|weaker|weakest
fast|faster|fastest; slow|slower|slowest
close|closer|closest|near|nearer|nearest; far|farther|farthest|further|furthest
tall|taller|tallest; low
early|earlier|earliest|before; late|later|latest|after
above; below|beneath|under
inside|inward; outside|outward
old|older|oldest; young|younger|youngest
solid|solids; liquid|liquids; gas|gases
living|alive; nonliving|dead
true; false
have|has|had|owns|owned; want|wants|wanted|wish|wishes|wished
past; present; future
always; sometimes
inherited|inherit|inherits; acquired|acquire|acquires
physical; chemical
renewable; nonrenewable
dominant; recessive
monday; tuesday; wednesday; thursday; friday; saturday; sunday
january; february; march; april; june; july; august; september; october; november; december
"""


def _read_classes() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for line in _CLASSES.strip().splitlines():
        values = [[word.strip() for word in value.split("|")] for value in line.split(";")]
        found.update({word: (values[0][0], words[0]) for words in values for word in words})
    return found


CLASSES = _read_classes()
_TOKEN = re.compile(r"\([A-Z]\)|\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SUFFIX = re.compile(r"['’](s|re|ve|ll|d|m)?$")
_SHORT_NOT = re.compile(r"n['’]t$|^cannot$", re.IGNORECASE)
_ENDINGS = (("ing", 6), ("ed", 5), ("ly", 5), ("es", 5), ("s", 4), ("er", 6), ("ion", 7))


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """A word without the endings of number, tense and degree; good only for comparing with other stems."""
    for ending, minimum in _ENDINGS:
        if word.endswith(ending) and len(word) >= minimum and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiousl":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word[-1] in "eyi" else word


@dataclass(frozen=True)
class Token:
    """A word in lower case, a number without commas or a letter in brackets; how it was written."""

    text: str
    start: int
    end: int
    capital: bool
    initial: bool


def tokenize(text: str) -> list[Token]:
    """The words, numbers and letters in brackets of a text; `initial` marks those that begin a sentence.

    A possessive or shortened ending is left out, except that of "isn't", which is read as "not".
    """
    tokens: list[Token] = []
    end = 0
    for match in _TOKEN.finditer(text):
        word = _SUFFIX.sub("", match[0])
        start, gap = match.start(), text[end : match.start()]
        initial = not tokens or any(mark in gap for mark in ".!?:\n")
        end = match.end()
        lower = "not" if _SHORT_NOT.search(word) else word.lower().replace(",", "")
        tokens.append(Token(lower, start, start + len(word), word[:1].isupper(), initial))
    return tokens
