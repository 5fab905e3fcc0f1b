"""What a problem says, as units that sentences are compared with: the reference Teacher's measure of truth.

A sentence is compared with the one unit that speaks most nearly of the same thing. It is supported as far as
that unit holds what it says, and contradicted where the unit has another value of the same class (another
number, colour, direction, name ...). No sentence is understood: words are counted, nothing more.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ares.teachers.offline.lexicon import CLASSES, NUMBERS, STOP_WORDS, stem, tokenize
from ares.teachers.offline.readings import (
    CHOICE,
    LETTER,
    NAME,
    NUMBER,
    SPECIFIC,
    THING,
    WORD,
    Key,
    Material,
    Reading,
    Vocabulary,
    clashes_of,
    keys_of,
    letter_of,
    plain,
    sentences_of,
    weight,
)

# Steps and conclusions are what a solution says, rules the lecture, and what hint and question say is given.
Role = Literal["step", "conclusion", "rule", "given"]

TRUE = 0.5  # from here on a sentence counts as true: 0.5 for what merely restates, more for what supports
FALSE, FOREIGN, UNRELATED, UNFINISHED = 0.0, 0.1, 0.1, 0.2
_CLAUSE = re.compile(r",\s|;|\s(?:and|but|while)\s")
_FINISHED = re.compile(r"[.!?:]['\"”’)\]]*$")
_NAMING = frozenset((NAME, THING, CHOICE))
# How much it matters that a sentence leaves out what the unit names. All weights were found by trial.
_LOSS = {NAME: 2.0, THING: 1.5, CHOICE: 1.5}


@dataclass(frozen=True)
class Unit:
    """A sentence of the problem, its part in it, and how it reads."""

    text: str
    role: Role
    reading: Reading


@dataclass(frozen=True)
class Assessment:
    """A score in steps of 0.1, the unit that it rests on, and the pairs (said, true) of values that clash."""

    score: float
    unit: Unit | None = None
    clashes: tuple[tuple[Key, Key], ...] = ()


@dataclass(frozen=True)
class _Match:
    """A sentence beside a unit: how near they are in topic, and the share of it that the unit holds."""

    unit: Unit
    nearness: float
    support: float
    clashes: tuple[tuple[Key, Key], ...]


class Knowledge:
    """The units of a problem; `assess` scores a sentence by them, regardless of the sentences around it."""

    def __init__(self, material: Material) -> None:
        self.vocabulary = Vocabulary.of(material)
        read = self.vocabulary.read
        self._answer = material.answer
        self._choices = [read(f"It is {choice}.").keys for choice in material.choices]
        self.solution = [self._solution_unit(text) for text in sentences_of(material.solution)]
        units = list(self.solution)
        self.answer = ""  # a sentence of our own that states it
        if material.answer is not None:
            letter = letter_of(material.answer)[1].upper()
            self.answer = f"The answer is {material.choices[material.answer].rstrip('.')} ({letter})."
            units.append(Unit(self.answer, "conclusion", read(self.answer)))
        units += [Unit(text, "rule", read(text)) for text in sentences_of(material.lecture)]
        for text in (*sentences_of(material.hint), *sentences_of(material.question)):
            units.append(Unit(text, "given", read(text)))
        self.units = [unit for unit in units if unit.reading.keys]
        self._names = [frozenset(key for key in keys if key[0] != WORD) for keys in self._choices]
        right = self._choices[material.answer] if material.answer is not None else frozenset()
        self._wrong = frozenset[Key]().union(*self._names) - right if right else frozenset()
        self._given = keys_of(unit.reading for unit in self.units if unit.role == "given")
        self._known = keys_of(unit.reading for unit in self.units).union(*self._choices)

    def _solution_unit(self, text: str) -> Unit:
        reading = self.vocabulary.read(text)
        answer = self._choices[self._answer] if self._answer is not None else frozenset()
        return Unit(text, "conclusion" if answer and answer <= reading.keys else "step", reading)

    @cached_property
    def conclusion(self) -> str:
        """The last sentence of the solution that states the answer, else `answer`; "" if unknown."""
        return next((unit.text for unit in reversed(self.solution) if unit.role == "conclusion"), self.answer)

    @cached_property
    def _verbatim(self) -> dict[str, Unit]:
        return {plain(unit.text): unit for unit in reversed(self.units)}

    @cached_property
    def _letters(self) -> frozenset[Key]:
        return frozenset(key for unit in self.units for key in unit.reading.keys if key[0] == LETTER)

    @cached_property
    def _described(self) -> dict[Key, int]:
        """Words by which the lecture describes one choice and no other, with the index of that choice.

        Where "a gas fills its container", what fills its container is called a gas.
        """
        found: dict[Key, set[int | None]] = {}
        for unit in self.units:
            index = None
            for clause in _CLAUSE.split(unit.text) if unit.role == "rule" else ():
                keys = self.vocabulary.read(clause).keys
                named = [choice for choice, name in enumerate(self._names) if name and name <= keys]
                # A clause that names no choice goes on about the one before.
                index = index if not named else named[0] if len(named) == 1 else None
                for key in keys:
                    found.setdefault(key, set()).add(index)
        said = keys_of(unit.reading for unit in self.units if unit.role == "given").union(*self._choices)
        own = {
            key: index
            for key, indices in found.items()
            for index in indices
            if key[0] == WORD and key not in said and len(indices) == 1 and index is not None
        }
        return own if len(set(own.values())) > 1 else {}

    def assess(self, sentence: str) -> Assessment:
        """Scores a sentence: false 0, unrelated 0.1, doubtful to 0.4, neutral 0.5, supporting to 1."""
        if unit := self._verbatim.get(plain(sentence)):
            return Assessment(_truth(unit, 1.0), unit)
        reading = self.vocabulary.read(sentence)
        if wrong := self._wrong_letter(reading):
            return wrong
        if self._describes_another(reading):
            return Assessment(FALSE)
        matches = [self._match(reading, unit) for unit in self.units if reading.keys & unit.reading.keys]
        best = max(matches, key=lambda match: (round(match.nearness, 6), match.support), default=None)
        if best is None or best.nearness <= 0.5:
            return Assessment(UNRELATED)
        if best.clashes and best.unit.role != "given":
            return Assessment(FALSE, best.unit, best.clashes)
        if self._replaces(sentence, best.unit):
            return Assessment(FOREIGN, best.unit)
        if not _FINISHED.search(sentence):
            return Assessment(UNFINISHED, best.unit)
        if best.support < TRUE:
            return Assessment(round(0.8 * best.support, 1), best.unit)
        return Assessment(_truth(best.unit, best.support), best.unit)

    def _wrong_letter(self, reading: Reading) -> Assessment | None:
        wrong = [key for key in reading.places if key[0] == LETTER and key not in self._letters]
        if self._answer is None or not wrong:
            return None
        stated = next(unit for unit in self.units if letter_of(self._answer) in unit.reading.keys)
        return Assessment(FALSE, stated, tuple((key, letter_of(self._answer)) for key in wrong[:1]))

    def _describes_another(self, reading: Reading) -> bool:
        """Whether the lecture says of another choice what is said here of one, or of the thing asked."""
        described = {self._described[key] for key in reading.keys & self._described.keys()}
        named = {index for index, name in enumerate(self._names) if name and name <= reading.keys}
        if reading.negated or not described or described & named:
            return False
        about = any(key[0] in (NAME, THING) for key in reading.keys)
        return bool(named) or (about and self._answer not in described)

    def _match(self, reading: Reading, unit: Unit) -> _Match:
        said, held = reading.keys, unit.reading.keys
        clashes = clashes_of(reading, unit.reading)
        clashing = frozenset(key for pair in clashes for key in pair)
        extra = [key for key in said - held if key not in clashing and key[0] != "have"]
        lost = [key for key in held - said if key[0] != WORD and key not in clashing]
        common = sum(map(weight, said & held))
        elsewhere = sum(self._doubt(key) for key in extra if key in self._known)
        unknown = sum(key not in self._known for key in extra)
        lost_weight = sum(weight(key) * _LOSS.get(key[0], 1.0 if key[0] in SPECIFIC else 0.6) for key in lost)

        doubt = elsewhere + (0.5 if unknown or elsewhere else 0.15) * lost_weight + 6 * len(clashes)
        # Unknown words may be other words for what is missing, or say something else in its place.
        doubt += 1.5 * min(unknown, sum(key[0] == WORD for key in held - said))
        doubt += unknown > 0 and any(key[0] in _NAMING for key in lost)
        support = common / (common + doubt)

        nearness = common - 0.5 * elsewhere - 0.5 * lost_weight - 0.1 * len(held - said)
        nearness += 0.5 * sum(key[0] == NAME for key in said & held)
        if (
            len(clashes) == 1
        ):  # one clash still points at the same statement, unless it is about somebody else
            nearness += -0.7 if clashes[0][0][0] == NAME else 0.25
        if unit.role in ("rule", "given"):
            nearness -= any(key[0] != WORD for key in extra)
        elif support >= 0.75 and not clashes and not any(key[0] in SPECIFIC for key in lost):
            nearness += 2.0
        return _Match(unit, nearness, support, clashes)

    def _doubt(self, key: Key) -> float:
        # Said elsewhere in the problem: less doubtful if given with the question.
        share = 2.0 if key in self._wrong else 1.0 if key[0] in _NAMING or key[0] == NUMBER else 0.5
        return share * weight(key) * (0.5 if key in self._given and key[0] in (WORD, THING) else 1.0)

    def _replaces(self, sentence: str, unit: Unit) -> bool:
        """Whether the sentence is the unit with up to three words in one place replaced by foreign ones."""
        said = [token.text for token in tokenize(sentence)]
        held = [token.text for token in tokenize(unit.text)]
        shorter = min(len(said), len(held))
        start = next((i for i in range(shorter) if said[i] != held[i]), shorter)
        end = next((i for i in range(shorter - start) if said[-1 - i] != held[-1 - i]), shorter - start)
        new, old = said[start : len(said) - end], held[start : len(held) - end]
        if not (start and 1 <= len(new) <= 3 and 1 <= len(old) <= 3 and start + end >= 4):
            return False
        words = {word for word in old if word not in STOP_WORDS}
        informative = any(
            self._said.get(stem(word), 1) == 1 or self.vocabulary.names_thing(word) for word in words
        )
        return informative and words.isdisjoint(new) and any(map(self._is_foreign, new))

    @cached_property
    def _said(self) -> Counter[str]:
        """How many units have a word."""
        return Counter(value for unit in self.units for _, value in unit.reading.places)

    def _is_foreign(self, word: str) -> bool:
        if word in STOP_WORDS or word in CLASSES or word in NUMBERS:
            return False
        return not any((kind, stem(word)) in self._known for kind in (WORD, THING, CHOICE))


def _truth(unit: Unit, support: float) -> float:
    if unit.role in ("rule", "given"):
        return TRUE
    return round(TRUE + 0.4 * support + 0.1 * (unit.role == "conclusion"), 1)
