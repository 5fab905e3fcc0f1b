"""What is impossible in a composed configuration: all mistakes at once, with what to type instead."""

import math
from collections.abc import Iterator
from pathlib import Path

from ares.config.bounds import out_of_bounds, value_at
from ares.config.compose import options
from ares.config.schema import Config
from ares.config.suggestions import suggest
from ares.types import AresError

_CHOICES = {
    "on_change": ("refuse", "rerun", "keep"),
    "text.newline": ("space", "escape"),
    "rl.reference": ("initial", "round"),
    "rl.kl_in": ("loss", "reward"),
    "rl.decay": ("constant", "linear"),
    "rationale.decay": ("constant", "linear"),
    "sft.decay": ("constant", "linear"),
    "lora.decay": ("constant", "linear"),
    "lora.targets": ("all", "paper"),
    "rl.lora.targets": ("all", "paper"),
    "correct.on_quarantine": ("drop", "keep_own"),
    "logger.name": ("csv", "wandb"),
    "trainer.precision": ("32-true", "bf16-mixed", "bf16-true"),
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda"),
    "evaluate.split": ("train", "val", "test"),
    "judge.split": ("train", "val", "test"),
}


def _impossible_values(config: Config) -> Iterator[str]:
    if str(config.trainer.precision) in ("16", "16-mixed", "16-true", "fp16"):
        yield "trainer.precision=16: T5 overflows in float16; use bf16-mixed or 32-true."
    for key, choices in _CHOICES.items():
        value = value_at(config, key)
        if value not in choices and not (key == "trainer.precision" and str(value).startswith("16")):
            yield f"{key}={value}: choose from {', '.join(choices)}.{suggest(str(value), choices)}"
    yield from out_of_bounds(config)
    if config.doctor.stage not in options("stage"):
        yield f"doctor.stage={config.doctor.stage}: there is no such stage.{suggest(config.doctor.stage, options('stage'))}"
    if not config.run.strip("/") or Path(config.run).parts[0] == "shared":
        yield f"run={config.run}: choose another name; `shared` in paths.runs is what runs have in common."


def _impossible_combinations(config: Config) -> Iterator[str]:
    devices = config.trainer.devices * config.trainer.num_nodes
    for name in ("rationale", "rl", "sft", "lora"):
        block = getattr(config, name)
        if min(block.global_batch_size, block.micro_batch_size, devices) < 1:
            continue  # told above
        share, rest = divmod(block.global_batch_size, devices)
        if rest or share == 0:
            yield (
                f"{name}.global_batch_size={block.global_batch_size} cannot be shared by {devices} devices; "
                f"use {max(1, round(block.global_batch_size / devices)) * devices}."
            )
        elif share % min(share, block.micro_batch_size):
            yield (
                f"{name}.global_batch_size={block.global_batch_size} is no multiple of {name}.micro_batch_size="
                f"{block.micro_batch_size} x {devices} devices; use {name}.micro_batch_size={math.gcd(share, block.micro_batch_size)}."
            )
    if config.strategy["name"] == "single" and devices > 1:
        yield f"strategy=single runs on one device, not {devices}; use strategy=ddp or trainer.devices=1."
    if config.strategy["name"] == "fsdp" and (config.rl.lora.r or config.rl.share_trunk):
        yield "strategy=fsdp shards whole models: with rl.lora.r or rl.share_trunk use strategy=ddp."
    asked = config.doctor.stage if config.stage.name == "doctor" else config.stage.name
    if config.evaluate.predictions and asked != "evaluate":
        yield f"evaluate.predictions scores published answers without a model: it is for stage=evaluate, not {asked}."
    if config.data["name"] == "aokvqa" and config.evaluate.split == "test":
        yield (
            "evaluate.split=test: A-OKVQA withholds the answers of its test split; use evaluate.split=val, and "
            "final/lora/leaderboard.json for the test split."
        )


def validate(config: Config) -> None:
    """Raises one AresError that lists every impossible value and combination."""
    found = [*_impossible_values(config), *_impossible_combinations(config)]
    if found:
        raise AresError("\n".join(found))


def warnings_of(config: Config) -> list[str]:
    """What is allowed but seldom meant."""
    found = []
    if config.rl.top_k > 0 or config.rl.top_p < 1.0:
        found.append(
            f"rl.top_k={config.rl.top_k}, rl.top_p={config.rl.top_p}: samples come from a filtered policy while "
            "PPO's probabilities are unfiltered; rl.top_k=0 rl.top_p=1.0 makes them agree."
        )
    if config.rl.temperature != 1.0:
        found.append(
            f"rl.temperature={config.rl.temperature}: samples come from a sharper or flatter policy than the one "
            "PPO's probabilities are of; rl.temperature=1.0 makes them agree."
        )
    if config.rounds > 1 and config.stage.name != "ares":
        found.append(
            f"rounds={config.rounds}: stage={config.stage.name} runs round 1 alone; stage=ares runs all."
        )
    own_reference = config.rl.reference == "round" or config.rounds == 1
    if config.rl.kl_in == "reward" and config.rl.kl_coef > 0 and own_reference:
        found.append(
            "rl.kl_in=reward: the rollout policy is its own reference, so the KL reward is 0 and rl.kl_coef has no "
            "effect; rl.kl_in=loss penalises the divergence at every minibatch."
        )
    return found
