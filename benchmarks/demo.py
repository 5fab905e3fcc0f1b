"""What finished runs of experiment=demo learned, against the truth that the sample's generator knows.

    python train.py -m experiment=demo ... (or one run at a time), then
    python benchmarks/demo.py runs/demo [more run folders] [--further 2000]

For each run: how the rationales of val were before reinforcement learning, what PPO changed in the same questions
(mean and 95 % interval of the paired bootstrap), repetition from before PPO to after SFT; and on further problems that no
split of the run holds: accuracy, beside always giving the most frequent choice, with and without the right images.
"""

import argparse
import random
import tempfile
from collections import Counter
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from peft import PeftModel

from ares.config.compose import to_config
from ares.config.schema import Config
from ares.data.sample import Oracle
from ares.datamodules.collate import Features
from ares.evaluation.answers import predict
from ares.evaluation.statistics import paired_bootstrap
from ares.models.t5.loading import load_policy
from ares.steps.common.generation import greedy_rationales
from ares.steps.common.inputs import examples_of
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import read_json, read_jsonl
from ares.storage.tables import read_feedback, read_rationales, read_rollouts
from ares.text.sentences import repetition_rate
from ares.text.tokenizers import load_tokenizer
from ares.types import Problem
from ares.vision.features import FeatureStore


class Shuffled:
    """The features of images, each looked up by the problem of another image."""

    def __init__(self, features: Features, pids: list[str], seed: int) -> None:
        self.features = features
        self.other = dict(zip(pids, random.Random(seed).sample(pids, len(pids)), strict=True))

    def get(self, pids: Any) -> np.ndarray:
        """(len(pids), P, D) float32."""
        return self.features.get([self.other.get(pid, pid) for pid in pids])


def main() -> None:
    """Prints the figures of each run folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--further", type=int, default=2000, help="how many further problems are answered")
    arguments = parser.parse_args()
    for run in arguments.runs:
        print(f"{run}: {run_seconds(run):.0f} s of steps")
        for line in [*learned(run), *answered(run, arguments.further)]:
            print(f"  {line}")


def run_seconds(run: Path) -> float:
    """The seconds of all steps of a run."""
    return sum(step["seconds"] for step in read_json(run / "manifest.json")["steps"].values())


def learned(run: Path) -> list[str]:
    """Before RL, what PPO changed, and repetition, each a line."""
    oracle = Oracle.load(
        Path(read_json(run / "manifest.json")["steps"]["rationale"]["inputs"]["data"]["path"])
    )
    rows = read_jsonl(run / "round-1/ppo/evaluation.jsonl")

    def mean_score(row: dict[str, Any]) -> float:
        return fmean(row["scores"]) if row["scores"] else 0.0

    def share(row: dict[str, Any], verdict: str) -> float:
        found = [oracle.judge(row["pid"], sentence) == verdict for sentence in row["sentences"]]
        return fmean(found) if found else 0.0

    def gain(figure: Any) -> str:
        mean, low, high = paired_bootstrap(
            [figure(row["before"]) for row in rows], [figure(row["after"]) for row in rows]
        )
        return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"

    verdicts = Counter(oracle.judge(row["pid"], s) for row in rows for s in row["before"]["sentences"])
    false = verdicts["false"] / verdicts.total()
    final = [repetition_rate(row.text) for row in read_rationales(run / "final/rationales-val.parquet")]
    return [
        f"before RL: {false:.1%} of held-out sentences false, {1 - verdicts['true'] / verdicts.total():.1%} not true; "
        f"deviation of the mean score within a question >= 0.1 for {spread(run):.0%} of questions",
        f"PPO: mean score {fmean(mean_score(r['before']) for r in rows):.3f} {gain(mean_score)}, "
        f"true sentences {fmean(share(r['before'], 'true') for r in rows):.3f} {gain(lambda r: share(r, 'true'))} "
        f"({len(rows)} questions)",
        f"repetition: {fmean(r['before']['repetition'] for r in rows):.4f} before PPO, {fmean(final):.4f} after SFT",
    ]


def spread(run: Path) -> float:
    """The share of questions whose rollouts' mean scores deviate by 0.1 or more."""
    scores = {row.row_id: row.scores for row in read_feedback(run / "round-1/feedback.parquet")}
    means: dict[str, list[float]] = {}
    for row in read_rollouts(run / "round-1/rollouts"):
        if scores[row.row_id]:
            means.setdefault(row.pid, []).append(fmean(scores[row.row_id] or ()))
    return fmean(pstdev(own) >= 0.1 for own in means.values() if len(own) > 1)


def answered(run: Path, count: int) -> list[str]:
    """Accuracy on `count` problems behind those of the test split, each a line."""
    config = to_config(OmegaConf.load(run / "config.yaml"))  # type: ignore[arg-type]
    known = config.data.sizes.test
    config.data.sizes.test = known + count
    with tempfile.TemporaryDirectory() as folder:
        config.paths.runs = folder
        made = prepared(config, make=True)
        problems, splits = read_problems(config.data, made["data"])
        tested = {row["pid"] for row in read_jsonl(run / "final/lora/predictions.jsonl")}
        assert tested == set(splits["test"][:known]), "the run's problems are of another generator"
        asked = {pid: problems[pid] for pid in splits["test"][known:]}
        features = FeatureStore(made["features"])
        pictured = [pid for pid, problem in asked.items() if problem.image]
        right = answers(config, run, asked, features)
        shuffled = answers(
            config, run, {pid: asked[pid] for pid in pictured}, Shuffled(features, pictured, 0)
        )
    positions = Counter(problem.answer for problem in asked.values())
    chance = 100 * fmean(1 / len(asked[pid].choices) for pid in pictured)
    return [
        f"{count} further problems: accuracy {percent(right):.1f} %, "
        f"the most frequent choice {100 * max(positions.values()) / count:.1f} %",
        f"{len(pictured)} of them with images: {percent({pid: right[pid] for pid in pictured}):.1f} %, "
        f"with another problem's image {percent(shuffled):.1f} %, chance {chance:.1f} %",
    ]


def answers(config: Config, run: Path, problems: dict[str, Problem], features: Features) -> dict[str, bool]:
    """Whether the run's last policy and its adapter answer each problem rightly, given its own rationale."""
    folder = run / f"round-{config.rounds}/sft/policy"
    policy, tokenizer = load_policy(folder, dropout=0.0, features=True), load_tokenizer(folder)
    settings: dict[str, Any] = {
        "max_input_tokens": config.text.max_input_tokens,
        "batch_size": config.generate.batch_size,
    }
    rationales = greedy_rationales(
        policy,
        tokenizer,
        examples_of(problems, problems, "QCM-E", config),
        features,
        max_new_tokens=config.generate.max_new_tokens,
        label="rationales",
        **settings,
    )
    own = {row.pid: row.text for row in rationales}
    outputs = greedy_rationales(
        PeftModel.from_pretrained(policy, run / "final/lora/adapter"),
        tokenizer,
        examples_of(problems, problems, "QCMG-A", config, own),
        features,
        max_new_tokens=config.lora.max_output_tokens,
        label="answers",
        **settings,
    )
    return {row.pid: predict(problems[row.pid], own[row.pid], row.text).correct for row in outputs}


def percent(right: dict[str, bool]) -> float:
    """The share of right answers."""
    return 100 * fmean(right.values())


if __name__ == "__main__":
    main()
