"""What a problem says, as units that sentences are compared with: the reference Teacher's measure of truth.

A sentence is read as a set of words, some of which exclude others of their class (numbers, colours, directions, names,
the words that tell the choices apart). It is compared with the one unit that speaks most nearly of the same thing: it
is supported where that unit holds what it says, and contradicted where the unit has another value of the same class.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ares.teachers.lexicon import CLASSES, NEGATIONS, NUMBERS, STOP_WORDS, Token, stem, tokenize
from ares.types import Problem

Role = Literal["step", "conclusion", "rule", "given"]
Key = tuple[str, str]

WORD, NUMBER, NAME, LETTER, CHOICE, ENTITY, SIGN = "word number name letter choice entity sign".split()
_LABELS = frozenset(("choice", "option", "answer"))
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")


@dataclass(frozen=True)
class Reading:
    """A sentence as keys (class, value), each with the place where it was written, and whether it denies."""

    places: Mapping[Key, tuple[int, int]]
    negated: bool

    @cached_property
    def keys(self) -> frozenset[Key]:
        return frozenset(self.places)


@dataclass(frozen=True)
class Unit:
    """A sentence of the problem and its part in it."""

    text: str
    role: Role
    reading: Reading


@dataclass(frozen=True)
class Assessment:
    """A score in [0, 1] in steps of 0.1, the unit it rests on, and the pairs of values (said, in the unit) that clash."""

    score: float
    unit: Unit | None = None
    clashes: tuple[tuple[Key, Key], ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """The words of a problem that are more than words."""

    names: frozenset[str] = frozenset()
    choices: frozenset[str] = frozenset()
    entities: frozenset[str] = frozenset()
    letters: frozenset[str] = frozenset()
    common: frozenset[str] = frozenset()

    def read(self, text: str) -> Reading:
        """Reads a sentence."""
        tokens = tokenize(text)
        places: dict[Key, tuple[int, int]] = {}
        negated = False
        for at, token in enumerate(tokens):
            before = tokens[at - 1].text if at else ""
            after = tokens[at + 1].text if at + 1 < len(tokens) else ""
            negated |= token.text in NEGATIONS
            key = self._key(token, before, after)
            while key in places and key[0] != WORD:  # a value said twice is two values
                key = (key[0], key[1] + "'")
            if key:
                places.setdefault(key, (token.start, token.end))
        return Reading(places, negated)

    def _key(self, token: Token, before: str, after: str) -> Key | None:
        text = token.text
        bare = text.strip("()")
        if len(bare) == 1 and bare in self.letters and (bare != text or (token.capital and before in _LABELS)):
            return LETTER, bare
        if text[0].isdigit():
            return NUMBER, text.rstrip("0").rstrip(".") if "." in text else text
        if text in self.names or (token.capital and not token.initial and text not in self.common):
            return NAME, text
        if text in NUMBERS and not (text == "one" and (token.initial or after == "of")):
            return NUMBER, NUMBERS[text]
        if text == "right" and (before in ("is", "are", "the") and after in ("", "since", "because", "answer", "choice")):
            return None
        if text in CLASSES:
            return CLASSES[text]
        if len(text) == 1 and text not in "ai":
            return SIGN, text
        if text in STOP_WORDS:
            return None
        word = stem(text)
        if word in self.choices:
            return CHOICE, word
        return (ENTITY if word in self.entities else WORD), word


def sentences_of(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE_END.split(text) if part and part.strip()]


def _stems(text: str) -> set[str]:
    return {stem(token.text) for token in tokenize(text) if token.text not in STOP_WORDS}


def vocabulary_of(problem: Problem) -> Vocabulary:
    texts = (problem.question, problem.hint, *problem.choices, problem.lecture, problem.solution)
    tokens = [token for text in texts for token in tokenize(text)]
    lower = {token.text for token in tokens if not token.capital}
    names = {t.text for t in tokens if t.capital and not t.initial and t.text not in lower and len(t.text) > 1}
    choices = [_stems(choice) for choice in problem.choices]
    names |= {t.text for c in problem.choices for t in tokenize(c) if t.capital and len(c.split()) == 1 and t.text not in lower}
    shared = set.intersection(*choices) if choices else set()
    distinct = set.union(*choices) - shared if choices and max(map(len, choices)) <= 3 else set()
    general = _stems(problem.lecture)
    entities = (_stems(problem.question) | _stems(problem.hint) | set().union(*choices)) - general
    letters = {chr(ord("a") + index) for index in range(len(problem.choices))}
    return Vocabulary(*map(frozenset, (names, distinct, entities, letters, lower)))



def _weight(key: Key) -> float:
    if key[0] == WORD:
        return 1.0
    if key[0] == "have":
        return 0.25
    return 2.0


class Knowledge:
    def __init__(self, problem: Problem) -> None:
        self.vocabulary = vocabulary_of(problem)
        read = self.vocabulary.read
        units: list[Unit] = []
        self.answer: frozenset = frozenset()
        wrong = []
        if problem.answer is not None:
            letter = chr(ord("A") + problem.answer)
            text = f"The answer is {problem.choices[problem.answer]} ({letter})."
            self.answer = read(text).keys
            units.append(Unit(text, "conclusion", read(text)))
            wrong = [read(f"{c}").keys for i, c in enumerate(problem.choices) if i != problem.answer]
        for text in sentences_of(problem.solution):
            r = read(text)
            role = "conclusion" if self.answer and self.answer - {k for k in self.answer if k[0]==LETTER} <= r.keys else "step"
            units.append(Unit(text, role, r))
        units += [Unit(t, "rule", read(t)) for t in sentences_of(problem.lecture)]
        units += [Unit(t, "given", read(t)) for t in (*sentences_of(problem.hint), *sentences_of(problem.question))]
        self.units = [unit for unit in units if unit.reading.keys]
        def union(*roles): return frozenset().union(*(u.reading.keys for u in self.units if u.role in roles))
        self.lecture = union("rule")
        self.stated = union("step", "conclusion", "given") | frozenset().union(*wrong)
        self.given = union("given")
        described: dict = {}
        if problem.answer is not None:
            names = [read(c).keys & frozenset((k for k in read(c).keys if k[0]!=WORD)) for c in problem.choices]
            for text in sentences_of(problem.lecture):
                for clause in re.split(r",\s+(?:and|but|while)?|;", text):
                    r=read(clause).keys
                    of=[i for i,n in enumerate(names) if n and n<=r]
                    if len(of)==1:
                        for k in r:
                            if k[0]==WORD: described.setdefault(k,set()).add(of[0])
        self.others = {k: frozenset().union(*(names[i] for i in v)) for k,v in described.items() if problem.answer not in v and len(v)==1 and k not in self.stated}
        self.known = self.lecture | self.stated

    @classmethod
    def of(cls, problem: Problem) -> "Knowledge":
        return cls(problem)

    def assess(self, sentence: str) -> Assessment:
        reading = self.vocabulary.read(sentence)
        keys = reading.keys
        best = None
        for unit in self.units:
            found = self._compare(reading, unit)
            if best is None or found[0] > best[0] + 1e-9 or (abs(found[0]-best[0])<1e-9 and found[1]>best[1]):
                best = found
        if best is None or not keys:
            return Assessment(0.1)
        align, support, unit, clashes, weak = best
        if align <= 0.5:
            return Assessment(0.1, unit)
        if clashes and unit.role != "given":
            return Assessment(0.0, unit, clashes)
        if weak and support < .5:
            return Assessment(0.1, unit)
        if support >= 0.5:
            if unit.role in ("rule", "given"):
                return Assessment(0.5, unit)
            return Assessment(round(0.5 + 0.4 * support, 1), unit)
        return Assessment(round(0.6 * support, 1), unit)

    def _compare(self, reading, unit):
        s, g = reading.keys, unit.reading.keys
        C = sum(map(_weight, s & g))
        lost = g - s
        clashes = []
        U = 0.0; unknown = 0; rivals = 0
        for key in s - g:
            mates = [k for k in lost if k[0] == key[0] and k[0] != WORD]
            if mates and not (reading.negated != unit.reading.negated and key[0] not in (NAME, NUMBER, ENTITY, CHOICE, LETTER, SIGN)):
                clashes.append((key, mates[0])); continue
            if key[0]=="have": continue
            if key in self.others and unit.role in ("step","conclusion") and not self.others[key] & s:
                rivals += 1
            elif key in self.known: U += .5*_weight(key) * (.5 if key in self.given else 1)
            else: unknown += 1
        mated = {c[1] for c in clashes}
        lostslots = sum(_weight(k)*(1.5 if k[0] in (NAME,ENTITY,CHOICE) else 1) for k in lost if k[0] != WORD and k not in mated)
        lostentity = any(k[0] in (NAME,ENTITY,CHOICE) and k not in mated for k in lost)
        lostwords = sum(1 for k in lost if k[0]==WORD)
        L = lostslots if (unknown or U) else 0.3*lostslots
        weak = (rivals>0) + bool(unknown and lostentity)
        X = len(clashes)
        A = C + (1 if X==1 else .5 if X else 0) - 0.5*U - 0.5*lostslots - 0.1*len(lost)
        if unit.role in ("rule", "given"): A -= .5
        S = C / (C + U + 6*X + 4*(rivals>0) + 1.5*min(unknown,lostwords) + 0.5*L + (unknown>0 and lostentity) + 1e-9)
        return A, S, unit, tuple(clashes), weak
