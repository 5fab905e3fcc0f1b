"""LoRA adapters: every use of PEFT.

The answer adapter wraps a policy's network and is saved on its own; the adapters of RL are merged into the weights when
training ends.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ares.models.policy import Policy, Trainable
from ares.models.weights import opening, read_weights
from ares.types import AresError

# The original wrote an adapter of nn.MultiheadAttention's output, which reads its weights past any adapter: it was
# never trained and never had an effect.
_DEAD = "mha_layer.out_proj"


def add_adapter(policy: Policy, *, r: int, alpha: int, dropout: float, targets: str) -> None:
    """Puts a fresh adapter of rank `r` on the policy, in place; only the adapter is trainable."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=policy.lora_targets(targets),
        bias="none",
        task_type=policy.task_type,
    )
    policy.model = get_peft_model(policy.model, settings)


def save_adapter(policy: Policy, folder: Path) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors`."""
    policy.model.save_pretrained(folder)


def load_adapter(policy: Policy, folder: str | Path) -> None:
    """Puts the adapter of a folder on the policy, in place: in eval mode, frozen.

    Reads `adapter_config.json` and `adapter_model.safetensors` or `.bin`. An adapter of the fusion's
    `mha_layer.out_proj`, which the original wrote although nothing reads it, is left out with a warning. Raises
    AresError where a file is missing or torn, or the adapter does not fit the policy.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    weights = _weights(Path(folder))
    dead = [name for name in weights if _DEAD in name]
    if dead:
        warnings.warn(
            f"{folder} adapts encoder.{_DEAD}, where an adapter has no effect; it is left out.", stacklevel=2
        )
        weights = {name: tensor for name, tensor in weights.items() if name not in dead}
    with opening(
        f"The adapter in {folder} cannot be loaded", "its adapter_config.json must be that of a LoRA"
    ):
        settings: Any = LoraConfig.from_pretrained(str(folder))
    # The original called its encoder-decoder a causal model.
    settings.task_type = policy.task_type
    settings.exclude_modules = rf".*{_DEAD}.*"
    settings.base_model_name_or_path = None  # a folder on another machine
    settings.inference_mode = True
    settings.lora_dropout = 0.0
    remedy = "give the policy it was trained on"
    with opening(f"The adapter in {folder} does not fit the policy", remedy):
        policy.model = get_peft_model(policy.model, settings)
        result: Any = set_peft_model_state_dict(policy.model, weights)
    missing = [name for name in result.missing_keys if "lora_" in name]
    if missing or result.unexpected_keys:
        name = [*missing, *result.unexpected_keys][0]
        raise AresError(f"The adapter in {folder} does not fit the policy at {name}; {remedy}.")
    policy.eval()


def _weights(folder: Path) -> dict[str, Tensor]:
    if not (folder / "adapter_config.json").is_file():
        raise AresError(f"{folder} holds no adapter_config.json; give the folder of a LoRA adapter.")
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (folder / name).is_file():
            return read_weights(folder / name)
    raise AresError(
        f"{folder} holds neither adapter_model.safetensors nor adapter_model.bin; its weights are missing."
    )


# --------------------------------------------------------------------------------------------------
# Adapters that are merged
# --------------------------------------------------------------------------------------------------


@contextmanager
def merged_adapters(models: Sequence[Trainable], *, r: int, alpha: int, targets: str) -> Iterator[None]:
    """Trains models through adapters inside the block and merges them when it ends; with rank 0, trains the models themselves.

    Value heads are trained directly. A value head on the policy's backbone gets no adapter of its own.
    """
    found = []
    for model in models:
        if r and (names := model.lora_targets(targets)):
            trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
            found.append((model, _adapt(model, names, r, alpha), trainable))
    yield
    for model, adapter, trainable in found:
        adapter.merge_and_unload()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trainable.get(name, True))


def _adapt(model: Trainable, names: list[str], r: int, alpha: int) -> Any:
    """Adds a fresh adapter, which has no effect yet, to the model's network; only it and a value head stay trainable."""
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    settings = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=0.0, target_modules=names, bias="none")
    adapter = LoraModel(model.model, settings, "default")
    head = getattr(model, "head", None)
    if isinstance(head, nn.Module):
        head.requires_grad_(True)
    return adapter
