"""The truth about the sample: judges any sentence about a problem, and makes up true and false ones.

A sentence is read back into a statement by the templates of all kinds. A statement that the facts of the problem hold
is true; one that contradicts them, or a rule that never holds, is false; one about something the problem does not
mention, and any text of another wording, is irrelevant.
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ares.data.sample.items import Fact, Item
from ares.data.sample.kinds import KINDS
from ares.data.sample.relations import Relation, Templates
from ares.data.sample.remarks import REMARKS
from ares.data.sample.words import DOMAINS
from ares.storage.files import read_json
from ares.types import AresError

Verdict = Literal["true", "false", "irrelevant"]

_KIND_RELATIONS = {
    kind.name: {relation.name: relation for relation in (*kind.relations, *REMARKS)} for kind in KINDS
}
_RELATIONS = {name: relation for own in _KIND_RELATIONS.values() for name, relation in own.items()}


@dataclass(frozen=True)
class _Truth:
    """What the oracle knows of a problem; see `Item`."""

    pid: str
    kind: str
    steps: tuple[Fact, ...]
    unsaid: tuple[Fact, ...]
    wrong: tuple[Fact, ...]

    def holds(self, fact: Fact) -> bool:
        return fact in (*self.steps, *self.unsaid)

    def mentions(self, slot: str, word: str) -> bool:
        return any(fact.slots.get(slot) == word for fact in (*self.steps, *self.unsaid, *self.wrong))


class Oracle:
    """Judges sentences about the problems it was given."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._truths = {truth.pid: truth for truth in map(_truth_of, items)}

    @classmethod
    def load(cls, root: Path | str) -> "Oracle":
        """The oracle of a sample written to `root`; raises AresError where it has no facts.json."""
        path = Path(root) / "facts.json"
        if not path.is_file():
            raise AresError(f"{path} is missing, so {root} is not the generated sample; use data=sample.")
        oracle = cls(())
        oracle._truths = {pid: _read_truth(pid, record) for pid, record in read_json(path).items()}
        return oracle

    def judge(self, pid: str, sentence: str) -> Verdict | None:
        """True, false or irrelevant for the problem; None for what is no sentence (cut off, under three words).

        A sentence is judged on all it says: the right answer with a wrong letter is false. Raises KeyError for an
        unknown pid.
        """
        truth = self._truths[pid]
        sentence = _tidy(sentence)
        if not re.fullmatch(r"[A-Z].*[.!?]", sentence) or len(sentence.split()) < 3:
            return None
        fact = _parse(sentence)
        return "irrelevant" if fact is None else _judge(truth, fact)

    def statements(self, pid: str, *, templates: Templates = "gold") -> list[tuple[str, Verdict]]:
        """A true and a false sentence for each fact of the problem's solution; see `statements`."""
        return list(_statements(self._truths[pid], templates))


def statements(item: Item, *, templates: Templates = "gold") -> list[tuple[str, Verdict]]:
    """A ("...", "true") and a ("...", "false") sentence for each fact of the item's solution, in its order.

    `templates="paraphrase"` words them as no gold text does. The same item gives the same sentences.
    """
    return list(_statements(_truth_of(item), templates))


def _truth_of(item: Item) -> _Truth:
    return _Truth(item.problem.pid, item.kind, item.steps, item.unsaid, item.wrong)


def _read_truth(pid: str, record: Mapping[str, Any]) -> _Truth:
    facts = {name: tuple(Fact(**fact) for fact in record[name]) for name in ("steps", "unsaid", "wrong")}
    return _Truth(pid, record["kind"], **facts)


def _tidy(sentence: str) -> str:
    """Undoes the spaces that some tokenizers put around punctuation."""
    sentence = re.sub(r"\s+", " ", sentence).strip()
    return re.sub(r"\( ", "(", re.sub(r" ([.,!?)])", r"\1", sentence))


def _parse(sentence: str) -> Fact | None:
    for relation in _RELATIONS.values():
        if (slots := relation.parse(sentence)) is not None:
            return Fact(relation.name, slots)
    return None


def _judge(truth: _Truth, fact: Fact) -> Verdict:
    relation = _RELATIONS[fact.relation]
    if truth.holds(fact):
        return "true"
    if relation.holds is not None:
        return "irrelevant" if relation.holds(fact.slots) else "false"
    ours = fact.relation in _KIND_RELATIONS[truth.kind]
    known = all(truth.mentions(slot, fact.slots[slot]) for slot in relation.key)
    return "false" if ours and known else "irrelevant"


def _statements(truth: _Truth, templates: Templates) -> Iterator[tuple[str, Verdict]]:
    rng = random.Random(f"{truth.pid}/{templates}")
    for fact in truth.steps:
        relation = _RELATIONS[fact.relation]
        yield relation.write(fact.slots, rng, templates), "true"
        lie = _falsify(truth, relation, fact, rng)
        yield _RELATIONS[lie.relation].write(lie.slots, rng, templates), "false"


def _falsify(truth: _Truth, relation: Relation, fact: Fact, rng: random.Random) -> Fact:
    """A false statement beside `fact`: another choice's conclusion, or one word changed, if possible to one of ours."""
    if "letter" in fact.slots and rng.random() < 2 / 3:
        return rng.choice(truth.wrong)
    slots = ("letter",) if "letter" in fact.slots else [s for s in relation.slots if s not in relation.key]
    lies = [
        replace(fact, slots={**fact.slots, slot: word})
        for slot in slots
        for word in DOMAINS[slot]
        if word != fact.slots[slot]
    ]
    lies = [lie for lie in lies if _judge(truth, lie) == "false"]
    near = [lie for lie in lies if all(truth.mentions(s, word) for s, word in lie.slots.items())]
    return rng.choice(near or lies)
