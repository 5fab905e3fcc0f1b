"""The reference Teacher's repair of a rationale: what is true stays as it is, the rest is mended or goes.

A false sentence is mended by putting the true values in the place of the false ones, in its own words.
Nothing but a missing conclusion is added, so that a repaired rationale is not a copy of the solution.
"""

import re
from collections.abc import Sequence

from ares.teachers.offline.knowledge import TRUE, UNFINISHED, Assessment, Knowledge
from ares.teachers.offline.readings import plain

_ROUNDS = 3  # a wrong letter hides a wrong choice, which may hide a wrong number


def assess_all(knowledge: Knowledge, sentences: Sequence[str]) -> list[Assessment]:
    """Assesses the sentences of a rationale in order; one that says again what was said before scores 0."""
    seen: set[str] = set()
    found = []
    for sentence in sentences:
        content = _content(knowledge, sentence)
        found.append(Assessment(0.0) if content in seen else knowledge.assess(sentence))
        seen.add(content)
    return found


def repair(knowledge: Knowledge, rationale: str, sentences: Sequence[str]) -> str:
    """The rationale with false sentences mended or left out, unrelated and repeated ones left out, and a
    conclusion.

    Where nothing is to be left out or mended it comes back unchanged. `sentences` are those of `rationale`;
    an empty one becomes the solution's last step and conclusion.
    """
    if not sentences:
        steps = [unit.text for unit in knowledge.solution if unit.role == "step"]
        return " ".join((*steps[-1:], knowledge.conclusion)).strip()
    assessments = assess_all(knowledge, sentences)
    kept = [assessment.score > UNFINISHED for assessment in assessments]
    if all(kept):
        return rationale
    repaired = _concluded(knowledge, _mended(knowledge, sentences, assessments, kept), knowledge.conclusion)
    if plain(repaired) == plain(" ".join(unit.text for unit in knowledge.solution)):
        # Not a copy of the solution: only what was true stays, with the bare answer.
        own = [sentence for sentence, keep in zip(sentences, kept, strict=True) if keep]
        return _concluded(knowledge, own, knowledge.answer)
    return repaired


def _mended(
    knowledge: Knowledge, sentences: Sequence[str], assessments: Sequence[Assessment], kept: Sequence[bool]
) -> list[str]:
    contents = {_content(knowledge, sentence) for sentence, keep in zip(sentences, kept, strict=True) if keep}
    found = []
    for sentence, assessment, keep in zip(sentences, assessments, kept, strict=True):
        if keep:
            found.append(sentence)
        elif mended := _mend(knowledge, sentence, assessment):
            content = _content(knowledge, mended)
            if content not in contents:
                found.append(mended)
                contents.add(content)
    return found


def _mend(knowledge: Knowledge, sentence: str, assessment: Assessment) -> str | None:
    """The sentence with true values in the place of those that clash, if that makes it a supporting one."""
    for _ in range(_ROUNDS):
        if not assessment.clashes:
            break
        sentence = _substitute(knowledge, sentence, assessment)
        assessment = knowledge.assess(sentence)
    return sentence if assessment.score > TRUE else None


def _substitute(knowledge: Knowledge, sentence: str, assessment: Assessment) -> str:
    assert assessment.unit is not None
    places = knowledge.vocabulary.read(sentence).places
    unit = assessment.unit
    # From the end on, so that the places before stay where they are.
    for said, held in sorted(assessment.clashes, key=lambda pair: places[pair[0]], reverse=True):
        start, end = places[said]
        new = unit.text[slice(*unit.reading.places[held])]
        before = sentence[:start]
        if not before:
            new = new[:1].upper() + new[1:]
        before = re.sub(r"\b([Aa])n? $", rf"\1{'n' if new[0] in 'aeiou' else ''} ", before)
        sentence = before + new + sentence[end:]
    return sentence


def _concluded(knowledge: Knowledge, sentences: Sequence[str], conclusion: str) -> str:
    units = [knowledge.assess(sentence).unit for sentence in sentences]
    concluded = any(unit is not None and unit.role == "conclusion" for unit in units)
    return " ".join(sentences if concluded or not conclusion else [*sentences, conclusion])


def _content(knowledge: Knowledge, sentence: str) -> str:
    """What a sentence says, so that "So it is red." repeats "Thus it is red."; else its words."""
    reading = knowledge.vocabulary.read(sentence)
    content = " ".join(f"{kind}:{value}" for kind, value in reading.order)
    return f"{content} {reading.negated}" if content else plain(sentence)
