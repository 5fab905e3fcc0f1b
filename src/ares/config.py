"""The configuration's schema, and every complaint about it: all mistakes at once, each with what to type instead."""

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ares.types import AresError, Config

GROUPS = ("stage", "data", "model", "features", "teacher", "strategy", "logger", "experiment", "sweep")
# Free-form blocks: their keys are those of the files of the group.
FREE_FORM = ("data", "model", "features", "teacher", "strategy")


def register_schema() -> None:
    """Stores the typed schema under the name that conf/config.yaml lists first."""
    ConfigStore.instance().store(name="schema", node=Config)


def folder() -> Path:
    """The folder of YAML files: inside an installed package, else at the root of the repository."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def to_config(cfg: DictConfig) -> Config:
    """The composed configuration as typed blocks; free-form blocks become plain dictionaries."""
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[assignment]
    typed = OmegaConf.merge(OmegaConf.structured(Config), cfg)
    return cast(Config, OmegaConf.to_object(typed))


# --------------------------------------------------------------------------------------------------
# The command line, before Hydra sees it
# --------------------------------------------------------------------------------------------------


def options(group: str) -> list[str]:
    """The files of a configuration group, without their ending."""
    return sorted(path.stem for path in (folder() / group).glob("*.yaml"))


def _suggest(word: str, candidates: Sequence[str]) -> str:
    # A misspelt last part is likelier than a wrong block: compare whole keys and, failing that, last parts.
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if not close:
        tails = {candidate.rsplit(".", 1)[-1]: candidate for candidate in candidates}
        close = [tails[tail] for tail in difflib.get_close_matches(word.rsplit(".", 1)[-1], tails, n=1)]
    return f" Did you mean {close[0]!r}?" if close else ""


def _schema_keys(block: Any, prefix: str = "") -> Iterator[str]:
    for item in fields(block):
        value = item.type
        key = prefix + item.name
        yield key
        if isinstance(value, type) and is_dataclass(value):
            yield from _schema_keys(value, key + ".")


def _yaml_keys(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from _yaml_keys(value, f"{prefix}{name}.")


def known_keys() -> list[str]:
    """Every key that an override may name: the schema's and those of the free-form groups' files."""
    keys = set(_schema_keys(Config))
    for group in FREE_FORM:
        for option in options(group):
            path = folder() / group / f"{option}.yaml"
            node = OmegaConf.to_container(OmegaConf.load(path))
            if "@package _global_" in path.read_text():
                node = node[group]  # type: ignore[index, call-overload]
            keys.update(_yaml_keys(node, f"{group}."))
    return sorted(keys)


def _values(override: Override) -> list[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    if override.is_discrete_sweep():
        return list(override.sweep_iterator())
    interval = override.value()
    return [interval.start, interval.end]  # type: ignore[union-attr]


def _problem_with_group(override: Override) -> str | None:
    group = override.key_or_group
    for value in _values(override):
        names = value if isinstance(value, list) else [value]
        for name in names:
            if name is not None and str(name) not in options(group):
                choices = ", ".join(options(group))
                return f"{group}={name}: there is no such {group}; choose from {choices}.{_suggest(str(name), options(group))}"
    return None


def _problem_with_value(override: Override) -> str | None:
    key = override.key_or_group
    if key.split(".")[0] in FREE_FORM:
        return None
    for value in _values(override):
        if isinstance(value, str) and "${" in value:
            continue
        try:
            node = OmegaConf.structured(Config)
            OmegaConf.update(node, key, value)
        except OmegaConfBaseException as error:
            return f"{key}={value}: {str(error).splitlines()[0]}."
    return None


def problems_with(overrides: Sequence[str]) -> list[str]:
    """One sentence for each mistake in a command line's overrides (`key=value`); none if there is none."""
    found: list[str] = []
    keys = known_keys()
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException:
            found.append(
                f"{text!r} is not of the form key=value.{_suggest(text, [f'--{w}' for w in ('help', 'cfg')])}"
            )
            continue
        key = override.key_or_group
        if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
            continue
        if key in GROUPS:
            problem = _problem_with_group(override)
        elif override.is_delete():
            problem = f"{text}: keys cannot be removed; give another value."
        elif key not in keys:
            problem = f"{text}: there is no key {key!r}.{_suggest(key, [*keys, *GROUPS])}"
        else:
            problem = _problem_with_value(override)
        if problem:
            found.append(problem)
    return found


