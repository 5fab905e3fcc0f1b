"""Memory of ppo on each device by option: weights, gradients and AdamW's moments, in GiB of float32.

    python benchmarks/ppo_memory.py

Counted from the models themselves, built on the `meta` device, without activations, which depend on
rl.micro_batch_size and the lengths. The baseline is the first row: policy and value model complete on every device.
"""

from collections.abc import Iterable
from functools import cache

import torch
from torch import nn

from ares.models.adapters import merged_adapters
from ares.models.t5 import FusionT5Config, T5ForMultimodalGeneration, T5ForMultimodalValue
from ares.models.t5.policy import T5Policy
from ares.models.t5.value import T5SharedValue, T5Value

SIZES = {
    "base": {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "large": {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
}
COMMON = {
    "vocab_size": 32128,
    "d_kv": 64,
    "feed_forward_proj": "gated-gelu",
    "patch_num": 145,
    "patch_dim": 1024,
}
RANK, DEVICES = 64, 4


def gibibytes(models: Iterable[nn.Module], devices: int = 1) -> float:
    """4 bytes per weight and, if it is trained, 4 for the gradient and 8 for the moments, divided by `devices`."""
    parameters = {id(p): p for model in models for p in model.parameters()}.values()
    return sum(p.numel() * (16 if p.requires_grad else 4) for p in parameters) / devices / 2**30


@cache
def options(size: str) -> dict[str, float]:
    """The options, and the GiB that each keeps on a device."""
    with torch.device("meta"):
        config = FusionT5Config(**COMMON, **SIZES[size], tie_word_embeddings=False)
        model = T5ForMultimodalGeneration(config)
        # flan-alpaca's head is not tied to the embedding.
        model.lm_head.weight = nn.Parameter(torch.empty(COMMON["vocab_size"], config.d_model))
        policy = T5Policy(model, tokenizer=None, features=object())  # neither is used
        value = T5Value(T5ForMultimodalValue(config), features=True)
    both, shared = [policy, value], [policy, T5SharedValue(policy, value.head)]
    found = {
        "defaults": gibibytes(both),
        "rl.objective=rloo or grpo": gibibytes([policy]),
        "rl.share_trunk=true": gibibytes(shared),
    }
    sharded = gibibytes(both, DEVICES)
    with torch.device("meta"), merged_adapters(both, r=RANK, alpha=2 * RANK, targets="all"):
        found[f"rl.lora.r={RANK}"] = gibibytes(both)
        found[f"rl.share_trunk=true rl.lora.r={RANK}"] = gibibytes(shared)
    return {**found, f"strategy=fsdp trainer.devices={DEVICES}": sharded}


def table() -> str:
    """The options as a Markdown table, with their fraction of the defaults."""
    found = {size: options(size) for size in SIZES}
    lines = ["| option | base, GiB | large, GiB | of the defaults (large) |", "|---|---|---|---|"]
    for name in found["base"]:
        base, large = (found[size][name] for size in SIZES)
        lines.append(f"| `{name}` | {base:.1f} | {large:.1f} | {large / found['large']['defaults']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
