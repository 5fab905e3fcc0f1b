"""LoRA adapters from folders: ours, and those that the original wrote with an old PEFT."""

import warnings
from pathlib import Path
from typing import Any

from ares.models.t5.checkpoints import opening, read_weights
from ares.types import AresError

# nn.MultiheadAttention reads its weights past an adapter: what is there was never trained and never had an effect.
_DEAD = "mha_layer.out_proj"


def load_adapter(policy: Any, folder: str | Path) -> Any:
    """The policy with the adapter of a folder, in eval mode, frozen.

    Reads `adapter_config.json` and `adapter_model.safetensors` or `.bin`. An adapter of the fusion's
    `mha_layer.out_proj`, which the original wrote though nothing reads it, is left out with a warning. Raises
    AresError where a file is missing or torn, or the adapter does not fit the policy.
    """
    from peft import LoraConfig, TaskType, get_peft_model, set_peft_model_state_dict

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
    settings.task_type = TaskType.SEQ_2_SEQ_LM
    settings.exclude_modules = rf".*{_DEAD}.*"
    settings.base_model_name_or_path = None  # a folder on another machine
    settings.inference_mode = True
    settings.lora_dropout = 0.0
    remedy = "give the policy it was trained on"
    with opening(f"The adapter in {folder} does not fit the policy", remedy):
        model = get_peft_model(policy, settings)
        result: Any = set_peft_model_state_dict(model, weights)
    missing = [name for name in result.missing_keys if "lora_" in name]
    if missing or result.unexpected_keys:
        name = [*missing, *result.unexpected_keys][0]
        raise AresError(f"The adapter in {folder} does not fit the policy at {name}; {remedy}.")
    return model.eval()


def _weights(folder: Path) -> dict[str, Any]:
    if not (folder / "adapter_config.json").is_file():
        raise AresError(f"{folder} holds no adapter_config.json; give the folder of a LoRA adapter.")
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (folder / name).is_file():
            return read_weights(folder / name)
    raise AresError(
        f"{folder} holds neither adapter_model.safetensors nor adapter_model.bin; its weights are missing."
    )
