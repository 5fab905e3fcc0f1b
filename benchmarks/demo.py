"""Measures what finished runs of experiment=demo learned, by the exact truth of the sample.

    python train.py -m experiment=demo ... (or demo_vlm, or one run at a time), then
    python benchmarks/demo.py runs/demo [more run folders] [--further 2000]

For each run: the labels of the sentences of held-out rationales before RL, after it and after SFT, and what RL changed in
the same questions (mean and 95 % interval of the paired bootstrap). On further problems that no split of the run holds:
accuracy, compared with always giving the most frequent choice, with and without the right images.
"""

import argparse
import random
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from ares.config.compose import to_config
from ares.config.schema import Config
from ares.data.sample.oracle import LABELS, Label
from ares.engines.hf import greedy_responses
from ares.evaluation.answers import predict
from ares.evaluation.statistics import paired_bootstrap
from ares.models.t5.inputs import Features
from ares.pipeline.manifest import read_manifest
from ares.report.build import policy_name, read_assessments
from ares.steps.common.inputs import examples_of, policy_class
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import read_jsonl
from ares.storage.tables import read_feedback, read_rollouts
from ares.types import Problem, Response
from ares.vision.features import FeatureStore


class Swapped:
    """The features of images, each looked up by the problem of another image (`other`, by pid)."""

    def __init__(self, features: Features, other: dict[str, str]) -> None:
        self.features, self.shape, self.other = features, features.shape, other

    def get(self, pids: Any) -> np.ndarray:
        """(len(pids), P, D) float32."""
        return self.features.get([self.other.get(pid, pid) for pid in pids])


def main() -> None:
    """Prints the results of each run folder."""
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
    return sum(step.seconds for step in read_manifest(run).values())


def learned(run: Path) -> list[str]:
    """The shares of labels per policy, what RL changed, and the spread of the Teacher's scores, one line each."""
    steps = read_manifest(run)
    assessed = read_assessments(run, steps)
    before, after = assessed["rationale/assess"], assessed["round-1/assess"]

    def gain(label: Label) -> str:
        mean, low, high = paired_bootstrap([r.share(label) for r in before], [r.share(label) for r in after])
        return f"{label} {mean:+.3f} [{low:+.3f}, {high:+.3f}]"

    def shares(key: str) -> str:
        metrics = steps[key].metrics
        return f"{policy_name(key)}: " + ", ".join(f"{label} {metrics[label]:.1%}" for label in LABELS)

    return [
        *map(shares, assessed),
        f"RL: {', '.join(map(gain, LABELS))} ({len(before)} questions)",
        f"deviation of the mean score within a question >= 0.1 for {spread(run):.0%} of questions",
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
    """Accuracy on `count` problems after those of the test split, one line each."""
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
        pictured = [pid for pid, problem in asked.items() if problem.image]
        other = dict(zip(pictured, random.Random(0).sample(pictured, len(pictured)), strict=True))
        swapped = {pid: replace(asked[pid], image=None, images=asked[other[pid]].images) for pid in pictured}
        features = FeatureStore(made["features"]) if "features" in made else None
        right = answers(config, run, asked, features)
        shuffled = answers(config, run, swapped, features and Swapped(features, other))
    positions = Counter(problem.answer for problem in asked.values())
    chance = 100 * fmean(1 / len(asked[pid].choices) for pid in pictured)
    return [
        f"{count} further problems: accuracy {percent(right):.1f} %, "
        f"the most frequent choice {100 * max(positions.values()) / count:.1f} %",
        f"{len(pictured)} of them with images: {percent({pid: right[pid] for pid in pictured}):.1f} %, "
        f"with another problem's image {percent(shuffled):.1f} %, chance {chance:.1f} %",
    ]


def answers(
    config: Config, run: Path, problems: dict[str, Problem], features: Features | None
) -> dict[str, bool]:
    """Whether the run's last policy and its adapter answer each problem rightly, given its own rationale."""
    policy = policy_class(config).load(
        run / f"round-{config.rounds}/sft/policy",
        dropout=0.0,
        features=features,
        max_input_tokens=config.text.max_input_tokens,
        newline=config.text.newline,
    )

    def written(prompt_format: str, limit: int, rationales: dict[str, str] | None = None) -> list[Response]:
        return greedy_responses(
            policy,
            examples_of(problems, problems, prompt_format, config, rationales),
            max_new_tokens=limit,
            batch_size=config.generate.batch_size,
            label=prompt_format,
        )

    own = {row.pid: row.text for row in written("QCM-E", config.generate.max_new_tokens)}
    policy = policy.answerer(run / "final/lora/adapter")
    outputs = written("QCMG-A", config.lora.max_output_tokens, own)
    return {row.pid: predict(problems[row.pid], own[row.pid], row.text).correct for row in outputs}


def percent(right: dict[str, bool]) -> float:
    """The share of right answers."""
    return 100 * fmean(right.values())


if __name__ == "__main__":
    main()
