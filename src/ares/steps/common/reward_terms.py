"""The terms of the reward that RL adds to sentence scores, and the reward model that some of them need."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.evaluation.answers import answer_in
from ares.models.reward_settings import RewardSettings
from ares.steps.common.contract import StepContext
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from ares.models.policy import Policy
    from ares.storage.flat import FlatRollouts

_LEAST = 1e-4  # scores of a learned Teacher have four decimals


def needs_reward_model(config: Config) -> str:
    """The setting of RL that needs a reward model itself, "" if none does."""
    if config.rl.value_init == "reward":
        return "rl.value_init=reward"
    return "rl.rewards.reward_model" if config.rl.rewards.reward_model else ""


def reward_model_of(config: Config) -> dict[str, tuple[Path, str]]:
    """The reward model of teacher=learned, with its hash, where RL needs it itself."""
    if not needs_reward_model(config) or config.teacher.name != "learned":
        return {}
    from ares.teachers.offline.learned import reward_folder

    folder = reward_folder(config.teacher.arguments.get("path"), config.paths.runs)
    return {"reward": (folder, RewardSettings.read(folder).hash)}


def check_vocabulary(policy: "Policy", folder: Path) -> None:
    """Raises AresError where a reward model does not read the policy's tokens."""
    from ares.models.reward import vocabulary_of

    if RewardSettings.read(folder).vocabulary != vocabulary_of(policy.tokenizer):
        raise AresError(
            f"rl.value_init=reward: the reward model in {folder} has another tokenizer than the policy, whose tokens it "
            "cannot value; train one on the policy's own base, or use rl.value_init=policy."
        )


def reward_terms(
    config: Config,
    context: StepContext,
    problems: Mapping[str, Problem],
    policy: "Policy",
    rollouts: "FlatRollouts",
    scores: Mapping[str, Sequence[float]],
) -> dict[str, list[float]]:
    """The further terms of each rollout's reward (see `ares.rl.rewards.response_rewards`)."""
    from ares.rl.rewards import response_rewards

    offsets = rollouts.offsets

    def correct() -> list[bool]:
        texts = [policy.decode(rollouts.token_ids[start:end].tolist()) for start, end in pairwise(offsets)]
        asked = [problems[pid] for pid in rollouts.pids]
        pairs = zip(asked, texts, strict=True)
        return [answer_in(problem, text, config.data.checker)[1] for problem, text in pairs]

    def learned() -> list[float]:
        pool = RewardSettings.read(context.inputs["reward"]).pool
        return [_pooled(scores.get(row_id, ()), pool) for row_id in rollouts.row_ids]

    return response_rewards(
        config.rl.rewards,
        truncated=rollouts.truncated,
        lengths=(offsets[1:] - offsets[:-1]).tolist(),
        limit=config.rl.max_new_tokens,
        repetition=rollouts.repetition,
        correct=correct,
        learned=learned,
    )


def _pooled(scores: Sequence[float], pool: str) -> float:
    """The logit that a reward model gives a rationale, from its scores of the sentences; 0 without any."""
    bounded = [min(max(score, _LEAST), 1 - _LEAST) for score in scores]
    logits = [math.log(score / (1 - score)) for score in bounded]
    return 0.0 if not logits else logits[-1] if pool == "last" else fmean(logits)
