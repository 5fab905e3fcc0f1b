"""Which steps a stage runs, where each writes, what it reads, and which part of the configuration it depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ares.config.schema import Config
from ares.steps.common.asking import make_teacher
from ares.steps.judge import other_rationales
from ares.storage.files import sha256_file

ROLLOUT_KEYS = (
    "questions",
    "k",
    "top_k",
    "top_p",
    "temperature",
    "max_new_tokens",
    "questions_per_part",
    "generation_batch",
    "reference",
)
# What the jobs of a sweep make once for all of them, where they agree on its settings and inputs.
SHARED = ("rationale", "rationale/assess", "round-1/rollouts", "round-1/score")
SPLITS_OF_FINAL = ("train", "val", "test")


@dataclass(frozen=True)
class Step:
    """One arrow. `inputs` maps an artefact's name to its path inside the run folder, `outputs` likewise."""

    name: str
    key: str
    round: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def folder(self) -> str:
        """The folder, inside the run folder, that the step writes to."""
        return (
            self.key
            if self.name in ("rollout", "ppo", "sft", "lora", "rationale")
            else self.key.rsplit("/", 1)[0]
        )


JUDGE = Step(
    "judge",
    "final/judge",
    0,
    {f"rationales-{split}": f"final/rationales-{split}.parquet" for split in SPLITS_OF_FINAL},
    {"verdicts": "final/verdicts.parquet"},
)


def _policy_after(number: int) -> str:
    """The policy that a round leaves; round 0 is the fine-tuning to write rationales."""
    return f"round-{number}/sft/policy" if number else "rationale/policy"


def _round(number: int) -> list[Step]:
    """The steps of a round. The value model is handed on from the round before, which the first has not."""
    at, policy = f"round-{number}", _policy_after(number - 1)
    value = {"value": f"round-{number - 1}/ppo/value"} if number > 1 else {}
    rollouts = {"rollouts": f"{at}/rollouts"}
    feedback = {"feedback": f"{at}/feedback.parquet"}
    trained = {"policy": f"{at}/ppo/policy", "value": f"{at}/ppo/value"}
    written = {"assessment": f"{at}/assessment.jsonl"}
    greedy = {"rationales": f"{at}/rationales-train.parquet"}
    corrections = {"corrections": f"{at}/corrections.parquet"}
    repaired = {"policy": trained["policy"], **corrections}
    return [
        Step("rollout", f"{at}/rollouts", number, {"policy": policy, "initial": _policy_after(0)}, rollouts),
        Step("score", f"{at}/score", number, rollouts, feedback),
        Step("ppo", f"{at}/ppo", number, {"policy": policy, **value, **rollouts, **feedback}, trained),
        Step("assess", f"{at}/assess", number, {"policy": trained["policy"]}, written),
        Step("generate", f"{at}/generate", number, {"policy": trained["policy"]}, greedy),
        Step("correct", f"{at}/correct", number, greedy, corrections),
        Step("sft", f"{at}/sft", number, repaired, {"policy": _policy_after(number)}),
    ]


def full_plan(rounds: int) -> list[Step]:
    """All steps of `stage=ares`, in order; every other stage but judge is a part of it."""
    initial = {"policy": _policy_after(0)}
    steps = [
        Step("rationale", "rationale", 0, {}, initial),
        Step("assess", "rationale/assess", 0, initial, {"assessment": "rationale/assessment.jsonl"}),
    ]
    for number in range(1, rounds + 1):
        steps += _round(number)
    policy = _policy_after(rounds)
    rationales = {f"rationales-{split}": f"final/rationales-{split}.parquet" for split in SPLITS_OF_FINAL}
    lora = {"adapter": "final/lora/adapter", "predictions": "final/lora/predictions.jsonl"}
    steps += [
        Step("generate", "final/generate", 0, {"policy": policy}, rationales),
        Step(
            "assess",
            "final/assess",
            0,
            {"rationales-val": rationales["rationales-val"]},
            {"assessment": "final/assessment.jsonl"},
        ),
        Step("lora", "final/lora", 0, {"policy": policy, **rationales}, lora),
        Step(
            "evaluate",
            "final/evaluate",
            0,
            {**rationales, "predictions": lora["predictions"]},
            {"scores": "final/scores.json"},
        ),
    ]
    return steps


