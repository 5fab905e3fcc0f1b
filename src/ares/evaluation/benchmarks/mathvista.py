"""MathVista: answers of a type (letter, whole number, decimals, list), compared by type.

Lu et al. 2024, "MathVista: Evaluating Mathematical Reasoning of Foundation Models in Visual Contexts".
"""

import re
from collections.abc import Mapping, Sequence

from ares.evaluation.benchmarks.base import Benchmark, Item, Scores, scores_by
from ares.evaluation.benchmarks.letters import RULES
from ares.evaluation.checkers import stated
from ares.evaluation.numbers import number_in, plain

_LIST = re.compile(r"\[[^\[\]]*\]")


def mathvista(item: Item, output: str) -> str | None:
    """The stated answer in the form of the question's type, as MathVista normalizes it; None if there is none.

    A whole number is cut, decimals are rounded to the question's precision, a list is without spaces. The original
    asks GPT-4 to find the answer in the output; here it must be stated ("The answer is 3.") or be the output.
    """
    kind = item.fields.get("answer_type", "text")
    if kind == "list":
        lists = _LIST.findall(output)
        return re.sub(r"\s", "", lists[-1]) if lists else None
    found = {_typed(text, kind, item.fields.get("precision", "")) for text in stated(output)}
    return found.pop() if len(found) == 1 else None


def score(items: Sequence[Item], outputs: Mapping[str, str], rule: str) -> Scores:
    """Percent right, in all and by task; letters by the `ares` rule, or by VLMEvalKit's."""
    letter = RULES["vlmevalkit" if rule == "vlmevalkit" else "ares"]
    given = [(letter if item.choices else mathvista)(item, outputs[item.index]) for item in items]
    right = [
        answer is not None and answer == (item.answer if item.choices else _right(item))
        for item, answer in zip(items, given, strict=True)
    ]
    return scores_by([item.fields.get("task", "") for item in items], right, given.count(None))


def _right(item: Item) -> str | None:
    kind = item.fields.get("answer_type", "text")
    if kind == "list":
        return re.sub(r"\s", "", item.answer)
    return _typed(item.answer, kind, item.fields.get("precision", ""))


def _typed(text: str, kind: str, precision: str) -> str | None:
    number = number_in(text)
    if kind in ("integer", "float"):
        if number is None:
            return None
        return str(int(number)) if kind == "integer" else str(round(number, int(float(precision or 2))))
    return plain(text) or None


BENCHMARK = Benchmark(rules=("mathvista", "vlmevalkit"), score=score)
