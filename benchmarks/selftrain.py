"""Self-training, ARES with as many samples, and one after the other, on the sample: `python benchmarks/selftrain.py`.

Each seed has four runs in `--runs`, which can be resumed and looked at one by one: r3v (three iterations, three samples
of 300 questions each), sentences (the same with selftrain.filter=sentences), ares (three rounds with as many samples) and
both (ARES from r3v's policy). Selection is among eight samples of each test question; ARES's answers are its adapter's.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ares.data.sample.generator import read_sample
from ares.data.sample.items import SampleProblem
from ares.data.sample.oracle import label_sentences
from ares.evaluation.statistics import nested_bootstrap
from ares.storage.files import read_json, read_jsonl
from ares.storage.solutions import read_solutions
from ares.text.reflection import reasoning_sentences

NUMBERS = (1, 2, 4, 8)
RULES = ("first", "majority", "teacher", "oracle", "self_select")
MEASURES = ("supporting", "false", "invented")
ADAPTER = ("select.answers=adapter", "select.by=[first,majority,teacher,oracle]")


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=["r3v", "sentences", "ares", "both"])
    parser.add_argument("--runs", type=Path, default=Path("runs/selftrain-study"))
    parser.add_argument("settings", nargs="*", help="further settings of every run")
    args = parser.parse_args()
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for seed in args.seeds:
        common = [f"seed={seed}", f"paths.runs={args.runs}", *args.settings]
        for arm in args.arms:
            for settings in arms(args.runs, seed)[arm]:
                train("experiment=selftrain", f"run={arm}-{seed}", *common, *settings)
            found.setdefault(arm, []).append(measured(args.runs / f"{arm}-{seed}"))
    print("\n".join(table(found)))
    (args.runs / "table.json").write_text(json.dumps(estimates(found), indent=1) + "\n")


def arms(runs: Path, seed: int) -> dict[str, list[list[str]]]:
    """The settings of each arm's stages."""
    warmup, policy = (
        f"policy={runs / f'r3v-{seed}' / folder}/policy"
        for folder in ("rationale/warmup", "round-3/selftrain")
    )
    sentences = [warmup, "selftrain.filter=sentences"]
    select = ["stage=select", *ADAPTER]
    return {
        "r3v": [[]],
        "sentences": [sentences],
        "ares": [["stage=ares"], select],
        "both": [["stage=ares", policy], select],
    }


def train(*settings: str) -> None:
    """Runs train.py; a run that is finished takes a moment."""
    subprocess.run([sys.executable, "train.py", *settings], check=True)


def measured(root: Path) -> dict[str, np.ndarray]:
    """Per test question: whether each rule is right by number of candidates, and shares of the first one's sentences."""
    right: dict[str, list[float]] = {}
    for row in read_jsonl(root / "final/selected.jsonl"):
        right.setdefault(f"{row['by']}@{row['n']}", []).append(float(row["correct"]))
    return {name: np.array(values) for name, values in right.items()} | _truth(root)


def _truth(root: Path) -> dict[str, np.ndarray]:
    """The exact shares of the sentences of each question's first candidate."""
    data = read_json(root / "manifest.json")["steps"]["final/candidates"]["inputs"]["data"]["path"]
    problems, _ = read_sample(root / data)
    shares = []
    for row in read_solutions(root / "final/candidates.parquet"):
        if row.sample:
            continue
        problem, sentences = problems[row.pid], reasoning_sentences(row.text)
        assert isinstance(problem, SampleProblem)
        labels = label_sentences(problem.truth, sentences)
        shares.append([labels.count(name) / max(1, len(labels)) for name in MEASURES])
    return dict(zip(MEASURES, np.array(shares).T, strict=True))


def estimates(found: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> dict[str, dict[str, list[float]]]:
    """arm -> measure -> mean and the ends of its 95 % interval over seeds and questions, in percent."""
    result: dict[str, dict[str, list[float]]] = {}
    for arm, seeds in found.items():
        names = list(seeds[0])
        groups = [np.stack([own[name] for name in names], axis=1) for own in seeds]
        mean = np.mean([group.mean(0) for group in groups], axis=0)
        low, high = np.quantile(nested_bootstrap(groups), [0.025, 0.975], axis=0)
        result[arm] = {
            name: [float(100 * side[i]) for side in (mean, low, high)] for i, name in enumerate(names)
        }
    return result


def table(found: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> Iterator[str]:
    """Lines of markdown: an arm and rule each, accuracy by number of candidates; then the truth of first candidates."""
    values = estimates(found)

    def cell(entry: Sequence[float] | None) -> str:
        return "–" if entry is None else "{:.1f} ({:.1f} to {:.1f})".format(*entry)

    yield f"| arm, rule | {' | '.join(f'n = {n}' for n in NUMBERS)} |"
    yield "|---" * (len(NUMBERS) + 1) + "|"
    for arm, own in values.items():
        for rule in RULES:
            if f"{rule}@1" in own:
                yield f"| {arm}, {rule} | {' | '.join(cell(own[f'{rule}@{n}']) for n in NUMBERS)} |"
    yield ""
    yield f"| arm | {' | '.join(MEASURES)} |"
    yield "|---" * (len(MEASURES) + 1) + "|"
    for arm, own in values.items():
        yield f"| {arm} | {' | '.join(cell(own[name]) for name in MEASURES)} |"


if __name__ == "__main__":
    main()
