"""Estimates of the device memory and the disk space that a run needs.

They distinguish what cannot work from what can; a run near a limit may go either way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.steps.common.inputs import model_settings, policy_class
from ares.types import Problem

if TYPE_CHECKING:
    from ares.models.policy import ModelSize

GIB = 2**30
_ADAPTER_OF_RANK_1 = 0.1 / 64  # of the weights: rank 64 on all linear layers adds a tenth
_PUBLISHED_IMAGES = {"scienceqa": 10_332, "aokvqa": 24_903}  # A-OKVQA's hub copy: one per question
# By option of conf/features; for timm its default model.
_NUMBERS_PER_IMAGE = {
    "vit": 145 * 1024,
    "timm": 256 * 768,
    "clip": 49 * 2048,
    "detr": 100 * 256,
    "resnet": 2048,
    "patches": 16 * 784,
}


def model_of(config: Config) -> "ModelSize | None":
    """The size of the configured model; None if it would have to be downloaded first."""
    return policy_class(config).size(model_settings(config), config.tokenizer.vocab_size)


@dataclass(frozen=True)
class _Passes:
    """Bytes held by a pass over `rows` prompts of `read` tokens and responses of `written` tokens.

    Activations by Korthikanti et al. 2022: 34 numbers of the model's width per token and layer.
    """

    model: "ModelSize"
    read: int
    number: int  # bytes per number

    def activations(self, rows: int, written: int) -> int:
        # Encoder layers see the prompt, decoder layers the response.
        tokens = rows * (self.read + written) / 2
        return int(tokens * self.model.layers * 34 * self.model.width * self.number)

    def logits(self, rows: int, written: int) -> int:
        return 3 * rows * written * self.model.vocabulary * 4

    def cache(self, rows: int, written: int) -> int:
        return rows * (self.read + written) * self.model.layers * self.model.width * self.number


def memory_of(config: Config, model: "ModelSize") -> dict[str, float]:
    """GiB per device, by step.

    Training holds the weights; for trained weights also gradients, AdamW's two moments and, with more than one
    device, a copy of the gradients; plus activations and three times the logits.
    """
    number = 2 if config.trainer.precision == "bf16-true" else 4
    weights = model.parameters * number
    # fsdp shards only ppo; the steps that train one model use ddp then.
    copies = 4 if config.strategy.name == "single" else 5
    passes = _Passes(model, config.text.max_input_tokens, number)

    def fit(trained: float, rows: int, written: int) -> float:
        held = weights + (copies - 1) * trained
        return held + passes.activations(rows, written) + passes.logits(rows, written)

    rl, sft, lora, first = config.rl, config.sft, config.lora, config.rationale
    found = {
        "rationale": fit(weights, first.micro_batch_size, first.max_output_tokens),
        "rollout": (2 if config.rounds > 1 else 1) * weights
        + passes.cache(rl.generation_batch * rl.k, rl.max_new_tokens),
        "ppo": _ppo(config, passes, weights, copies),
        "sft": fit(weights, sft.micro_batch_size, sft.max_output_tokens),
        "generate": weights + passes.cache(config.generate.batch_size, config.generate.max_new_tokens),
        # All weights of an adapter are trained.
        "lora": _adapter(weights, lora.r)
        + fit(_adapter(weights, lora.r), lora.micro_batch_size, lora.max_output_tokens),
    }
    return {step: value / GIB for step, value in found.items()}


def _adapter(weights: int, rank: int) -> float:
    """Bytes of an adapter on all linear layers."""
    return _ADAPTER_OF_RANK_1 * rank * weights


def _ppo(config: Config, passes: _Passes, weights: int, copies: int) -> float:
    """Bytes per device in ppo, by the options in docs/memory.md."""
    rl = config.rl
    # rloo and grpo train no value model; a shared one is a head on the policy. It has no logits.
    models = 1 if rl.share_trunk or rl.objective != "ppo" else 2
    adapter, devices = _adapter(weights, rl.lora.r), 1
    if config.strategy.name == "fsdp":
        copies, devices = 4, config.trainer.devices * config.trainer.num_nodes
    each = weights + copies * adapter if rl.lora.r else copies * weights
    rows, written = rl.micro_batch_size, rl.max_new_tokens
    return models * (each / devices + passes.activations(rows, written)) + passes.logits(rows, written)


def disk_of(config: Config, model: "ModelSize", steps: Sequence[str]) -> float:
    """GiB of the policies that a run keeps and, during a fit, its checkpoints of weights and two moments."""
    weights = model.parameters * 4 / GIB
    kept = {"rationale": 1, "ppo": 2 * config.rounds, "sft": config.rounds}
    checkpoint = {"ppo": 6, "rationale": 4, "sft": 4}  # the best weights and the last state
    return weights * (
        sum(kept.get(step, 0) for step in steps) + max([checkpoint.get(step, 0) for step in steps], default=0)
    )


def disk_of_features(config: Config, problems: Mapping[str, Problem]) -> float:
    """GiB of the image features of problems, or of the published data set if it is not here yet."""
    images = len({problem.image for problem in problems.values() if problem.image is not None})
    count = images if problems else _PUBLISHED_IMAGES.get(config.data.name, 0)
    return count * _NUMBERS_PER_IMAGE.get(config.features.name, 0) * 4 / GIB
