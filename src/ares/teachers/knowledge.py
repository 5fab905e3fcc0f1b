"""What a problem says, as units that sentences are compared with: the reference Teacher's measure of truth.

A sentence is compared with the one unit that speaks most nearly of the same thing. It is supported as far as that unit
holds what it says, and contradicted where the unit has another value of the same class (another number, colour,
direction, name ...). No sentence is understood: words are counted, nothing more.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ares.teachers.lexicon import CLASSES, NUMBERS, STOP_WORDS, stem, tokenize
from ares.teachers.readings import (
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
_CLAUSE = re.compile(r",\s+(?:and|but|while)?|;")
_FINISHED = re.compile(r"[.!?:]['\"”’)\]]*$")
_NAMING = frozenset((NAME, THING, CHOICE))


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
    """A sentence beside a unit: how nearly they speak of the same thing, and the share of it that the unit holds."""

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
        self._given = keys_of(unit.reading for unit in self.units if unit.role == "given")
        self._known = keys_of(unit.reading for unit in self.units).union(*self._choices)

    def _solution_unit(self, text: str) -> Unit:
        reading = self.vocabulary.read(text)
        answer = self._choices[self._answer] if self._answer is not None else frozenset()
        return Unit(text, "conclusion" if answer and answer <= reading.keys else "step", reading)

    @cached_property
    def conclusion(self) -> str:
        """The last sentence of the solution that states the answer, else `answer`; "" if the answer is unknown."""
        return next((unit.text for unit in reversed(self.solution) if unit.role == "conclusion"), self.answer)

    @cached_property
    def _verbatim(self) -> dict[str, Unit]:
        return {plain(unit.text): unit for unit in reversed(self.units)}

    @cached_property
    def _letters(self) -> frozenset[Key]:
        return frozenset(key for unit in self.units for key in unit.reading.keys if key[0] == LETTER)

    @cached_property
    def _descriptions(self) -> dict[Key, frozenset[Key]]:
        """Words by which the lecture describes one wrong choice and nothing else does, with that choice's own keys.

        Where "a gas fills its container" and a thing is said to fill its container, the answer being "liquid", it is
        called a gas.
        """
        if self._answer is None:
            return {}
        own = [frozenset(key for key in keys if key[0] != WORD) for keys in self._choices]
        found: dict[Key, set[int]] = {}
        for unit in self.units:
            for clause in _CLAUSE.split(unit.text) if unit.role == "rule" else ():
                keys = self.vocabulary.read(clause).keys
                named = [index for index, choice in enumerate(own) if choice and choice <= keys]
                for key in keys if len(named) == 1 else ():
                    found.setdefault(key, set()).update(named)
        said = keys_of(unit.reading for unit in self.units if unit.role != "rule").union(*self._choices)
        return {
            key: own[min(indices)]
            for key, indices in found.items()
            if key[0] == WORD and len(indices) == 1 and self._answer not in indices and key not in said
        }

    def assess(self, sentence: str) -> Assessment:
        """Scores a sentence: false 0, unrelated 0.1, doubtful to 0.4, true but neutral 0.5, supporting to 1."""
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
        about = any(key[0] in (NAME, THING) for key in reading.keys)
        described = [self._descriptions[key] for key in reading.keys & self._descriptions.keys()]
        return about and any(choice.isdisjoint(reading.keys) for choice in described)

    def _match(self, reading: Reading, unit: Unit) -> _Match:
        said, held = reading.keys, unit.reading.keys
        missing = held - said
        clashes = clashes_of(reading, unit.reading)
        clashing = {said for said, _ in clashes}
        clashed = {held for _, held in clashes}
        extra = [key for key in said - held if key not in clashing and key[0] != "have"]
        elsewhere = sum(self._doubt(key) for key in extra if key in self._known)
        unknown = sum(key not in self._known for key in extra)
        lost = {key for key in missing if key[0] != WORD and key not in clashed}
        named = any(key[0] in _NAMING for key in lost)
        lost_weight = sum(
            weight(key) * (1.5 if key[0] in _NAMING else 1 if key[0] in SPECIFIC else 0.6) for key in lost
        )
        common = sum(map(weight, said & held))
        # One clash still points at the same statement, unless it is about somebody else.
        bonus = 0.0 if len(clashes) != 1 else -0.7 if clashes[0][0][0] == NAME else 0.5
        context = unit.role in ("rule", "given")
        named_both = sum(key[0] == NAME for key in said & held)
        nearness = (
            common
            + 0.5 * named_both
            + bonus
            - 0.5 * elsewhere
            - 0.5 * lost_weight
            - 0.1 * len(missing)
            - context
        )
        # Unknown words may only be other words for what is missing, or say something else in its place.
        doubt = (
            elsewhere
            + 1.5 * min(unknown, sum(key[0] == WORD for key in missing))
            + 1.5 * (unknown > 0 and named)
        )
        doubt += (0.5 if unknown or elsewhere else 0.15) * lost_weight + 6 * len(clashes)
        return _Match(unit, nearness, common / (common + doubt) if common else 0.0, clashes)

    def _doubt(self, key: Key) -> float:
        # Said elsewhere in the problem: less doubtful if given with the question.
        share = 1.0 if key[0] in _NAMING or key[0] == NUMBER else 0.5
        return share * weight(key) * (0.5 if key in self._given and key[0] in (WORD, THING) else 1.0)

    def _replaces(self, sentence: str, unit: Unit) -> bool:
        """Whether the sentence is the unit with up to three words in one place replaced by words foreign to the problem."""
        said = [token.text for token in tokenize(sentence)]
        held = [token.text for token in tokenize(unit.text)]
        shorter = min(len(said), len(held))
        start = next((i for i in range(shorter) if said[i] != held[i]), shorter)
        end = next((i for i in range(shorter - start) if said[-1 - i] != held[-1 - i]), shorter - start)
        new, old = said[start : len(said) - end], held[start : len(held) - end]
        if not (1 <= len(new) <= 3 and 1 <= len(old) <= 3 and start + end >= 4):
            return False
        words = {word for word in old if word not in STOP_WORDS}
        return bool(words) and words.isdisjoint(new) and any(map(self._is_foreign, new))

    def _is_foreign(self, word: str) -> bool:
        if word in STOP_WORDS or word in CLASSES or word in NUMBERS:
            return False
        return not any((kind, stem(word)) in self._known for kind in (WORD, THING, CHOICE))


def _truth(unit: Unit, support: float) -> float:
    if unit.role in ("rule", "given"):
        return TRUE
    return round(TRUE + 0.4 * support + 0.1 * (unit.role == "conclusion"), 1)
