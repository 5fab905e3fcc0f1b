"""Four bits per weight of the language model, by bitsandbytes."""

from typing import Any

import torch
from torch import nn

from ares.models.vlm.families import UNQUANTIZED
from ares.types import AresError


def nf4(dtype: torch.dtype | str) -> Any:
    """What `from_pretrained` takes to quantize while it loads. Raises AresError without bitsandbytes."""
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise AresError(
            "model.quantization=nf4 needs bitsandbytes: pip install 'ares[quantization]', or use "
            "model.quantization=none."
        ) from None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if dtype == "auto" else dtype,
        llm_int8_skip_modules=UNQUANTIZED,
    )


def keep_differentiable(network: nn.Module) -> None:
    """Keeps bitsandbytes from repacking weights for CPUs with AVX512-BF16 after a pass without gradients.

    Packed weights pass on no gradient, and round differently from the rollouts' log-probabilities.
    """
    for module in network.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
