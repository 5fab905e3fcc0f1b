"""A reward model as the Teacher, on the sample: `python -m benchmarks.learned_teacher [--seeds 0 1 2]`.

Each seed has three runs in `--runs`, which can be resumed and looked at alone: first (a round of ARES with the noisy
oracle, and a reward model of its scores), and two copies of it that go on with a second round: paid, with the oracle
again, and learned, with the reward model. Prints how well the reward model agrees with the exact truth of rationales of
test questions, k of each, sampled from the policy that wrote the rollouts; and by how much each second round raises the
exact score of greedy rationales of test questions (`benchmarks/objectives.py`), after its RL and at its end.
"""

import argparse
import asyncio
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from ares.config.schema import Config
from ares.data.sample.oracle import TRUE, label_sentences
from ares.evaluation.agreement import auc, calibration_error, spearman
from ares.models.inputs import Sampling
from ares.pipeline.manifest import read_manifest
from ares.pipeline.runner import run_folder
from ares.steps.common.asking import make_teacher
from ares.steps.prepare import prepared
from ares.teachers.base import Teacher
from ares.teachers.offline.learned import LearnedTeacher
from ares.teachers.offline.oracle import SCORES
from ares.teachers.parsing import FeedbackError
from ares.text.prompts import strip_solution
from ares.text.sentences import sentences_of
from ares.types import Problem
from benchmarks.objectives import loaded, measured, train

ROUND = "rationale,rollout,score,ppo,round/generate,correct,sft"
AFTER = {"RL": "round-2/ppo", "the round": "round-2/sft"}
SHOWN = ("score", "supporting", "steps", "false", "invented", "answer", "tokens", "kl_rationale")


def main() -> None:
    """Runs what is missing, prints the tables and writes them to `learned_teacher.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/learned-teacher"))
    parser.add_argument(
        "--experiment", choices=("demo", "claims"), default="demo", help="whose settings to start from"
    )
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("settings", nargs="*", help="further settings of every run")
    args = parser.parse_args()
    models: dict[int, dict[str, float]] = {}
    policies: dict[int, dict[str, dict[str, float]]] = {}
    for seed in args.seeds:
        runs = (f"paths.runs={args.runs}", "sweep.of=learned-teacher", "sweep.share=all")
        common = (f"experiment={args.experiment}", "stage=ares", f"seed={seed}", *runs, *args.settings)
        first = train(*common, f"stage.steps=[{ROUND},reward]", f"run=first-{seed}")
        step = read_manifest(run_folder(first))["round-1/reward"]
        model = run_folder(first) / step.outputs["reward"].path
        models[seed] = agreement_with_truth(first, model, args.questions)
        print(seed, models[seed], flush=True)
        if not (args.runs / f"learned-{seed}").exists():
            shutil.copytree(args.runs / f"first-{seed}", args.runs / f"learned-{seed}")
        second = (*common, f"stage.steps=[{ROUND}]", "rounds=2")
        paid = train(*second, f"run=paid-{seed}")
        teacher = ("teacher=learned", f"teacher.path={model}", "on_change=keep")
        learned = train(*second, *teacher, f"run=learned-{seed}")
        policies[seed] = measures({"paid": paid, "learned": learned}, args.questions)
        print(seed, policies[seed], flush=True)
    text = "\n\n".join(tables(models, policies))
    print(text)
    (args.runs / "learned_teacher.md").write_text(text + "\n")
    found = {"reward models": models, "policies": policies}
    (args.runs / "learned_teacher.json").write_text(json.dumps(found, indent=1) + "\n")


def agreement_with_truth(config: Config, model: Path, questions: int) -> dict[str, float]:
    """How well the scores of a reward model, and those of the Teacher, agree with the exact truth."""
    start = read_manifest(run_folder(config))["rationale"]
    problems, [policy], inputs = loaded(config, [start], questions)
    k = config.rl.k
    samples = policy.sample(inputs, k=k, max_new_tokens=config.rl.max_new_tokens, seed=0, sampling=Sampling())
    texts = [strip_solution(sentences_of(policy.decode(sample.ids))) for sample in samples]
    rationales = [texts[first : first + k] for first in range(0, len(texts), k)]
    labels = [
        label
        for problem, own in zip(problems, rationales, strict=True)
        for sentences in own
        for label in label_sentences(problem.truth, sentences)
    ]
    learned = LearnedTeacher(str(model), features=prepared(config, make=False)["features"])
    predicted, given = (
        asyncio.run(scores(teacher, problems, rationales)) for teacher in (learned, make_teacher(config))
    )
    exact = [SCORES[label] for label in labels]
    return {
        "questions": len(problems),
        "sentences": len(exact),
        "spearman": spearman(exact, predicted),
        "auc": auc([label in TRUE for label in labels], predicted),
        "calibration error": calibration_error(predicted, exact),
        "spearman of the Teacher": spearman(exact, given),
    }


async def scores(
    teacher: Teacher, problems: Sequence[Problem], rationales: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """A Teacher's scores of all sentences of each problem's rationales."""
    asked = zip(problems, rationales, strict=True)
    found = await asyncio.gather(*(teacher.score(problem, own) for problem, own in asked))
    flat: list[float] = []
    for result in (result for own in found for result in own):
        if isinstance(result.scores, FeedbackError):
            raise result.scores
        flat += result.scores
    return flat


def measures(runs: dict[str, Config], questions: int) -> dict[str, dict[str, float]]:
    """The measures of the policies before the second round, and after its RL and at its end with each Teacher."""

    def policy(config: Config, key: str) -> dict[str, float]:
        entries = read_manifest(run_folder(config))
        return measured(config, entries[key], entries["rationale"], questions)

    found = {"before": policy(runs["paid"], "round-1/sft")}
    for name, key in AFTER.items():
        found |= {f"{teacher}, after {name}": policy(config, key) for teacher, config in runs.items()}
    return found


def tables(
    models: Mapping[int, Mapping[str, float]], policies: Mapping[int, Mapping[str, Mapping[str, float]]]
) -> Iterator[str]:
    """The reward models; how much of the paid gain the learned Teacher restores; the policies, means over seeds."""
    names = [*next(iter(models.values()))]
    yield table(("seed", *names), [[str(seed), *own.values()] for seed, own in models.items()])
    rows: list[list[float | str]] = []
    for name in AFTER:
        arms = ("before", f"paid, after {name}", f"learned, after {name}")
        scores = {str(seed): [own[arm]["score"] for arm in arms] for seed, own in policies.items()}
        means = {"mean": [fmean(values) for values in zip(*scores.values(), strict=True)]}
        for seed, (before, paid, learned) in (scores | means).items():
            share = (learned - before) / (paid - before) if paid != before else math.nan
            rows.append([f"{seed}, after {name}", before, paid, learned, share])
    yield table(("seed", "before", "paid", "learned", "restored gain"), rows)
    kept = [*policies.values()]
    rows = [[arm, *(fmean(own[arm][name] for own in kept) for name in SHOWN)] for arm in kept[0]]
    yield table(("policy", *SHOWN), rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[float | str]]) -> str:
    """A Markdown table; floats have three decimals."""
    cells = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *cells))


if __name__ == "__main__":
    main()
