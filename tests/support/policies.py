"""Small policies whose texts are numbers: the text "7 8" is the ids 7, 8."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ares.models.t5 import FusionT5Config, T5ForMultimodalGeneration
from ares.models.t5.inputs import Features
from ares.models.t5.policy import T5Policy

PAD, EOS, UNKNOWN = 0, 1, 2


class Numbers:
    """A tokenizer of numbers: 0 is padding, 1 is EOS, 2 is unknown."""

    pad_token_id, eos_token_id, unk_token_id = PAD, EOS, UNKNOWN
    unk_token = "<unk>"
    all_special_ids = (PAD, EOS, UNKNOWN)

    def __init__(self, size: int = 16) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __call__(self, texts: Sequence[str], *, truncation: bool, max_length: int) -> dict[str, Any]:
        ids = [
            [int(word) for word in text.removeprefix("Solution:").split()][: max_length - 1] for text in texts
        ]
        return {"input_ids": [[*row, EOS] for row in ids]}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return " ".join(str(int(token)) for token in ids if token not in self.all_special_ids)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [f"{token} " for token in ids]

    def save_pretrained(self, folder: Path) -> None:
        Path(folder, "tokenizer.json").write_text("{}")


def number_policy(
    seed: int = 0,
    *,
    features: Features | None = None,
    dropout: float = 0.0,
    vocabulary: int = 16,
    width: int = 16,
    **settings: Any,
) -> T5Policy:
    """An untrained policy of texts of numbers, in eval mode; its images have 2 patches of 3 numbers."""
    torch.manual_seed(seed)
    config = FusionT5Config(
        **{
            "vocab_size": vocabulary,
            "d_model": width,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 1,
            "num_heads": 2,
            "patch_num": 2,
            "patch_dim": 3,
            "dropout_rate": dropout,
            "feed_forward_proj": "gated-gelu",
            "pad_token_id": PAD,
            "eos_token_id": EOS,
            "decoder_start_token_id": PAD,
            "initializer_factor": 0.3,
            **settings,
        }
    )
    model = T5ForMultimodalGeneration(config).eval()
    return T5Policy(model, Numbers(vocabulary), features=features)  # type: ignore[arg-type]
