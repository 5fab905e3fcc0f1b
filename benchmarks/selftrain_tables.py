"""The tables and curves of the study of self-training (`benchmarks/selftrain.py`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ares.charts import overlay
from ares.data.sample.oracle import Label
from ares.evaluation.statistics import nested_bootstrap
from ares.pipeline.manifest import StepEntry, read_manifest
from ares.report.study_curves import drawing
from ares.text.reflection import METHODS

SEARCHES = ("steps", "repair")
PLAIN = ("first", "majority", "teacher", "reward", "oracle")
RULES = (*PLAIN, *SEARCHES, "self_select")
CHOICES = ("teacher", "reward", *SEARCHES, "self_select")  # compared with the majority
COMPARED = (("r3v", "warmup"), ("sentences", "r3v"), ("ares", "adapter"), ("both", "ares"))
MEASURES: tuple[Label, ...] = ("supporting", "false", "invented")
Cells = Mapping[str, Sequence[float]]  # measure -> mean and the ends of its interval


def estimates(found: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> dict[str, dict[str, list[float]]]:
    """arm -> measure -> mean and the ends of its 95 % interval over seeds and questions."""
    result: dict[str, dict[str, list[float]]] = {}
    for arm, seeds in found.items():
        names = list(seeds[0])
        groups = [np.stack([own[name] for name in names], axis=1) for own in seeds]
        mean = np.mean([group.mean(0) for group in groups], axis=0)
        low, high = np.quantile(nested_bootstrap(groups), [0.025, 0.975], axis=0)
        result[arm] = {name: [float(side[i]) for side in (mean, low, high)] for i, name in enumerate(names)}
    return result


def tables(values: Mapping[str, Cells]) -> Iterator[str]:
    """Lines of markdown: accuracy and tokens by arm, rule and number of candidates, then the truth of what is written."""
    cells = [name for own in values.values() for name in own if "@" in name and "/" not in name]
    numbers = sorted({int(name.partition("@")[2]) for name in cells})
    for prefix, shown in (("", "{:.1f} ({:.1f} to {:.1f})"), ("tokens/", "{:.0f}")):
        title = "tokens per question" if prefix else "percent right"
        yield f"| {title} | {' | '.join(f'n = {n}' for n in numbers)} |"
        yield "|---" * (len(numbers) + 1) + "|"
        for arm, own in values.items():
            for rule in (rule for rule in RULES if f"{rule}@{numbers[-1]}" in own):
                row = (shown.format(*own[f"{prefix}{rule}@{n}"]) for n in numbers)
                yield f"| {arm}, {rule} | {' | '.join(row)} |"
        yield ""
    yield f"| sentences, percent | {' | '.join(MEASURES)} |"
    yield "|---" * (len(MEASURES) + 1) + "|"
    for arm, own in values.items():
        for name in [name.partition("/")[2] for name in own if name.startswith(MEASURES[0])]:
            row = ("{:.1f} ({:.1f} to {:.1f})".format(*own[f"{measure}/{name}"]) for measure in MEASURES)
            yield f"| {arm}, {name} | {' | '.join(row)} |"


def contrasts(found: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> Iterator[str]:
    """Lines of markdown: differences in points on the same questions, between arms, and to the majority of each arm."""
    [first, *_] = next(iter(found.values()))
    widest = max(int(name.partition("@")[2]) for name in first if name.startswith("first@"))
    between = {
        f"{arm} − {other}": [
            {rule: one[f"{rule}@{widest}"] - two[f"{rule}@{widest}"] for rule in ("first", "majority")}
            for one, two in zip(found[arm], found[other], strict=True)
        ]
        for arm, other in COMPARED
        if {arm, other} <= set(found)
    }
    within = {
        f"{arm} − its majority": [
            {
                rule: own[f"{rule}@{widest}"] - own[f"majority@{widest}"]
                for rule in CHOICES
                if f"{rule}@{widest}" in own
            }
            for own in seeds
        ]
        for arm, seeds in found.items()
    }
    for rules, differences in ((("first", "majority"), between), (CHOICES, within)):
        yield f"| points, n = {widest} | {' | '.join(rules)} |"
        yield "|---" * (len(rules) + 1) + "|"
        for name, own in estimates(differences).items():
            row = ("{:+.1f} ({:+.1f} to {:+.1f})".format(*own[rule]) if rule in own else "" for rule in rules)
            yield f"| {name} | {' | '.join(row)} |"
        yield ""


def learning(roots: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    """Lines of markdown, means over seeds: what each iteration samples, the lessons in its pool, what its model answers."""
    yield "| | new samples, percent right | cot | refine | select | model: val, percent right |"
    yield "|---" * 6 + "|"
    for arm in [name for name in ("r3v", "sentences") if name in roots]:
        steps = [read_manifest(root) for root in roots[arm]]

        def mean(key: str, name: str, steps: Sequence[Mapping[str, StepEntry]] = steps) -> float:
            return float(np.mean([own[key].metrics.get(name, 0.0) for own in steps]))

        for key in [key for key in steps[0] if key.endswith("/selftrain")]:
            lessons = " | ".join(f"{mean(key, kind):.0f}" for kind in METHODS["r3v"])
            samples = mean(f"{key.partition('/')[0]}/sample", "right")
            name = f"{arm}, {key.partition('/')[0].replace('round-', 'iteration ')}"
            yield f"| {name} | {100 * samples:.1f} | {lessons} | {100 * mean(key, 'val/accuracy'):.1f} |"


def curves(values: Mapping[str, Cells]) -> str:
    """Accuracy by number of candidates, a drawing per arm with searches, as one SVG."""
    panels = []
    for arm, own in values.items():
        lines = {rule: _points(own, rule) for rule in RULES if _points(own, rule)}
        if set(SEARCHES) & set(lines) and (chart := overlay(f"{arm}: percent right", [*lines.values()])):
            panels.append((replace(chart, x_name="candidates"), list(lines)))
    return drawing(panels)


def _points(own: Cells, rule: str) -> list[tuple[float, float]]:
    """(number of candidates, mean) of a rule, in order."""
    numbers = sorted(int(name.partition("@")[2]) for name in own if name.startswith(f"{rule}@"))
    return [(n, own[f"{rule}@{n}"][0]) for n in numbers]
