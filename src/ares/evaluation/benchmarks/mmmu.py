"""MMMU: college questions in 30 subjects, most with choices, some with free answers.

Yue et al. 2024, "MMMU: A Massive Multi-discipline Multimodal Understanding and Reasoning Benchmark".
"""

import re
from collections.abc import Mapping, Sequence

from ares.evaluation.benchmarks.base import Benchmark, Item, Scores, scores_by
from ares.evaluation.benchmarks.letters import RULES
from ares.evaluation.benchmarks.open_answers import agrees, open_answer
from ares.text.prompts import LETTERS

_FORMS = ("({})", " {} ", "{}.")  # how a letter is written, the clearest first
_LONG = 5  # words, from which on an option's text counts


def mmmu(item: Item, output: str) -> str | None:
    """MMMU (and lmms-eval): (A), else A alone, else A., else, in a longer output, an option's text; the last one.

    None where these draw a letter at random.
    """
    padded = f" {output.strip(',.!?;:')} "
    options = dict(zip(LETTERS, item.choices, strict=False))
    for form in _FORMS:
        if found := {
            letter: padded.rfind(form.format(letter)) for letter in options if form.format(letter) in padded
        }:
            return max(found, key=found.__getitem__)
    lower = padded.lower()
    texts = {letter: lower.rfind(text.lower()) for letter, text in options.items() if text.lower() in lower}
    return max(texts, key=texts.__getitem__) if texts and len(padded.split()) > _LONG else None


def score(items: Sequence[Item], outputs: Mapping[str, str], rule: str) -> Scores:
    """Percent right in all (`score`, over questions) and by subject; `macro` is the mean of the subjects."""
    read, right, failed = mmmu if rule == "mmmu" else RULES[rule], [], 0
    for item in items:
        output = outputs[item.index]
        given = read(item, output) if item.choices else open_answer(output)
        failed += given is None
        right.append(
            given == item.answer if item.choices else given is not None and agrees(item.answer, given)
        )
    found = scores_by([_subject(item) for item in items], right, failed)
    subjects = [value for name, value in found.metrics.items() if name != "score"]
    return Scores({**found.metrics, "macro": sum(subjects) / max(1, len(subjects))}, failed)


def _subject(item: Item) -> str:
    """The subject in an id such as validation_Art_Theory_12, or the column that names it."""
    found = re.fullmatch(r"[a-z]+_(.+)_\d+", item.fields.get("id", ""))
    return found[1] if found else item.fields.get("category") or item.fields.get("subfield", "")


BENCHMARK = Benchmark(rules=("mmmu", "vlmevalkit", "ares"), score=score)
