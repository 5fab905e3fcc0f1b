"""Finds all impossible values and combinations of a composed configuration, with suggestions."""

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ares.config.fields import leaves
from ares.config.schema import Config
from ares.config.values import refusal, shown
from ares.types import AresError

# Temporary files next to a run's folder have longer names than it; file systems allow 255 bytes.
_LONGEST_NAME, _LONGEST_PATH = 200, 1000


def impossible_values(config: Config) -> Iterator[str]:
    """One sentence for each value that is impossible by itself."""
    yield from filter(None, (refusal(*leaf) for leaf in leaves(config)))
    yield from filter(None, [_wrong_run(config)])


def _wrong_run(config: Config) -> str | None:
    """Why the run's name is not that of a folder of its own inside `paths.runs`, None if it is."""
    name, parts = config.run, Path(config.run).parts
    if not name.strip("/"):
        return (
            f"run={name}: a run needs a name, which is that of its folder in paths.runs={config.paths.runs}."
        )
    if parts[:1] == ("shared",):
        return f"run={name}: choose another name; `shared` in paths.runs belongs to all runs."
    if not parts or ".." in parts or Path(name).is_absolute():
        return f"run={name}: a run is a folder inside paths.runs={config.paths.runs}; give a name, or set paths.runs."
    if len(name) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        return f"run={shown(name)}: the name is too long for a folder; give one of at most {_LONGEST_NAME} bytes."
    if not name.isprintable():
        return f"run={name!r}: a name has no line breaks or control characters; choose another."
    return None


def impossible_combinations(config: Config) -> Iterator[str]:
    """One sentence for each combination of settings that is impossible."""
    devices = config.trainer.devices * config.trainer.num_nodes
    in_few_stages = [name for name in ("prefer", "reward", "selftrain") if name in config.stage.steps]
    for name in ("rationale", "rl", "sft", "lora", *in_few_stages):
        block = getattr(config, name)
        if min(block.global_batch_size, block.micro_batch_size, devices) >= 1:
            yield from _batches(name, block.global_batch_size, block.micro_batch_size, devices)
    for name in config.stage.without:
        if name not in config.stage.steps:
            listed = ", ".join(config.stage.steps)
            yield f"stage.without: stage={config.stage.name} has no step {name}; choose from {listed}."
    if config.strategy.name == "single" and devices > 1:
        yield f"strategy=single runs on one device, not {devices}; use strategy=ddp or trainer.devices=1."
    adapted = config.rl.lora.r or config.model.arguments.get("lora", {}).get("r")
    if config.strategy.name == "fsdp" and (adapted or config.rl.share_trunk):
        yield "strategy=fsdp shards full models: with model.lora.r, rl.lora.r or rl.share_trunk use strategy=ddp."
    if config.model.is_own and config.model.reads_images:
        yield from _vision_language(config)
    asked = config.doctor.stage if config.stage.name == "doctor" else config.stage.name
    if config.evaluate.predictions and asked != "evaluate":
        yield f"evaluate.predictions scores published answers without a model; use it with stage=evaluate, not {asked}."
    if config.logger.name == "tensorboard" and not any(map(find_spec, ("tensorboard", "tensorboardX"))):
        yield "logger=tensorboard needs a package: `uv pip install tensorboard`, or use logger=csv."
    if config.data.name == "aokvqa" and config.evaluate.split == "test":
        yield (
            "evaluate.split=test: A-OKVQA withholds the answers of its test split; use evaluate.split=val, and "
            "final/lora/leaderboard.json for the test split."
        )


def _vision_language(config: Config) -> Iterator[str]:
    model, arguments = config.model, config.model.arguments
    if config.lora.r == 0:
        yield "lora.r=0 trains a second full model, which only a T5 can be; use lora.r=64."
    r, quantization = arguments.get("lora", {}).get("r"), arguments.get("quantization", "none")
    if model.init is None and "d_model" not in arguments:
        yield f"model={model.name} needs a model: set model.init=<folder or hub id of a vision-language model>."
    elif model.init is None and r:
        yield f"model.lora.r={r} adapts a pretrained model: set model.init, or model.lora.r=0 to train all weights."
    if r and config.rl.lora.r:
        yield (
            f"rl.lora.r={config.rl.lora.r}: with model.lora.r={r} the policy is an adapter already, which RL trains; "
            "use rl.lora.r=0."
        )
    if arguments.get("dtype", "float32") != "float32" and not r and quantization == "none":
        yield (
            f"model.dtype={arguments['dtype']}: small steps are lost in weights of half precision; with model.lora.r=0 use "
            "model.dtype=float32."
        )
    if quantization != "none" and not r:
        yield (
            f"model.quantization={quantization}: quantized weights cannot be trained; set model.lora.r, or "
            "model.quantization=none."
        )


def _batches(name: str, global_size: int, micro_size: int, devices: int) -> Iterator[str]:
    per_device, rest = divmod(global_size, devices)
    if rest or per_device == 0:
        yield (
            f"{name}.global_batch_size={global_size} cannot be split between {devices} devices; "
            f"use {max(1, round(global_size / devices)) * devices}."
        )
    elif per_device % min(per_device, micro_size):
        yield (
            f"{name}.global_batch_size={global_size} is not a multiple of {name}.micro_batch_size="
            f"{micro_size} x {devices} devices; use {name}.micro_batch_size={math.gcd(per_device, micro_size)}."
        )


def validate(config: Config) -> None:
    """Raises one AresError that lists every impossible value and combination."""
    found = [*impossible_values(config), *impossible_combinations(config)]
    if found:
        raise AresError("\n".join(found))


def warnings_of(config: Config) -> list[str]:
    """Warnings about settings that are possible but rarely intended."""
    found = []
    if config.rl.top_k > 0 or config.rl.top_p < 1.0:
        found.append(
            f"rl.top_k={config.rl.top_k}, rl.top_p={config.rl.top_p}: samples come from a filtered policy while "
            "PPO's probabilities are unfiltered; rl.top_k=0 rl.top_p=1.0 makes them agree."
        )
    if config.rl.temperature != 1.0:
        found.append(
            f"rl.temperature={config.rl.temperature}: samples come from a sharper or flatter policy than the one "
            "PPO computes probabilities with; rl.temperature=1.0 makes them agree."
        )
    if config.rounds > 1 and config.stage.name != "ares" and not config.stage.rounds:
        found.append(
            f"rounds={config.rounds}: stage={config.stage.name} runs round 1 only; stage=ares runs all."
        )
    own_reference = config.rl.reference == "round" or config.rounds == 1
    if config.rl.kl_in == "reward" and config.rl.kl_coef > 0 and own_reference:
        found.append(
            "rl.kl_in=reward: the rollout policy is its own reference, so the KL reward is 0 and rl.kl_coef has no "
            "effect; rl.kl_in=loss penalizes the divergence at every minibatch."
        )
    return found
