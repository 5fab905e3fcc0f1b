"""The truth about the sample: labels the sentences of a rationale, and repairs it.

A sentence is parsed back into a statement by the templates of all kinds. With the problem's `Truth` it is one of

- supporting: true, and a step that every solution of this kind needs;
- irrelevant: true, but not needed (an optional detail, a true remark, a rule that decides another question);
- false: contradicts the problem's facts, or is a rule that never holds;
- invented: about something that the problem does not mention or that cannot be known from it (a wrong remark), or
  text of any other wording, cut-off sentences included;
- repeated: restates an earlier sentence of the rationale, in any words.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

from ares.data.sample.items import Fact, Truth
from ares.data.sample.kinds import KINDS
from ares.data.sample.remarks import REMARKS

Label = Literal["supporting", "irrelevant", "false", "invented", "repeated"]
LABELS: tuple[Label, ...] = get_args(Label)
TRUE: tuple[Label, ...] = ("supporting", "irrelevant")

_KINDS = {kind.name: kind for kind in KINDS}
_RELATIONS = {r.name: r for r in (*(r for kind in KINDS for r in kind.relations), *REMARKS)}


def label_sentences(truth: Truth, sentences: Sequence[str]) -> list[Label]:
    """The label of each sentence of one rationale, in order."""
    seen: list[Fact | str] = []
    labels: list[Label] = []
    for sentence in sentences:
        statement = parse(sentence) or _tidy(sentence)
        labels.append("repeated" if statement in seen else label(truth, sentence))
        seen.append(statement)
    return labels


def label(truth: Truth, sentence: str) -> Label:
    """The label of a sentence on its own. Every word counts: the right answer with a wrong letter is false."""
    fact = parse(sentence)
    return "invented" if fact is None else _label(truth, fact)


def repair(truth: Truth, sentences: Sequence[str]) -> list[str]:
    """The sentences of the repaired rationale: all of them true, none repeated, with the conclusion.

    True sentences stay. The wrong words of a false one are replaced, unless the true statement is already there or
    none exists. Invented and repeated ones are dropped. A missing conclusion is appended.
    """
    labels = label_sentences(truth, sentences)
    said = [parse(sentence) for sentence, found in zip(sentences, labels, strict=True) if found in TRUE]
    repaired = []
    for sentence, found in zip(sentences, labels, strict=True):
        if found in TRUE:
            repaired.append(sentence)
        elif found == "false" and (fact := _true_instead(truth, sentence)) and fact not in said:
            repaired.append(_RELATIONS[fact.relation].restate(_tidy(sentence), fact.slots))
            said.append(fact)
    conclusion = truth.steps[-1]
    if conclusion not in said:
        repaired.append(_RELATIONS[conclusion.relation].gold[0].format(**conclusion.slots))
    return repaired


@lru_cache(maxsize=1 << 16)
def parse(sentence: str) -> Fact | None:
    """The statement of a sentence, None for a text that matches no template."""
    sentence = _tidy(sentence)
    for relation in _RELATIONS.values():
        if (slots := relation.parse(sentence)) is not None:
            return Fact(relation.name, slots)
    return None


def _tidy(sentence: str) -> str:
    """Undoes the spaces that some tokenizers put around punctuation."""
    sentence = re.sub(r"\s+", " ", sentence).strip()
    return re.sub(r"\( ", "(", re.sub(r" ([.,!?)])", r"\1", sentence))


def _label(truth: Truth, fact: Fact) -> Label:
    relation = _RELATIONS[fact.relation]
    if fact in truth.facts:
        return "irrelevant" if relation.optional else "supporting"
    if relation.holds is not None:
        return "irrelevant" if relation.holds(fact.slots) else "false"
    known = relation in _KINDS[truth.kind].relations and all(
        truth.mentions(slot, fact.slots[slot]) for slot in relation.key
    )
    return "false" if known else "invented"


def _true_instead(truth: Truth, sentence: str) -> Fact | None:
    """The true statement in place of a false sentence: a fact of the same relation, if possible with the same key."""
    false = parse(sentence)
    assert false is not None
    key = _RELATIONS[false.relation].key
    found = [fact for fact in truth.facts if fact.relation == false.relation]
    same = [fact for fact in found if all(fact.slots[slot] == false.slots[slot] for slot in key)]
    return next(iter(same or found), None)
