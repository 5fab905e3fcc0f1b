"""The memory of a device against what the steps of a run need, and the settings that need less."""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from ares.config.compose import folder, options, to_config, to_plain
from ares.config.schema import Config
from ares.doctor.findings import Finding
from ares.doctor.requirements import GIB, memory_of, model_of
from ares.steps.common.contract import specs_of

if TYPE_CHECKING:
    from ares.models.memory import ModelSize

# The setting that limits a step's memory; micro_batch_size of its own block for the others.
_BATCH_SETTINGS = {
    "rollout": "rl.generation_batch",
    "ppo": "rl.micro_batch_size",
    "generate": "generate.batch_size",
}


def check_memory(config: Config, steps: Sequence[str]) -> Iterator[Finding]:
    """The memory that each device step needs against that of the smallest device."""
    model = model_of(config)
    if model is None:
        text = "the model's size is unknown until it is downloaded"
        yield Finding("note", "memory", text, "give a folder: model.init=<folder>")
        return
    found = gpus() if config.trainer.accelerator != "cpu" else []
    where, limit = ("a GPU", min(m for _, m in found)) if found else ("this machine", machine_memory())
    steps = list(specs_of(steps))
    needs = _needs(config, model, steps)
    if not needs:
        return
    listed = ", ".join(f"{step} {gib:.1f}" for step, gib in needs.items())
    text = (
        f"about GiB per device, {model.parameters / 1e6:.0f} M weights, strategy={config.strategy.name}, "
        f"{config.trainer.precision}: {listed}; {where} has {limit / GIB:.0f}"
    )
    if max(needs.values()) > limit / GIB:
        yield Finding("problem", "memory", text, _remedy(config, needs, limit / GIB))
    else:
        yield Finding("ok", "memory", text)
    others = ", ".join(_alternatives(config, steps))
    yield Finding(
        "ok", "memory", f"of other runs, the largest step with {' / '.join(options('strategy'))}: {others}"
    )


def _needs(config: Config, model: "ModelSize", steps: Sequence[str]) -> dict[str, float]:
    """GiB per device of each device step."""
    return {step: memory.total for step, memory in memory_of(config, model).items() if step in steps}


def _remedy(config: Config, needs: Mapping[str, float], limit: float) -> str:
    """The settings that reduce memory, from the one that costs least, up to the first with which all steps fit."""
    tried: list[str] = []
    for key, value in _savings(config, [step for step, gib in needs.items() if gib > limit]):
        other = _changed(config, key, value)
        model = model_of(other)
        assert model is not None
        less = _needs(other, model, list(needs))
        if any(less[step] < gib for step, gib in needs.items() if gib > limit):
            config, needs, tried = other, less, [*tried, f"{key.removesuffix('.name')}={value}".lower()]
        if max(needs.values()) <= limit:
            return f"set {' '.join(tried)}, which needs {max(needs.values()):.1f} GiB (docs/memory.md)"
    least = f"even with {' '.join(tried)} it needs {max(needs.values()):.1f} GiB"
    return f"use larger devices or a smaller model: {least if tried else 'no setting helps'} (docs/memory.md)"


def _savings(config: Config, over: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Settings that need less memory and their values, for steps that need too much."""
    yield "trainer.activation_checkpointing", True
    for step in over:
        key = _BATCH_SETTINGS.get(step, f"{step}.micro_batch_size")
        tokens = getattr(getattr(config, key.split(".")[0]), "micro_batch_tokens", None)
        if tokens is not None and key.endswith("micro_batch_size"):
            key = key.replace("size", "tokens")  # which divides the batch instead
        yield key, 1
    arguments = config.model.arguments
    if arguments.get("quantization") == "none" and arguments["lora"]["r"]:
        yield "model.quantization", "nf4"
    if config.strategy.name == "ddp":
        yield "strategy.name", "fsdp"


def _changed(config: Config, key: str, value: Any) -> Config:
    config = copy.deepcopy(config)
    block, name = key.split(".")
    if block == "model":
        config.model.arguments[name] = value
    else:
        setattr(getattr(config, block), name, value)
    return config


def _alternatives(config: Config, steps: Sequence[str]) -> Iterator[str]:
    """GiB per device for each strategy, by model of the same kind, with the models' own batch sizes."""
    for name in options("model"):
        settings = _settings_of(name)
        if settings.model._target_ != config.model._target_:
            continue
        plain: dict[Any, Any] = {**to_plain(config), "model": {}}
        other = to_config(OmegaConf.merge(plain, settings))
        if (model := model_of(other)) is None:
            continue
        found = []
        for strategy in options("strategy"):
            group = OmegaConf.load(folder() / "strategy" / f"{strategy}.yaml")
            other.strategy.name, other.trainer.devices = strategy, group.trainer.devices
            found.append(max(_needs(other, model, steps).values()))
        yield f"{name} {' / '.join(f'{gib:.1f}' for gib in found)}"


@cache
def _settings_of(model: str) -> DictConfig:
    """The settings of a file in conf/model, with those of the files that it builds on."""
    found: Any = OmegaConf.load(folder() / "model" / f"{model}.yaml")
    for base in found.pop("defaults", []):
        if isinstance(base, str) and base != "_self_":
            found = OmegaConf.merge(_settings_of(base), found)
    return found


def gpus() -> list[tuple[str, int]]:
    """Name and bytes of each visible GPU."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [(properties.name, properties.total_memory) for properties in found]


def machine_memory() -> int:
    """Bytes of this machine's main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
