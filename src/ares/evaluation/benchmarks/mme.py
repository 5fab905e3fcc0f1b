"""MME: two questions per image, one answered with yes and one with no; a category has up to 200 points.

Fu et al. 2023, "MME: A Comprehensive Evaluation Benchmark for Multimodal Large Language Models".
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ares.evaluation.benchmarks.base import Benchmark, Item, Scores, share
from ares.evaluation.benchmarks.yes_no import beginning, one_word
from ares.types import AresError

COGNITION = ("code_reasoning", "commonsense_reasoning", "numerical_calculation", "text_translation")
RULES = {"lmms_eval": beginning, "vlmevalkit": one_word}
# What the two questions about an image share.
_PAIR = {"lmms_eval": ("question_id", "image_path"), "vlmevalkit": ("image_path", "question_id")}


def score(items: Sequence[Item], outputs: Mapping[str, str], rule: str) -> Scores:
    """By category acc + acc⁺ (0 to 200): percent of right answers, plus percent of images with both right.

    `perception` (10 categories) and `cognition` (4; VLMEvalKit calls it reasoning) are sums, `score` is theirs. Pairs
    are found by question_id in lmms-eval and by image_path in VLMEvalKit.

    Raises AresError where an image has not two questions.
    """
    pairs: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    read = {item.index: RULES[rule](outputs[item.index]) for item in items}
    for item in items:
        name = next(item.fields[key] for key in _PAIR[rule] if item.fields.get(key))
        pairs[item.fields["category"]][name].append(read[item.index] == item.answer.strip().lower())
    points = {}
    for category, images in sorted(pairs.items()):
        if odd := [name for name, right in images.items() if len(right) != 2]:
            raise AresError(f"MME's {category}/{odd[0]} has not two questions; give the complete file.")
        points[category] = share([r for pair in images.values() for r in pair]) + share(
            [all(pair) for pair in images.values()]
        )
    cognition = sum(value for name, value in points.items() if name in COGNITION)
    perception = sum(points.values()) - cognition
    sums = {"score": perception + cognition, "perception": perception, "cognition": cognition}
    return Scores({**sums, **points}, list(read.values()).count(None))


BENCHMARK = Benchmark(rules=tuple(RULES), score=score, yes_no=True)
