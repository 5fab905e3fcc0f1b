"""Self-training, ARES with as many samples, and one after the other, on the sample: `python -m benchmarks.selftrain`.

All arms of a seed start from one warm-up and see 600 other questions, for which nobody gives them a solution. Each arm has a
run in `--runs` that can be resumed and looked at alone:

- warmup: fine-tuned on the solutions and answers of `--given` questions
- r3v: three iterations of self-training, with three samples of each question
- sentences: the same with selftrain.filter=sentences
- ares: three rounds of ARES with as many samples; as in all of ARES, an adapter answers
- both: ARES from r3v's policy
- adapter: ARES's adapter on the warm-up, without ARES

A reward model is trained on the scores of the warm-up's samples, those of the first round of ares. Selection is among up to
eight samples of each test question, or up to eight continuations of each sentence.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ares.charts import overlay
from ares.config.validation import validate
from ares.data.sample.generator import read_sample
from ares.data.sample.items import SampleProblem
from ares.data.sample.oracle import Label, label_sentences
from ares.evaluation.statistics import nested_bootstrap
from ares.pipeline.manifest import StepEntry, read_manifest
from ares.pipeline.sweeps.study import Trial, run_trials
from ares.report.study_curves import drawing
from ares.storage.files import read_jsonl
from ares.storage.solutions import read_solutions
from ares.text.reflection import METHODS, reasoning_sentences
from tests.support.composed import composed

SEARCHES = ("steps", "repair")
PLAIN = ("first", "majority", "teacher", "reward", "oracle")
RULES = (*PLAIN, *SEARCHES, "self_select")
# What is selected by: the policy's own choice where it has learned to choose, searches in the arms that are compared.
BY = {
    "warmup": PLAIN,
    "adapter": PLAIN,
    "sentences": (*PLAIN, "self_select"),
    "r3v": RULES,
    "ares": (*PLAIN, *SEARCHES),
    "both": (*PLAIN, *SEARCHES),
}
CHOICES = ("teacher", "reward", *SEARCHES, "self_select")  # compared with the majority
COMPARED = (("r3v", "warmup"), ("sentences", "r3v"), ("ares", "adapter"), ("both", "ares"))
MEASURES: tuple[Label, ...] = ("supporting", "false", "invented")
ELSEWHERE = 1000  # between the seeds of a warm-up and of its arms, whose questions are others
ALL = (
    *("data.sizes.train=600", "rl.questions=600", "selftrain.questions=600"),
    *("sft.epochs=3", "lora.epochs=5", "lora.eval_every_epochs=5"),
)
Cells = Mapping[str, Sequence[float]]  # measure -> mean and the ends of its interval


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing; prints tables and writes them with `curves.svg` in `--runs`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--arms", nargs="+", default=list(BY), choices=list(BY))
    parser.add_argument("--runs", type=Path, default=Path("runs/selftrain-study"))
    parser.add_argument("--given", type=int, default=1200, help="questions of the warm-up")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, a thread each")
    parser.add_argument("settings", nargs="*", help="further settings of every run")
    args = parser.parse_args(arguments)
    for phase in zip(*(phases(args.runs, seed, args.given) for seed in args.seeds), strict=True):
        trials = [
            _trial(args.runs, arm, seed, *settings, *args.settings)
            for seed, own in zip(args.seeds, phase, strict=True)
            for arm, settings in own.items()
            if arm in args.arms
        ]
        run_trials(trials, args.workers)
    roots = {arm: [args.runs / f"{arm}-{seed}" for seed in args.seeds] for arm in args.arms}
    found = {arm: [measured(root) for root in own] for arm, own in roots.items()}
    values = estimates(found)
    lines = "\n".join([*tables(values), "", *contrasts(found), *learning(roots)])
    print(lines)
    (args.runs / "tables.md").write_text(lines + "\n")
    (args.runs / "tables.json").write_text(json.dumps(values, indent=1) + "\n")
    (args.runs / "curves.svg").write_text(curves(values) + "\n")


def phases(runs: Path, seed: int, questions: int) -> list[dict[str, list[str]]]:
    """The settings of the arms' stages, phase by phase: a phase needs the runs of those before it."""
    given = [f"run=given-{seed}", f"seed={seed + ELSEWHERE}", f"data.sizes.train={questions}"]
    warmup = f"policy={runs / f'given-{seed}' / 'rationale/warmup/policy'}"
    r3v = f"policy={runs / f'r3v-{seed}' / 'round-3/selftrain/policy'}"
    selftrain = ["stage=selftrain", "stage.steps=[warmup,sample,rate,selftrain]", warmup]
    select = ["stage=select", f"select.reward={runs / f'ares-{seed}' / 'round-1/reward/model'}"]
    answers = {
        "warmup": [warmup],
        "ares": ["select.answers=adapter"],
        "both": ["select.answers=adapter"],
        "adapter": ["select.answers=adapter", warmup],
    }
    return [
        {"warmup": ["stage=selftrain", "stage.steps=[warmup]", *given]},
        {
            "ares": ["stage=ares", warmup],
            "r3v": selftrain,
            "adapter": ["stage=ares", "stage.steps=[final/generate,lora]", warmup],
        },
        {
            "both": ["stage=ares", r3v],
            "sentences": [*selftrain, "selftrain.filter=sentences"],
            "ares": ["stage=reward", warmup],
        },
        {
            arm: [*select, f"select.by=[{','.join(rules)}]", *answers.get(arm, [f"policy={arm}-{seed}"])]
            for arm, rules in BY.items()
        },
    ]


def _trial(runs: Path, arm: str, seed: int, *settings: str) -> Trial:
    own = (f"run={arm}-{seed}", f"seed={seed}", f"paths.runs={runs}")
    config = composed("experiment=selftrain", *own, *ALL, *settings)
    validate(config)
    return Trial(arm, seed, config)


def measured(root: Path) -> dict[str, np.ndarray]:
    """Per test question: 100 or 0 and tokens by rule and number, and percentages of the sentences that are written."""
    found: dict[str, list[float]] = {}
    for row in read_jsonl(root / "final/selected.jsonl"):
        name = f"{row['by']}@{row['n']}"
        found.setdefault(name, []).append(100.0 * row["correct"])
        found.setdefault(f"tokens/{name}", []).append(row["tokens"])
    return {name: np.array(values) for name, values in found.items()} | _truth(root)


def _truth(root: Path) -> dict[str, np.ndarray]:
    """The exact percentages of the sentences of each question's first candidate, and of its widest searches."""
    problems, _ = read_sample(root / read_manifest(root)["final/candidates"].inputs["data"].path)
    candidates = read_solutions(root / "final/candidates.parquet")
    texts = {"first": [(row.pid, row.text) for row in candidates if row.sample == 0]}
    file = root / "final/searched.jsonl"
    searched = read_jsonl(file) if file.exists() else []
    widest = max((row["n"] for row in searched), default=0)
    for row in searched:
        if row["n"] == widest:
            texts.setdefault(f"{row['by']}@{widest}", []).append((row["pid"], row["text"]))
    found: dict[str, np.ndarray] = {}
    for solution, own in texts.items():
        shares = []
        for pid, text in own:
            problem, sentences = problems[pid], reasoning_sentences(text)
            assert isinstance(problem, SampleProblem)
            labels = label_sentences(problem.truth, sentences)
            shares.append([100 * labels.count(name) / max(1, len(labels)) for name in MEASURES])
        columns = zip(MEASURES, np.array(shares).T, strict=True)
        found |= {f"{name}/{solution}": column for name, column in columns}
    return found


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


if __name__ == "__main__":
    main()
