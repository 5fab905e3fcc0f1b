"""Objectives of RL and losses on pairs, on the same scored rollouts of the sample: `python benchmarks/objectives.py`.

All arms of a seed start from one policy and share its rollouts, their scores and the pairs of these as files; each is a
run in `--runs`, which can be resumed and looked at alone. Measured on test questions, greedily: the exact truth of a
rationale's sentences (`score`: supporting 1, irrelevant 0.5, others 0), tokens, repeated sentences, and how often it
states the right conclusion, which gives the answer (`answer`); on samples of the arm's own the KL to the first policy in nats; and the wall
time of the fit in the fastest of the seeds. Means over seeds, after ± their standard deviation.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from hydra import compose, initialize_config_dir

from ares.config.compose import folder, register_schema, to_config
from ares.config.schema import Config
from ares.config.validation import validate
from ares.data.sample.generator import read_sample
from ares.data.sample.items import SampleProblem
from ares.data.sample.oracle import label_sentences, parse
from ares.models.inputs import Inputs, Sampling
from ares.models.policy import Policy
from ares.pipeline.manifest import StepEntry, read_manifest
from ares.pipeline.runner import run_folder, run_stage
from ares.rl.masked import pad_right
from ares.steps.common.inputs import examples_of, policy_class
from ares.steps.prepare import prepared
from ares.teachers.offline.oracle import SCORES
from ares.text.prompts import strip_solution
from ares.text.sentences import repetition_rate, sentences_of
from ares.vision.features import FeatureStore

ARMS = {
    **{name: ("ppo", f"rl.objective={name}") for name in ("ppo", "rloo", "grpo")},
    **{
        name: ("pairs,prefer", f"prefer.loss={name}")
        for name in ("dpo", "ipo", "hinge", "ddpo", "kto_pair", "kto", "apo_zero")
    },
}
START = "start"
COLUMNS = (
    "score",
    "supporting",
    "false",
    "invented",
    "repetition",
    "answer",
    "tokens",
    "kl_token",
    "kl_rationale",
)


def main() -> None:
    """Runs what is missing, prints the table and writes it to `objectives.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--runs", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("settings", nargs="*", help="further settings of every run")
    args = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {START: []}
    for seed in args.seeds:
        common = ("experiment=demo", "sweep.of=objectives", "sweep.share=all", f"seed={seed}")
        for arm in args.arms:
            steps, setting = ARMS[arm]
            stage = f"stage.steps=[rationale,rollout,score,{steps}]"
            config = train(
                *common,
                "stage=rl",
                stage,
                setting,
                f"run={arm}-{seed}",
                f"paths.runs={args.runs}",
                *args.settings,
            )
            entries = read_manifest(run_folder(config))
            if arm == args.arms[0]:
                found[START].append(
                    measured(config, entries["rationale"], entries["rationale"], args.questions)
                )
            [fit] = [entry for key, entry in entries.items() if key.endswith(("/ppo", "/prefer"))]
            own = measured(config, fit, entries["rationale"], args.questions)
            found.setdefault(arm, []).append({**own, "seconds": fit.seconds})
            print(f"{arm}-{seed}: {own}", flush=True)
    text = "\n".join(table(found))
    print(text)
    (args.runs / "objectives.md").write_text(text + "\n")
    (args.runs / "objectives.json").write_text(json.dumps(found, indent=1) + "\n")


def train(*settings: str) -> Config:
    """Runs a stage, as train.py does, and returns its configuration; a finished one takes a moment."""
    register_schema()
    with initialize_config_dir(str(folder()), version_base="1.3"):
        config = to_config(compose("config", overrides=list(settings)))
    validate(config)
    run_stage(config)
    return config


def measured(config: Config, fit: StepEntry, start: StepEntry, questions: int) -> dict[str, float]:
    """The measures of the policy that the step `fit` wrote, with its KL from the policy of the step `start`."""
    asked, [policy, reference], inputs = loaded(config, [fit, start], questions)
    written = policy.greedy(inputs, max_new_tokens=config.generate.max_new_tokens)
    rows = [
        {**truth(problem, policy.decode(ids)), "tokens": len(ids)}
        for problem, ids in zip(asked, written, strict=True)
    ]
    means = {name: fmean(row[name] for row in rows) for name in rows[0]}
    return {**means, **divergence(policy, reference, inputs, config.generate.max_new_tokens)}


def loaded(
    config: Config, steps: Sequence[StepEntry], questions: int
) -> tuple[list[SampleProblem], list[Policy], Inputs]:
    """The first test questions, the policies that steps wrote, and the questions as these read them."""
    source = prepared(config, make=False)
    problems, splits = read_sample(source["data"])
    asked = [problems[pid] for pid in splits["test"][:questions]]
    policies = [
        policy_class(config).load(
            run_folder(config) / step.outputs["policy"].path,
            dropout=0.0,
            features=FeatureStore(source["features"]),
            max_input_tokens=config.text.max_input_tokens,
            newline=config.text.newline,
            checkpointing=False,
        )
        for step in steps
    ]
    examples = examples_of(problems, [problem.pid for problem in asked], "QCM-E", config)
    return asked, policies, policies[0].encode(list(examples.values()))


def truth(problem: SampleProblem, text: str) -> dict[str, float]:
    """The exact labels of a rationale's sentences as shares, how many support the answer, and whether one concludes rightly."""
    sentences = strip_solution(sentences_of(text))
    labels = label_sentences(problem.truth, sentences)
    count = max(1, len(labels))
    shares = {name: labels.count(name) / count for name in ("supporting", "false", "invented")}
    score = sum(SCORES[label] for label in labels) / count
    steps = float(labels.count("supporting"))
    right = any(parse(sentence) == problem.truth.steps[-1] for sentence in sentences)
    return {
        "score": score,
        **shares,
        "steps": steps,
        "repetition": repetition_rate(text),
        "answer": float(right),
    }


@torch.no_grad()
def divergence(policy: Policy, reference: Policy, inputs: Inputs, longest: int) -> dict[str, float]:
    """KL(policy || reference) in nats, per token and per rationale: the mean of log π − log π_ref over samples of π."""
    samples = policy.sample(inputs, k=1, max_new_tokens=longest, seed=0, sampling=Sampling())
    ids = pad_right([sample.ids for sample in samples], policy.pad_id)
    lengths = [len(sample.ids) for sample in samples]
    own, other = (model.token_logprobs(inputs, ids, lengths) for model in (policy, reference))
    nats = float((own - other).double().sum())
    return {"kl_token": nats / sum(lengths), "kl_rationale": nats / len(samples)}


def table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """A row per arm in Markdown: shares in percent."""
    lines = [f"| {' | '.join(('objective', *COLUMNS, 'seconds'))} |", f"|{' --- |' * (len(COLUMNS) + 2)}"]
    for arm, seeds in found.items():
        cells = [cell(name, [seed[name] for seed in seeds]) for name in COLUMNS]
        seconds = [seed["seconds"] for seed in seeds if "seconds" in seed]
        lines.append(f"| {' | '.join((arm, *cells, f'{min(seconds):.0f}' if seconds else ''))} |")
    return lines


def cell(name: str, values: Sequence[float]) -> str:
    """Mean ± standard deviation."""
    scale, digits = (1, 3) if name.startswith("kl_") else (1, 1) if name == "tokens" else (100, 1)
    spread = f" ± {scale * stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * fmean(values):.{digits}f}{spread}"


if __name__ == "__main__":
    main()
