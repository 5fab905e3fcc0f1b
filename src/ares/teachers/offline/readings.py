"""How the reference Teacher reads a sentence: as the words, and the values of classes, that it says.

Which words are more than words depends on the problem: names, the words that tell its choices apart, and the
things that question, hint or choices speak of but the general lecture does not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property

from ares.teachers.offline.lexicon import CLASSES, NEGATIONS, NUMBERS, STOP_WORDS, Token, stem, tokenize
from ares.text.sentences import split_sentences
from ares.types import Problem

# A key is a class and a value; values of one class exclude one another, those of WORD do not.
Key = tuple[str, str]
WORD, NUMBER, SIGN, NAME = "word", "number", "sign", "name"
LETTER, CHOICE, THING = "letter", "choice", "thing"
# What a statement is about or finds out, unlike the classes of ordinary English.
SPECIFIC = frozenset((NUMBER, SIGN, NAME, LETTER, CHOICE, THING))
_LABELS = frozenset(("choice", "option", "answer"))
_RIGHT_IS_CORRECT = frozenset(("", "since", "because", "for", "answer", "choice", "option", "one"))
_LONGEST_CHOICE = 3


@dataclass(frozen=True)
class Material:
    """All that the reference Teacher sees of a problem; `answer` indexes `choices`, None if withheld."""

    question: str
    hint: str
    choices: tuple[str, ...]
    answer: int | None
    lecture: str
    solution: str

    @classmethod
    def of(cls, problem: Problem) -> "Material":
        """The material of a problem."""
        return cls(**{field.name: getattr(problem, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class Reading:
    """What a sentence says: its keys in order, with their places (start, end); whether it denies."""

    places: Mapping[Key, tuple[int, int]]
    negated: bool
    compares: bool

    @cached_property
    def keys(self) -> frozenset[Key]:
        """The keys without their order."""
        return frozenset(self.places)

    @cached_property
    def order(self) -> tuple[Key, ...]:
        """The keys in the order of the sentence."""
        return tuple(self.places)


def letter_of(index: int) -> Key:
    """The key of the letter of a choice: 0 is (A)."""
    return LETTER, chr(ord("a") + index)


@dataclass(frozen=True)
class Vocabulary:
    """The words of a problem that are more than words; `common` are those it writes in lower case."""

    names: frozenset[str]
    choices: frozenset[str]
    things: frozenset[str]
    letters: frozenset[str]
    common: frozenset[str]

    @classmethod
    def of(cls, material: Material) -> "Vocabulary":
        """The vocabulary of a problem; choices count as words only where they are short."""
        texts = (material.question, material.hint, *material.choices, material.lecture, material.solution)
        tokens = [token for text in texts for token in tokenize(text)]
        single = [tokenize(choice) for choice in material.choices]
        common = {token.text for token in tokens if not token.capital}
        capitals = [token for token in tokens if token.capital and not token.initial]
        capitals += [choice[0] for choice in single if len(choice) == 1 and choice[0].capital]
        choices: list[set[str]] = [_stems(choice) for choice in material.choices] or [set()]
        general = _stems(material.lecture)
        told_apart = set().union(*choices) - choices[0].intersection(*choices)
        return cls(
            names=frozenset(t.text for t in capitals if t.text not in common and len(t.text) > 1),
            choices=frozenset(told_apart if max(map(len, choices)) <= _LONGEST_CHOICE else ()),
            things=frozenset((_stems(material.question) | _stems(material.hint)).union(*choices) - general),
            letters=frozenset(letter_of(index)[1] for index in range(len(material.choices))),
            common=frozenset(common),
        )

    def read(self, text: str) -> Reading:
        """Reads a sentence; a value said twice is two: "figs for figs" is not "figs for nuts"."""
        tokens = tokenize(text)
        words = [token.text for token in tokens]
        places: dict[Key, tuple[int, int]] = {}
        for token, before, after in zip(tokens, ["", *words], [*words[1:], ""], strict=False):
            key = self._key(token, before, after)
            while key and key[0] != WORD and key in places:
                key = (key[0], key[1] + "'")
            if key:
                places.setdefault(key, (token.start, token.end))
        return Reading(places, not NEGATIONS.isdisjoint(words), "than" in words)

    def names_thing(self, word: str) -> bool:
        """Whether a word names what this problem is about."""
        return word in self.names or stem(word) in self.things or stem(word) in self.choices

    def _key(self, token: Token, before: str, after: str) -> Key | None:
        text = token.text
        letter = text.strip("()")
        if letter in self.letters and (letter != text or (token.capital and before in _LABELS)):
            return LETTER, letter
        if text[0].isdigit():
            return NUMBER, text.rstrip("0").rstrip(".") if "." in text else text
        if text in self.names or (token.capital and not token.initial and text not in self.common):
            return NAME, text
        # "one" at the start, and "one of", count nothing.
        if text in NUMBERS and not (text == "one" and (token.initial or after == "of")):
            return NUMBER, NUMBERS[text]
        if text == "right" and before in ("is", "are", "the") and after in _RIGHT_IS_CORRECT:
            return None
        if text in CLASSES:
            return CLASSES[text]
        if len(text) == 1:
            article = text in "ai" and (text == "i" or token.initial or not token.capital)
            return None if article else (SIGN, text)
        return None if text in STOP_WORDS else self._word(stem(text))

    def _word(self, word: str) -> Key:
        if word in self.choices:
            return CHOICE, word
        return (THING if word in self.things else WORD), word


def weight(key: Key) -> float:
    """How much it tells that two sentences share a key."""
    if key[0] == WORD:
        return 1.0
    if key[0] == "have":  # the commonest verb says little
        return 0.25
    return 2.0 if key[0] in SPECIFIC else 1.5


def clashes_of(said: Reading, held: Reading) -> tuple[tuple[Key, Key], ...]:
    """Pairs of values of one class of which either side has one that the other lacks."""
    missing = [key for key in held.places if key not in said.keys and key[0] != WORD]
    found: list[tuple[Key, Key]] = []
    for key in said.places:
        # Where one side denies, opposites agree: "no more" and "equal".
        if key in held.keys or (said.negated != held.negated and key[0] not in SPECIFIC):
            continue
        partner = next((other for other in missing if other[0] == key[0]), None)
        if partner:
            found.append((key, partner))
            missing.remove(partner)
    if not found and said.compares and held.compares and said.keys == held.keys:
        found = [
            pair
            for pair in zip(said.order, held.order, strict=True)
            if pair[0] != pair[1] and pair[0][0] != WORD
        ]
    return tuple(found)


def keys_of(readings: Iterable[Reading]) -> frozenset[Key]:
    """All keys of several readings."""
    return frozenset(key for reading in readings for key in reading.places)


def plain(text: str) -> str:
    """A sentence in lower case, without punctuation; equal for what only differs in these."""
    return " ".join(token.text for token in tokenize(text))


def sentences_of(text: str) -> list[str]:
    """The sentences of a text."""
    return [text[span.start : span.end] for span in split_sentences(text)]


def _stems(text: str) -> set[str]:
    return {stem(token.text) for token in tokenize(text) if token.text not in STOP_WORDS}
