"""A reward model against the exact truth about the sample, on the questions that it was not trained on.

python benchmarks/learned_teacher.py <run> [<run whose rollouts are scored>] [--runs runs]
"""

import argparse
import json
from pathlib import Path

from hydra.utils import get_class
from omegaconf import OmegaConf

from ares.config.compose import to_config
from ares.data.holdout import is_held_out
from ares.data.sample.oracle import TRUE, label_sentences
from ares.evaluation.agreement import auc, calibration_error, spearman
from ares.models.reward import RewardModel, RewardSettings
from ares.steps.common.inputs import examples_of
from ares.steps.prepare import prepared, read_problems
from ares.storage.tables import read_rollouts
from ares.teachers.offline.oracle import SCORES
from ares.text.facts import with_facts
from ares.text.prompts import strip_solution
from ares.vision.features import FeatureStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("other", type=Path, nargs="?")
    parser.add_argument("--runs", default="runs")
    asked = parser.parse_args()
    root = Path(asked.runs) / asked.run
    config = to_config(OmegaConf.load(root / "config.yaml"))
    folders = prepared(config, make=False)
    problems, _ = read_problems(config.data, folders["data"])
    settings = RewardSettings.read(root / "round-1/reward/model")
    features = FeatureStore(folders["features"]) if settings.features else None
    reading = {name: settings.text[name] for name in ("max_input_tokens", "newline")}
    policy = get_class(settings.model)
    model = RewardModel.load(policy, root / "round-1/reward/model", features=features, **reading)
    exact, predicted, true = [], [], []
    rollouts = read_rollouts(Path(asked.runs) / (asked.other or asked.run) / "round-1/rollouts")
    for pid in dict.fromkeys(row.pid for row in rollouts if is_held_out(row.pid, config.reward.holdout)):
        asked = {pid: with_facts(problems[pid], settings.facts)}
        own = [strip_solution(row.sentences) for row in rollouts if row.pid == pid]
        [scores] = model.scores(
            [examples_of(asked, asked, "QCM-E", config)[pid]], [model.read(own, max_tokens=512)]
        )
        for sentences, found in zip(own, scores, strict=True):
            labels = label_sentences(problems[pid].truth, sentences)
            exact += [SCORES[name] for name in labels]
            true += [name in TRUE for name in labels]
            predicted += found
    print(
        json.dumps(
            {
                "sentences": len(exact),
                "spearman": round(spearman(exact, predicted), 3),
                "auc": round(auc(true, predicted), 3),
                "calibration_error": round(calibration_error(predicted, exact), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
