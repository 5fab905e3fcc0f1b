"""Writes checkpoints in the original ARES's layout: transformers 4.30, pickled weights, all aliases."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ares.models.t5.loading import load_model, load_value_model
from ares.storage.files import atomic_folder, atomic_path, write_json
from ares.text.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from ares.models.t5.fusion import FusionT5Config

_OURS = ("patch_num", "patch_dim", "scale_decoder_outputs", "dtype")  # unknown to transformers 4.30
_WEIGHTS = (".safetensors", ".bin", ".index.json")


def export_policy(policy: str | Path, folder: str | Path, *, dropout: float = 0.1) -> None:
    """Writes `pytorch_model.bin` and `config.json` as the original did, and copies the policy's tokenizer.

    The weights carry `encoder.embed_tokens`, `decoder.embed_tokens` and `lm_head` whether tied or not;
    `dropout` is the rate that the original trains with (ours saves 0). Raises AresError as `load_model` and `load_tokenizer` do.
    """
    import torch

    model = load_model(policy, dropout=dropout, features=True)
    load_tokenizer(policy)
    with atomic_folder(folder) as temporary:
        for file in Path(policy).iterdir():
            if file.is_file() and file.name != "config.json" and not file.name.endswith(_WEIGHTS):
                shutil.copy(file, temporary)
        write_json(temporary / "config.json", _original_config(model.config))
        torch.save(_contiguous(model.state_dict()), temporary / "pytorch_model.bin")


def export_value(value: str | Path, policy: str | Path, file: str | Path) -> None:
    """Writes `value_function.pth`: the value model's weights and, as in the original, an unused `lm_head`.

    The head is that of `policy`. Raises AresError as `load_value_model` does.
    """
    import torch

    state = load_value_model(value, dropout=0.0, features=True).state_dict()
    head = load_model(policy, dropout=0.0, features=True).lm_head.weight
    with atomic_path(file) as temporary:
        torch.save(_contiguous({**state, "lm_head.weight": head.data}), temporary)


def _contiguous(state: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def _original_config(config: "FusionT5Config") -> dict[str, Any]:
    settings = json.loads(config.to_json_string(use_diff=False))
    found = {name: value for name, value in settings.items() if name not in _OURS}
    return {
        **found,
        "architectures": ["T5ForMultimodalGeneration"],
        # transformers 4.30 decides by this whether the decoder's states are scaled.
        "tie_word_embeddings": bool(config.scale_decoder_outputs),
        "torch_dtype": "float32",
    }
