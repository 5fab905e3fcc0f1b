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
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ares.config.validation import validate
from ares.data.sample.generator import read_sample
from ares.data.sample.items import SampleProblem
from ares.data.sample.oracle import label_sentences
from ares.pipeline.manifest import read_manifest
from ares.pipeline.sweeps.study import Trial, run_trials
from ares.storage.files import read_jsonl
from ares.storage.solutions import read_solutions
from ares.text.reflection import reasoning_sentences
from benchmarks.selftrain_tables import (
    MEASURES,
    PLAIN,
    RULES,
    SEARCHES,
    contrasts,
    curves,
    estimates,
    learning,
    tables,
)
from tests.support.composed import composed

# What is selected by: the policy's own choice where it has learned to choose, searches in the arms that are compared.
BY = {
    "warmup": PLAIN,
    "adapter": PLAIN,
    "sentences": (*PLAIN, "self_select"),
    "r3v": RULES,
    "ares": (*PLAIN, *SEARCHES),
    "both": (*PLAIN, *SEARCHES),
}
ELSEWHERE = 1000  # between the seeds of a warm-up and of its arms, whose questions are others
ALL = (
    *("data.sizes.train=600", "rl.questions=600", "selftrain.questions=600"),
    *("sft.epochs=3", "lora.epochs=5", "lora.eval_every_epochs=5"),
)


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


if __name__ == "__main__":
    main()
