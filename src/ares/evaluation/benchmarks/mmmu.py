"""MMMU: college questions in 30 subjects, most with choices, some with free answers.

Yue et al. 2024, "MMMU: A Massive Multi-discipline Multimodal Understanding and Reasoning Benchmark".
"""

import ast
import re
from collections.abc import Mapping, Sequence

from ares.evaluation.benchmarks.base import Benchmark, Item, Scores, by_group, share
from ares.evaluation.benchmarks.letters import RULES
from ares.evaluation.numbers import plain

_FORMS = ("({})", " {} ", "{}.")  # how a letter is written, the clearest first
_LEAD = re.compile(r"^.*(?:\banswer(?: is)?|\bis|\bequals?|=|\bare|\bgives|:)\s+", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?", re.IGNORECASE)
_LONG = 5  # words, from which on an option's text counts


def mmmu(item: Item, output: str) -> str | None:
    """MMMU (and lmms-eval): (A), else A alone, else A., else, in a longer output, an option's text; the last one.

    None where these draw a letter at random.
    """
    padded = f" {output.strip(',.!?;:')} "
    options = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", item.choices, strict=False))
    for form in _FORMS:
        if found := {
            letter: padded.rfind(form.format(letter)) for letter in options if form.format(letter) in padded
        }:
            return max(found, key=found.__getitem__)
    texts = {
        letter: padded.lower().rfind(text.lower())
        for letter, text in options.items()
        if text.lower() in padded.lower()
    }
    return max(texts, key=texts.__getitem__) if texts and len(padded.split()) > _LONG else None


def open_answer(output: str) -> tuple[str, set[float]] | None:
    """The last line of an output after "is", "=" and the like: its text, and the numbers in it to two decimals."""
    lines = [line for line in re.split(r"\.\s|\n", output.strip()) if line.strip()]
    if not lines:
        return None
    text = plain(_LEAD.sub("", lines[-1].strip()))
    return text, _numbers(text)


def score(items: Sequence[Item], outputs: Mapping[str, str], rule: str) -> Scores:
    """Percent right in all (`score`, over questions) and by subject; `macro` is the mean of the subjects.

    A free answer is right if its text holds one of the right texts, or one of its numbers is a right one.
    """
    read = mmmu if rule == "mmmu" else RULES[rule]
    given = [
        read(item, outputs[item.index]) if item.choices else open_answer(outputs[item.index])
        for item in items
    ]
    right = [
        answer == item.answer if not isinstance(answer, tuple) else _is_right(item.answer, *answer)
        for item, answer in zip(items, given, strict=True)
    ]
    subjects = by_group(right, [_subject(item) for item in items])
    macro = sum(subjects.values()) / max(1, len(subjects))
    return Scores({"score": share(right), "macro": macro, **subjects}, given.count(None))


def _is_right(answer: str, text: str, numbers: set[float]) -> bool:
    try:  # several right answers are written as a list
        listed = ast.literal_eval(answer) if answer.startswith("[") else [answer]
    except (SyntaxError, ValueError):
        listed = [answer]
    for right in map(str, listed):
        if exact := _NUMBER.fullmatch(right.strip()):
            if _numbers(exact[0]) & numbers:
                return True
        elif plain(right) in text:
            return True
    return False


def _numbers(text: str) -> set[float]:
    return {round(float(found.replace(",", "")), 2) for found in _NUMBER.findall(text)}


def _subject(item: Item) -> str:
    """The subject in an id such as validation_Art_Theory_12, or the column that names it."""
    found = re.fullmatch(r"[a-z]+_(.+)_\d+", item.fields.get("id", ""))
    return found[1] if found else item.fields.get("category") or item.fields.get("subfield", "")


BENCHMARK = Benchmark(rules=("mmmu", "vlmevalkit", "ares"), score=score)
