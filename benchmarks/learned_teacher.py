"""A reward model as the Teacher, on the sample: `python benchmarks/learned_teacher.py [--seeds 0 1 2]`.

Each seed has three runs in `--runs`, which can be resumed and looked at alone: first (a round of ARES with the noisy
oracle, and a reward model of its scores), and two copies of it that go on with a second round: paid, with the oracle
again, and learned, with the reward model. Prints how well the reward model agrees with the exact truth of rollouts of
questions that it was not trained on, and by how much each second round raises the exact score of greedy rationales of
test questions (`benchmarks/objectives.py`), after its RL and at its end.
"""

import argparse
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from objectives import measured, train

from ares.config.schema import Config
from ares.data.sample.oracle import TRUE, label_sentences
from ares.evaluation.agreement import auc, calibration_error, spearman
from ares.pipeline.manifest import read_manifest
from ares.pipeline.runner import run_folder
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import read_jsonl
from ares.storage.tables import read_feedback, read_rollouts
from ares.teachers.offline.oracle import SCORES
from ares.text.prompts import strip_solution

ROUND = "rationale,rollout,score,ppo,round/generate,correct,sft"
AFTER = {"RL": "round-2/ppo", "the round": "round-2/sft"}


def main() -> None:
    """Runs what is missing, prints the tables and writes them to `table.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/learned-teacher"))
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("settings", nargs="*", help="further settings of every run")
    args = parser.parse_args()
    runs = (f"paths.runs={args.runs}", "sweep.of=learned-teacher", "sweep.share=all")
    common = ("experiment=demo", "stage=ares", *runs, *args.settings)
    found: list[dict[str, float]] = []
    models = {}
    for seed in args.seeds:
        first = train(*common, f"seed={seed}", f"stage.steps=[{ROUND},reward]", f"run=first-{seed}")
        found.append({"seed": seed, **agreement_with_truth(first)})
        models[seed] = output(first, "round-1/reward", "reward")
        print(found[-1], flush=True)
    for row in found:
        seed = row["seed"]
        learned = args.runs / f"learned-{seed}"
        if not learned.exists():
            shutil.copytree(args.runs / f"first-{seed}", learned)
        second = (*common, f"seed={seed}", f"stage.steps=[{ROUND}]", "rounds=2")
        paid = train(*second, f"run=paid-{seed}")
        teacher = ("teacher=learned", f"teacher.path={models[seed]}", "on_change=keep")
        free = train(*second, *teacher, f"run=learned-{seed}")
        row |= gains({"paid": paid, "learned": free}, args.questions)
        print(row, flush=True)
    text = "\n\n".join(tables(found))
    print(text)
    (args.runs / "table.md").write_text(text + "\n")
    (args.runs / "table.json").write_text(json.dumps(found, indent=1) + "\n")


def output(config: Config, key: str, name: str) -> Path:
    """A file or folder that a step of a run wrote."""
    root = run_folder(config)
    return root / read_manifest(root)[key].outputs[name].path


def agreement_with_truth(config: Config) -> dict[str, float]:
    """How well the reward model's scores of held-out sentences agree with the exact truth, and the Teacher's do."""
    problems, _ = read_problems(config.data, prepared(config, make=False)["data"])
    scored = {row.row_id for row in read_feedback(output(config, "round-1/score", "feedback")) if row.scores}
    labels: dict[str, list[str]] = {}
    for row in read_rollouts(output(config, "round-1/rollouts", "rollouts")):
        if row.row_id in scored:
            own = label_sentences(problems[row.pid].truth, strip_solution(row.sentences))
            labels.setdefault(row.pid, []).extend(own)
    rows = list(read_jsonl(output(config, "round-1/reward", "held-out")))
    exact = [label for row in rows for label in labels[row["pid"]]]
    predicted = [score for row in rows for score in row["predicted"]]
    scores = [SCORES[label] for label in exact]
    return {
        "questions": len(rows),
        "sentences": len(exact),
        "spearman": spearman(scores, predicted),
        "auc": auc([label in TRUE for label in exact], predicted),
        "calibration error": calibration_error(predicted, scores),
        "spearman of the Teacher": spearman(scores, [score for row in rows for score in row["scores"]]),
    }


def gains(runs: dict[str, Config], questions: int) -> dict[str, float]:
    """The mean exact score of a rationale's sentences before the second round, and after its RL and at its end."""

    def score(config: Config, key: str) -> float:
        entries = read_manifest(run_folder(config))
        return measured(config, entries[key], entries["rationale"], questions)["score"]

    found = {"before": score(runs["paid"], "round-1/sft")}
    for name, key in AFTER.items():
        found |= {f"{teacher} after {name}": score(config, key) for teacher, config in runs.items()}
    return found


def tables(found: Sequence[dict[str, float]]) -> Iterator[str]:
    """The reward models, and the second rounds with the share of the paid gain that the learned Teacher restores."""
    names = ("seed", *agreement_names(found))
    yield table(names, [[row[name] for name in names] for row in found])
    rows = []
    for name in AFTER:
        values = [(row["before"], row[f"paid after {name}"], row[f"learned after {name}"]) for row in found]
        means = tuple(map(fmean, zip(*values, strict=True)))
        for seed, own in (*zip([str(row["seed"]) for row in found], values, strict=True), ("mean", means)):
            before, paid, learned = own
            share = (learned - before) / (paid - before) if paid != before else math.nan
            rows.append([f"{seed}, {name}", *own, share])
    yield table(("seed, after", "before", "paid", "learned", "restored gain"), rows)


def agreement_names(found: Sequence[dict[str, float]]) -> list[str]:
    """The measures of the reward model: all that come before the gains."""
    return [name for name in found[0] if name not in ("seed", "before") and " after " not in name]


def table(columns: Sequence[str], rows: Sequence[Sequence[float | str]]) -> str:
    """A Markdown table; floats have three decimals."""
    cells = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *cells))


if __name__ == "__main__":
    main()
