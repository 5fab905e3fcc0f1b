"""Opens and writes the folders of vision-language policies.

`policy/` holds a LoRA adapter and names its base or, after training of all weights, a complete model; in both cases the
processor's files and `policy.json` (`VlmSettings`), so that later steps need nothing from conf/model.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import TypeAdapter
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

from ares.models.finite import check_finite
from ares.models.vlm.families import (
    TOWERS,
    parts_of,
)
from ares.models.vlm.messages import Prompts
from ares.models.vlm.processors import model_type_of, open_processor, reader_of
from ares.models.vlm.quantization import keep_differentiable, nf4
from ares.models.vlm.reader import VlmReader
from ares.models.vlm.tiny import build_tiny
from ares.models.weights import POLICY_FILE, opening, without_bars
from ares.storage.failures import expected
from ares.storage.files import hash_of, read_object, sampled_sha256, sha256_file, write_json
from ares.types import AresError


@dataclass(frozen=True)
class LoraSettings:
    """The adapter of a policy: rank (0: all weights are trained), scale, layers, and whether vision is trained, too.

    `targets` is a regular expression of module names, None for the linear layers of the language model.
    """

    r: int
    alpha: int
    targets: str | None
    vision: bool


@dataclass(frozen=True)
class VlmSettings:
    """What a policy's folder records besides weights: `base` (a folder or hub id; None: the folder itself) and reading."""

    base: str | None
    fingerprint: str | None
    dtype: Literal["float32", "bfloat16", "auto"]
    quantization: Literal["none", "nf4"]
    max_pixels: int | None
    prompts: Prompts
    lora: LoraSettings

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """The settings that conf/model describes."""
        base = settings["init"]
        return cls(
            base=base,
            fingerprint=fingerprint(base) if base else None,
            dtype=settings["dtype"],
            quantization=settings["quantization"],
            max_pixels=settings["max_pixels"],
            prompts=Prompts.of(settings["prompts"]),
            lora=LoraSettings(**settings["lora"]),
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The settings in a policy's folder. Raises AresError where it has none, or its base is another one by now."""
        if not (folder / POLICY_FILE).is_file():
            config = folder / "config.json"
            if config.is_file() and "vision_config" not in (found := read_object(config)):
                raise AresError(
                    f"{folder} holds no vision-language model (its model_type is {found.get('model_type')}); use the "
                    "model option that it belongs to, such as model=base."
                )
            raise AresError(
                f"{folder} holds no policy of a vision-language model (there is no {POLICY_FILE}); to start from a "
                "pretrained model, set model.init to its folder or hub id and begin with stage=rationale."
            )
        found = read_object(folder / POLICY_FILE)
        with expected(folder / POLICY_FILE, "copy the folder again"):
            settings = TypeAdapter(cls).validate_json(json.dumps(found), strict=True)
        if settings.base and (folder / settings.base / "config.json").is_file():  # see `bundle_policy`
            settings = replace(settings, base=str(folder / settings.base))
        if settings.base and fingerprint(settings.base) != settings.fingerprint:
            raise AresError(
                f"{settings.base} is not the model that the adapter in {folder} was trained on: its files have "
                "changed; put them back, or train afresh."
            )
        return settings

    def write(self, folder: Path) -> None:
        """Writes `policy.json`."""
        write_json(folder / POLICY_FILE, asdict(self))

    def complete(self) -> Self:
        """The settings of a folder that holds all weights."""
        return replace(self, base=None, fingerprint=None, quantization="none")


def fingerprint(base: str) -> str:
    """A hash of a model's configuration and of samples of its weight files, or the hub's commit."""
    folder = Path(base)
    if not folder.is_dir():
        with opening(f"model.init={base} cannot be opened", "give a folder, or the id of a model on the hub"):
            return str(AutoConfig.from_pretrained(base)._commit_hash)
    if not (folder / "config.json").is_file():
        raise AresError(f"model.init={base} is a folder without a config.json; give the folder of a model.")
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    return hash_of(
        [sha256_file(folder / "config.json"), [[file.name, sampled_sha256(file)] for file in weights]]
    )


def open_network(path: str | Path, settings: VlmSettings, *, dropout: float = 0.0) -> nn.Module:
    """The network of a folder or hub id, in eval mode; `dropout` is its attention's where no adapter is trained instead.

    Raises AresError for files that are no vision-language model, weights that are not finite, and nf4 without bitsandbytes.
    """
    arguments: dict[str, Any] = {
        "dtype": "auto" if settings.dtype == "auto" else getattr(torch, settings.dtype)
    }
    if settings.quantization == "nf4":
        arguments["quantization_config"] = nf4(arguments["dtype"])
    remedy = "give the folder or hub id of a vision-language model (AutoModelForImageTextToText)"
    bars = without_bars() if Path(path).is_dir() else nullcontext()  # but those of a download
    with opening(f"{path} cannot be opened", remedy), warnings.catch_warnings(), bars:
        config = AutoConfig.from_pretrained(path)
        config.get_text_config().attention_dropout = 0.0 if settings.lora.r else dropout
        network = AutoModelForImageTextToText.from_pretrained(path, config=config, **arguments).eval()
    # Without the checkpoint's filters, such as Qwen's repetition penalty: generate adds them to ours.
    known = network.generation_config
    network.generation_config = GenerationConfig(
        bos_token_id=known.bos_token_id, eos_token_id=known.eos_token_id, pad_token_id=known.pad_token_id
    )
    check_finite(network.named_parameters(), f"The model in {path}")
    keep_differentiable(network)
    return network


def save_model(network: Any, settings: VlmSettings, folder: Path) -> None:
    """Writes a complete model, with dropout 0, and its `policy.json`. Raises AresError for weights that are not finite."""
    check_finite(network.named_parameters(), "The policy")
    network.config.get_text_config().attention_dropout = 0.0
    network.save_pretrained(folder)
    settings.complete().write(folder)


def freeze(network: nn.Module, settings: LoraSettings) -> None:
    """Freezes all weights of a network that an adapter trains; otherwise the vision tower, unless it is trained, too."""
    network.requires_grad_(settings.r == 0)
    if settings.r == 0 and not settings.vision:
        for tower in parts_of(network, TOWERS):
            tower.requires_grad_(False)


def start_network(
    own: VlmSettings,
    settings: Mapping[str, Any],
    texts: Sequence[str],
    tokenizer: Mapping[str, Any],
    *,
    seed: int,
    dropout: float = 0.0,
) -> tuple[Any, Any]:
    """The network and the processor that conf/model describes: pretrained, or a small one drawn from `seed`."""
    if own.base is None:
        return build_tiny(settings, texts, vocab_size=tokenizer["vocab_size"], seed=seed)
    return open_network(own.base, own, dropout=dropout), open_processor(tokenizer["path"] or own.base)


def start_reader(
    settings: Mapping[str, Any],
    texts: Sequence[str],
    tokenizer: Mapping[str, Any],
    *,
    max_input_tokens: int,
) -> VlmReader:
    """The reader of the model that conf/model describes, without the weights of a pretrained one."""
    own = VlmSettings.of(settings)
    if own.base is None:
        network, processor = start_network(own, settings, texts, tokenizer, seed=0)
        model_type = network.config.model_type
    else:
        processor, model_type = open_processor(tokenizer["path"] or own.base), model_type_of(own.base)
    return reader_of(processor, model_type, own, max_input_tokens=max_input_tokens)
