"""Self-training, ARES with as many samples, and one after the other, on the sample: `python -m benchmarks.selftrain`.

Each seed has four runs in `--runs`, which can be resumed and looked at one by one: ares (three rounds with three samples of
300 questions each), r3v (three iterations with as many), sentences (the same with selftrain.filter=sentences) and both
(ARES from r3v's policy). A reward model is trained on the scores of the first round of ares. Selection is among up to
eight samples of each test question, or up to eight continuations per sentence; ARES's answers are its adapter's.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ares.config.validation import validate
from ares.data.sample.generator import read_sample
from ares.data.sample.items import SampleProblem
from ares.data.sample.oracle import label_sentences
from ares.evaluation.statistics import nested_bootstrap
from ares.pipeline.runner import run_stage
from ares.storage.files import read_json, read_jsonl
from ares.storage.solutions import read_solutions
from ares.text.reflection import reasoning_sentences
from tests.support.composed import composed

RULES = ("first", "majority", "self_select", "teacher", "reward", "steps", "repair", "oracle")
LATER = "candidates,self_select,final/rate,appraise,search,select,report"
MEASURES = ("supporting", "false", "invented")
Cells = Mapping[str, Sequence[float]]  # measure -> mean and the ends of its interval


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, prints the tables and writes them to `tables.md` in `--runs`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--arms", nargs="+", default=["ares", "r3v", "sentences", "both"])
    parser.add_argument("--runs", type=Path, default=Path("runs/selftrain-study"))
    parser.add_argument("settings", nargs="*", help="further settings of every run")
    args = parser.parse_args(arguments)
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for seed in args.seeds:
        common = [f"seed={seed}", f"paths.runs={args.runs}", *args.settings]
        for arm in args.arms:
            for settings in stages(args.runs, arm, seed):
                train("experiment=selftrain", f"run={arm}-{seed}", *common, *settings)
            found.setdefault(arm, []).append(measured(args.runs / f"{arm}-{seed}"))
    lines = "\n".join(tables(estimates(found)))
    print(lines)
    (args.runs / "tables.md").write_text(lines + "\n")
    (args.runs / "tables.json").write_text(json.dumps(estimates(found), indent=1) + "\n")


def stages(runs: Path, arm: str, seed: int) -> list[list[str]]:
    """The settings of an arm's stages; all but ares need the runs of arms before it."""
    r3v, rules = f"policy={runs / f'r3v-{seed}'}", [rule for rule in RULES if rule != "self_select"]
    select = ["stage=select", f"select.reward={runs / f'ares-{seed}' / 'round-1/reward/model'}"]
    adapter = [*select, "select.answers=adapter", f"select.by=[{','.join(rules)}]"]
    texts = [*select, f"select.by=[{','.join(RULES)}]", f"policy={arm}-{seed}"]
    selftrain = ["stage=selftrain", f"stage.without=[{LATER}]"]
    found = {
        "ares": [["stage=ares"], ["stage=reward", "reward.facts=[hint,caption,image]"], adapter],
        "r3v": [selftrain, texts],
        "sentences": [[*selftrain, "selftrain.filter=sentences", f"{r3v}/rationale/warmup/policy"], texts],
        "both": [["stage=ares", f"{r3v}/round-3/selftrain/policy"], adapter],
    }
    return found[arm]


def train(*settings: str) -> None:
    """Runs a stage in this process; a run that is finished takes a moment."""
    config = composed(*settings)
    validate(config)
    run_stage(config)


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
    data = read_json(root / "manifest.json")["steps"]["final/candidates"]["inputs"]["data"]["path"]
    problems, _ = read_sample(root / data)
    candidates = read_solutions(root / "final/candidates.parquet")
    texts = {"first": [(row.pid, row.text) for row in candidates if row.sample == 0]}
    file = root / "final/searched.jsonl"
    searched = read_jsonl(file) if file.exists() else []
    widest = max((row["n"] for row in searched), default=0)
    for row in searched:
        if row["n"] == widest:
            texts.setdefault(f"{row['by']}@{widest}", []).append((row["pid"], row["text"]))
    found = {}
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


if __name__ == "__main__":
    main()
