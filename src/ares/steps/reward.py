"""reward: a reward model from the Teacher's sentence scores, from pairs of rationales, or from both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ares.config.schema import Config
from ares.data.holdout import is_held_out
from ares.evaluation.agreement import agreement
from ares.ranks import is_first
from ares.steps.common.contract import Place, StepContext, StepResult, StepSpec
from ares.steps.common.fitting import data_arguments
from ares.steps.common.inputs import examples_of, load_problems, policy_of, trainer_arguments
from ares.storage.files import atomic_folder, write_jsonl
from ares.storage.pairs import read_pairs
from ares.storage.tables import read_feedback, read_rollouts
from ares.text.facts import with_facts
from ares.text.prompts import strip_solution
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from ares.datamodules.reward import Labels, RewardData
    from ares.models.reward import RewardModel


def _reads(config: Config, place: Place) -> tuple[str, ...]:
    on, facts = config.reward.on, config.reward.facts
    return (
        *("data", "initial"),
        *(("features",) if "image" in facts else ()),
        *(("rollouts", "feedback") if "scores" in on else ()),
        *(("pairs",) if "pairs" in on else ()),
    )


SPEC = StepSpec(
    name="reward",
    reads=_reads,
    writes=("reward", "held-out"),
    settings=("seed", "text", "model._target_", "reward", "generate.batch_size", "trainer.precision"),
    runs_on="device",
    place="round",
    folder="reward",
    check=lambda config: check_labels(config),
    headline=("heldout/spearman", "heldout/auc", "heldout/pair_accuracy", "heldout/calibration_error"),
)


def reward(config: Config, context: StepContext) -> StepResult:
    """Writes `model/`, and `held-out.jsonl`: given and predicted scores of the sentences of held-out questions."""
    from ares.models.reward import RewardModel
    from ares.modules.reward import RewardModule, measure
    from ares.modules.supervised import run_fit

    problems, _ = load_problems(config, context)
    policy = policy_of(config, context, context.inputs["initial"], dropout=config.reward.dropout)
    model = RewardModel.on(policy, seed=config.seed, likelihood=config.reward.likelihood)
    data = _data(config, problems, model, [*_labels(config, context)])
    metrics = run_fit(
        partial(RewardModule, model, config.reward, metric="val/log_likelihood"),
        data,
        config.reward,
        "val/log_likelihood",
        config.trainer.devices * config.trainer.num_nodes,
        context.checkpoints,
        config.trainer.checkpoint_minutes,
        trainer_arguments(config, context),
    )
    if not is_first():
        return StepResult({})
    folder, held_out = context.folder / "model", context.folder / "held-out.jsonl"
    with atomic_folder(folder) as temporary:
        model.save(temporary, _settings(config, context))
    rows = measure(model, data.val, config.reward)
    write_jsonl(held_out, [{"pid": pid, **asdict(row)} for pid, row in rows])
    found = {f"heldout/{name}": value for name, value in agreement([row for _, row in rows]).items()}
    return StepResult({"reward": folder, "held-out": held_out}, {"loss": metrics["loss"], **found})


def check_labels(config: Config) -> tuple[str, ...]:
    """Raises AresError for a reward model of nothing; no warnings."""
    if not config.reward.on:
        raise AresError("reward.on=[]: name what the reward model is trained on, such as reward.on=[scores].")
    return ()


def _labels(config: Config, context: StepContext) -> Iterator["Labels"]:
    """The scored rationales of each question, and pairs."""
    if "pairs" in config.reward.on:
        yield from _pairs(context.inputs["pairs"])
    if "scores" in config.reward.on:
        scores = {row.row_id: row.scores for row in read_feedback(context.inputs["feedback"]) if row.scores}
        rationales: dict[str, list[tuple[list[str], Sequence[float]]]] = {}
        for row in read_rollouts(context.inputs["rollouts"]):
            if found := scores.get(row.row_id):
                rationales.setdefault(row.pid, []).append((strip_solution(row.sentences), found))
        if not rationales:
            raise AresError(
                f"{context.inputs['feedback']} holds no scores of {context.inputs['rollouts']}, so there is nothing to train "
                "on; its column `reason` says why."
            )
        for pid, own in rationales.items():
            yield pid, [sentences for sentences, _ in own], [found for _, found in own]


def _pairs(path: Path) -> Iterator["Labels"]:
    """Pairs, chosen first. Raises AresError where there is none, or a response is empty or says the same as the other."""
    pairs = read_pairs(path)
    if not pairs:
        raise AresError(
            f"{path} holds no pairs, so there is nothing to train on; make some with stage=pairs."
        )
    for pair in pairs:
        chosen, rejected = (strip_solution(side.sentences) for side in (pair.chosen, pair.rejected))
        if not chosen or not rejected or chosen == rejected:
            fault = "says the same twice" if chosen and rejected else "has an empty response"
            raise AresError(f"{path}: pair {pair.row_id} {fault}, so that neither is better; leave it out.")
        yield pair.pid, [chosen, rejected], None


def _data(
    config: Config, problems: Mapping[str, Problem], model: "RewardModel", labels: "list[Labels]"
) -> "RewardData":
    from ares.datamodules.reward import RewardData

    asked = {pid: with_facts(problems[pid], config.reward.facts) for pid, _, _ in labels}
    examples = examples_of(asked, asked, "QCM-E", config)
    kept: list[Labels] = []
    held_out: list[Labels] = []
    for label in labels:
        (held_out if is_held_out(label[0], config.reward.holdout) else kept).append(label)
    arguments = data_arguments(config, config.reward)
    batches = {
        name: arguments[name] for name in ("micro", "micro_tokens", "accumulate", "eval_batch", "seed")
    }
    return RewardData(
        kept,
        held_out[: config.reward.eval_questions],
        encode=lambda pids: model.policy.encode([examples[pid] for pid in pids]),
        read=partial(model.read, max_tokens=config.reward.max_output_tokens),
        pad_id=model.policy.pad_id,
        **batches,
    )


def _settings(config: Config, context: StepContext) -> dict[str, Any]:
    """What `ares.models.reward.RewardSettings` records of a configuration."""
    from ares.vision.features import FeatureStore

    features = context.inputs.get("features")
    return {
        "model": config.model._target_,
        "text": asdict(config.text),
        "facts": list(config.reward.facts),
        "pool": config.reward.pool,
        "max_output_tokens": config.reward.max_output_tokens,
        "features": list(FeatureStore(features).shape) if features else None,
    }
