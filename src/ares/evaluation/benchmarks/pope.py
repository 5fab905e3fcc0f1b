"""POPE: does the image show an object? Three suites count differently, and each is a rule here.

Li et al. 2023, "Evaluating Object Hallucination in Large Vision-Language Models".
"""

from collections.abc import Mapping, Sequence

from ares.evaluation.benchmarks.base import Benchmark, Item, Scores
from ares.evaluation.benchmarks.yes_no import exact, one_word, unless_no

Row = tuple[str, str | None]  # the right answer and the one given
RULES = {"lmms_eval": exact, "vlmevalkit": one_word, "llava": unless_no}


def score(items: Sequence[Item], outputs: Mapping[str, str], rule: str) -> Scores:
    """Accuracy, precision, recall and F1 of "yes" in percent, and the share of "yes"; F1 by category.

    Unreadable outputs are wrong. In lmms-eval they are in neither precision nor recall; in VLMEvalKit they count as no,
    and a question of several categories counts once for each. `score` is the suite's headline: F1 in VLMEvalKit,
    accuracy in lmms-eval, F1 in LLaVA.
    """
    read = [(item.answer.strip().lower(), RULES[rule](outputs[item.index])) for item in items]
    categories = [_categories(item) for item in items]
    counted = [
        row
        for row, own in zip(read, categories, strict=True)
        for _ in (own if rule == "vlmevalkit" else own[:1])
    ]
    metrics = _metrics(counted, rule)
    for category in sorted({name for own in categories for name in own if name}):
        rows = [row for row, own in zip(read, categories, strict=True) if category in own]
        metrics[f"{category}/f1"] = _metrics(rows, rule)["f1"]
    headline = metrics["accuracy" if rule == "lmms_eval" else "f1"]
    return Scores({"score": headline, **metrics}, sum(given is None for _, given in read))


def _categories(item: Item) -> list[str]:
    """The categories of a question; of the original files that of the file's name, coco_pope_random."""
    return (item.fields.get("category") or item.fields["file"].rpartition("_")[2]).split(",")


def _metrics(rows: Sequence[Row], rule: str) -> dict[str, float]:
    given = [(right, "no" if answer is None and rule == "vlmevalkit" else answer) for right, answer in rows]
    hits, false = given.count(("yes", "yes")), given.count(("no", "yes"))
    missed, correct = given.count(("yes", "no")), hits + sum(right == a == "no" for right, a in rows)
    precision, recall = hits / max(1, hits + false), hits / max(1, hits + missed)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    shares = {"accuracy": correct / max(1, len(rows)), "precision": precision, "recall": recall, "f1": f1}
    return {name: 100 * value for name, value in shares.items()} | {
        "yes_ratio": 100 * (hits + false) / max(1, len(rows))
    }


BENCHMARK = Benchmark(rules=tuple(RULES), score=score, yes_no=True)
