"""Estimates of the device memory and the disk space that a run needs.

They distinguish what cannot work from what can; a run near a limit may go either way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ares.config.preference import PreferConfig
from ares.config.schema import Config, FitConfig, RlConfig
from ares.steps.common.inputs import model_settings, policy_class
from ares.types import Problem

if TYPE_CHECKING:
    from ares.models.memory import Memory, ModelSize, Setup

GIB = 2**30
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


def memory_of(config: Config, model: "ModelSize") -> "dict[str, Memory]":
    """GiB per device, by step: prompts as long as `text.max_input_tokens` allows, and the longest responses."""
    from ares.models.memory import Batch, generation_memory

    prompt, rl, generate = config.text.max_input_tokens, config.rl, config.generate
    # The policy that writes the rollouts, and the reference where it is another one.
    held = 2 if config.rounds > 1 and rl.reference == "initial" else 1
    rollouts = Batch(rl.generation_batch * rl.k, prompt, rl.max_new_tokens, samples=rl.k)
    written = Batch(generate.batch_size, prompt, generate.max_new_tokens)
    found = {
        "rationale": _fit(config, model, config.rationale, model.rank),
        "rollout": generation_memory(
            model, rollouts, networks=1 if model.rank else held, adapters=held if model.rank else 0
        ),
        "ppo": _ppo(config, model),
        "reward": _reward(config, model),
        "prefer": _prefer(config, model),
        "sft": _fit(config, model, config.sft, model.rank),
        "generate": generation_memory(model, written, adapters=int(model.rank > 0)),
        "lora": _fit(config, model, config.lora, config.lora.r, idle=model.rank * model.adapted),
    }
    return {step: memory.divided(GIB) for step, memory in found.items()}


def _fit(config: Config, model: "ModelSize", fit: FitConfig, rank: int, *, idle: int = 0) -> "Memory":
    """Bytes of supervised fine-tuning; validation generates with all weights on each device, also with fsdp."""
    from ares.models.memory import Batch, generation_memory, training_memory, weight_bytes

    loaded, setup = _trained(config, model, rank)
    prompt, response = config.text.max_input_tokens, fit.max_output_tokens
    rows = _units(fit, prompt + response)
    training = training_memory(loaded, setup, Batch(rows, prompt, response), idle=idle)
    if setup.shards == 1:
        return training
    writing = generation_memory(loaded, Batch(config.generate.batch_size, prompt, response))
    own = weight_bytes(loaded) / setup.shards
    validation = replace(writing, weights=writing.weights + own, moments=training.moments)
    return max(training, validation, key=lambda memory: memory.total)


def _reward(config: Config, model: "ModelSize") -> "Memory":
    """Bytes of a reward model's fit: a batch has all rationales of its questions."""
    from ares.models.memory import Batch, training_memory

    loaded, setup = _trained(config, model, model.rank)
    fit, rationales = config.reward, max(2, config.rl.k)
    prompt, response = config.text.max_input_tokens, fit.max_output_tokens
    rows = rationales * _units(fit, prompt + rationales * response)
    return training_memory(loaded, setup, Batch(rows, prompt, response), heads=1)


def _ppo(config: Config, model: "ModelSize") -> "Memory":
    """Bytes of ppo, by the options in docs/memory.md."""
    from ares.models.memory import Batch, training_memory

    rl = config.rl
    loaded, setup = _trained(config, model, model.rank or rl.lora.r)
    # rloo and grpo train no value model; a shared one is a head on the policy.
    own_value = rl.objective == "ppo" and not rl.share_trunk
    prompt, response = config.text.max_input_tokens, rl.max_new_tokens
    units = _units(rl, prompt + rl.k * response)
    rows = units if rl.micro_batch_tokens is None else rl.k * units  # tokens do not divide a question
    return training_memory(
        loaded,
        setup,
        Batch(rows, prompt, response),
        networks=2 if own_value and not model.rank else 1,
        trained=2 if own_value else 1,
        heads=int(rl.objective == "ppo"),
    )


def _prefer(config: Config, model: "ModelSize") -> "Memory":
    """Bytes of prefer: two responses per pair, the reference's log-probabilities in a file."""
    from ares.models.memory import Batch, training_memory

    loaded, setup = _trained(config, model, model.rank)
    prompt = config.text.max_input_tokens
    response = max(config.pairs.max_output_tokens, config.rl.max_new_tokens)
    rows = 2 * _units(config.prefer, prompt + 2 * response)
    return training_memory(loaded, setup, Batch(rows, prompt, response))


def _units(block: FitConfig | RlConfig | PreferConfig, longest: int) -> int:
    """How many rows, questions or pairs of `longest` tokens a micro-batch has; at least one, whatever its tokens."""
    tokens = block.micro_batch_tokens
    return block.micro_batch_size if tokens is None else max(1, tokens // longest)


def _trained(config: Config, model: "ModelSize", rank: int) -> "tuple[ModelSize, Setup]":
    """The model as a fit holds it, and how it is trained: fsdp shards where all weights are trained."""
    from ares.models.memory import Setup

    devices = config.trainer.devices * config.trainer.num_nodes
    shards = devices if config.strategy.name == "fsdp" and not rank else 1
    trainer, half = config.trainer, config.trainer.precision == "bf16-true"
    loaded = replace(model, weight=2) if half else model
    setup = Setup(
        rank=rank,
        trained=2 if half else 4 if rank else model.weight,
        mixed=trainer.precision == "bf16-mixed",
        checkpointing=trainer.activation_checkpointing,
        shards=shards,
        replicas=devices > shards,
    )
    return loaded, setup


def disk_of(config: Config, model: "ModelSize", steps: Sequence[str]) -> float:
    """GiB of the policies that a run keeps and, during a fit, its checkpoints of weights and two moments."""
    weights = model.rank * model.adapted * 4 if model.rank else model.parameters * model.weight
    kept = {"rationale": 1, "ppo": 2 * config.rounds, "sft": config.rounds, "reward": 1, "prefer": 1}
    # The last state, the one before, one being written; and the best weights.
    checkpoint = {"ppo": 18, "rationale": 10, "sft": 10, "reward": 10, "prefer": 9}
    copies = sum(kept.get(step, 0) for step in steps) + max(
        [checkpoint.get(step, 0) for step in steps], default=0
    )
    return weights * copies / GIB


def disk_of_features(config: Config, problems: Mapping[str, Problem]) -> float:
    """GiB of the image features of problems, or of the published data set if it is not here yet."""
    images = len({problem.image for problem in problems.values() if problem.image is not None})
    count = images if problems else _PUBLISHED_IMAGES.get(config.data.name, 0)
    return count * _NUMBERS_PER_IMAGE.get(config.features.name, 0) * 4 / GIB