def select(steps: list[Step], stage: str, names: list[str]) -> list[Step]:
    """The steps of a stage: all of `ares`, judge alone, else those of the first round and the final ones by name.

    `generate` alone is the final one (all splits), the round's belongs to `correct`; `assess` alone is the final one,
    the others belong to `rl`.
    """
    if stage == "ares":
        return steps
    if stage == "judge":
        return [JUDGE]
    chosen = [step for step in steps if step.name in names and step.round <= 1]
    final = {"generate": stage != "correct", "assess": stage != "rl"}
    return [s for s in chosen if s.name not in final or s.key.startswith("final/") == final[s.name]]


def steps_of(config: Config) -> list[Step]:
    """The steps of the configured stage, in order.

    A policy that is named takes the place of rationale's, published answers that of all that evaluate reads of a run.
    """
    steps = select(full_plan(config.rounds), config.stage.name, list(config.stage.steps))
    if config.evaluate.predictions:
        steps = [replace(step, inputs={}) if step.name == "evaluate" else step for step in steps]
    return [step for step in steps if step.name != "rationale"] if config.policy else steps


def published_of(step: Step, config: Config) -> str | None:
    """The folder of the original's predictions that a step reads, if it does: an input, known by its content."""
    folders = {"generate": config.generate.predictions, "evaluate": config.evaluate.predictions}
    return folders.get(step.name)


def settings_of(step: Step, config: Config) -> dict[str, Any]:
    """The part of the configuration that decides the step's result, and so enters its hash."""
    common = {
        "seed": config.seed,
        "text": vars(config.text),
        "precision": config.trainer.precision,
        "features": _named(config.features),
    }
    generation = {key: value for key, value in vars(config.generate).items() if key != "predictions"}
    rollout = {key: getattr(config.rl, key) for key in ROLLOUT_KEYS}
    own: dict[str, Any] = {
        "rationale": {
            **common,
            "model": config.model,
            "tokenizer": vars(config.tokenizer),
            "rationale": vars(config.rationale),
            "generate": generation,
        },
        "rollout": {**common, "rl": rollout},
        "score": {"teacher": _teacher(config), "text": vars(config.text)},
        "ppo": {
            **common,
            "rl": {k: v for k, v in vars(config.rl).items() if k not in (*ROLLOUT_KEYS, "eval_questions")},
        },
        "assess": {
            **common,
            "generate": generation,
            "rl": {"eval_questions": config.rl.eval_questions},
            "evaluate": {"similarity_model": config.evaluate.similarity_model},
        },
        "generate": {**common, "generate": generation},
        "correct": {"teacher": _teacher(config), "correct": vars(config.correct)},
        "sft": {**common, "sft": vars(config.sft), "generate": generation},
        "lora": {**common, "lora": vars(config.lora), "evaluate": {"split": config.evaluate.split}},
        "evaluate": {"evaluate": {k: v for k, v in vars(config.evaluate).items() if k != "predictions"}},
    }
    if step.name == "judge":
        against = sha256_file(other_rationales(config))
        return {"judge": {**vars(config.judge), "against": against}, "teacher": _teacher(config)}
    return own[step.name]


def _teacher(config: Config) -> dict[str, Any]:
    # What the Teacher itself says its replies depend on: its prompts' version, its model. Not how many requests
    # are open at once, or what they may cost.
    return {"_target_": config.teacher["_target_"], "fingerprint": make_teacher(config).fingerprint()}


def _named(features: Mapping[str, Any]) -> str:
    # What was extracted is an input with a hash of its own; here only whether images are used at all.
    return "none" if features["_target_"] is None else "used"