# --------------------------------------------------------------------------------------------------
# The composed configuration
# --------------------------------------------------------------------------------------------------

_CHOICES = {
    "on_change": ("refuse", "rerun", "keep"),
    "text.newline": ("space", "escape"),
    "rl.reference": ("initial", "round"),
    "rl.kl_in": ("loss", "reward"),
    "rl.objective": ("ppo", "rloo", "grpo"),
    "rl.decay": ("constant", "linear"),
    "rationale.decay": ("constant", "linear"),
    "sft.decay": ("constant", "linear"),
    "lora.decay": ("constant", "linear"),
    "lora.targets": ("all", "paper"),
    "rl.lora.targets": ("all", "paper"),
    "correct.on_quarantine": ("drop", "keep_own"),
    "logger.name": ("csv", "wandb"),
    "trainer.precision": ("32-true", "bf16-mixed", "bf16-true"),
}
_AT_LEAST_ONE = (
    "rounds",
    "rl.k",
    "rl.max_new_tokens",
    "rl.questions_per_part",
    "rl.generation_batch",
    "rl.ppo_epochs",
    "rl.global_batch_size",
    "rl.micro_batch_size",
    "rationale.epochs",
    "rationale.micro_batch_size",
    "sft.epochs",
    "sft.micro_batch_size",
    "lora.epochs",
    "lora.micro_batch_size",
    "lora.r",
    "generate.max_new_tokens",
    "generate.batch_size",
    "trainer.devices",
    "trainer.num_nodes",
)
_RANGES = {
    "rl.holdout": (0.0, 0.9),
    "rl.neutral": (0.0, 1.0),
    "rl.gamma": (0.0, 1.0),
    "rl.lam": (0.0, 1.0),
    "rl.top_p": (0.0, 1.0),
    "rl.warmup_fraction": (0.0, 1.0),
}


def _get(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _impossible_values(config: Config) -> Iterator[str]:
    if str(config.trainer.precision) in ("16", "16-mixed", "16-true", "fp16"):
        yield "trainer.precision=16: T5 overflows in float16; use bf16-mixed or 32-true."
    for key, choices in _CHOICES.items():
        value = _get(config, key)
        if value not in choices and not (key == "trainer.precision" and str(value).startswith("16")):
            yield f"{key}={value}: choose from {', '.join(choices)}.{_suggest(str(value), choices)}"
    for key in _AT_LEAST_ONE:
        if _get(config, key) < 1:
            yield f"{key}={_get(config, key)}: it must be at least 1."
    for key, (low, high) in _RANGES.items():
        if not low <= _get(config, key) <= high:
            yield f"{key}={_get(config, key)}: it must lie between {low} and {high}."
    if config.sweep.samples is not None and config.sweep.samples < 1:
        yield f"sweep.samples={config.sweep.samples}: it must be at least 1, or null for every combination."
    if config.rl.lora.r < 0:
        yield f"rl.lora.r={config.rl.lora.r}: it must be 0 (all weights are trained) or more."
    if config.rl.temperature <= 0:
        yield f"rl.temperature={config.rl.temperature}: it must be above 0."


def _impossible_combinations(config: Config) -> Iterator[str]:
    devices = config.trainer.devices * config.trainer.num_nodes
    for name in ("rationale", "rl", "sft", "lora"):
        block = getattr(config, name)
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
    if config.rl.objective != "ppo" and config.rl.share_trunk:
        yield f"rl.share_trunk: rl.objective={config.rl.objective} has no value model that could share one; leave it out."
    if config.rl.objective != "ppo" and config.rl.k < 2:
        yield f"rl.objective={config.rl.objective} compares rationales of one question; use rl.k=2 or more."


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
