"""What ppo holds on each device by option: weights, gradients and AdamW's moments, in GiB of float32.

    python benchmarks/ppo_memory.py

Counted from the models themselves, built without memory (`meta`); activations, which depend on rl.micro_batch_size
and the lengths, come on top. The baseline is the first row: all weights of policy and value model on every device.
"""

from collections.abc import Iterable

import torch
from ares.modules.adapter import adapt
from torch import nn

from ares.models.heads import SharedBackboneValue
from ares.models.t5 import T5ForMultimodalGeneration, T5ForMultimodalValue
from ares.models.t5.fusion import FusionT5Config

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
    """4 bytes a weight and, where it is trained, 4 of gradient and 8 of moments, shared by `devices`."""
    parameters = {id(p): p for model in models for p in model.parameters()}.values()
    return sum(p.numel() * (16 if p.requires_grad else 4) for p in parameters) / devices / 2**30


def options(size: str) -> dict[str, float]:
    """The options and what each holds on a device."""

    def models() -> list[nn.Module]:
        with torch.device("meta"):
            config = FusionT5Config(**COMMON, **SIZES[size], tie_word_embeddings=False)
            policy, value = T5ForMultimodalGeneration(config), T5ForMultimodalValue(config)
            # flan-alpaca's head is a matrix of its own.
            policy.lm_head.weight = nn.Parameter(torch.empty(COMMON["vocab_size"], config.d_model))
        return [policy, value]

    def with_trunk() -> list[nn.Module]:
        policy, value = models()
        return [policy, SharedBackboneValue(policy, value.v_head)]

    def with_adapters(found: list[nn.Module]) -> list[nn.Module]:
        with torch.device("meta"):
            for model in found:
                if not isinstance(model, SharedBackboneValue):
                    adapt(model, r=RANK, alpha=2 * RANK, targets="all", features=True)
        return found

    return {
        "defaults": gibibytes(models()),
        "rl.objective=rloo or grpo": gibibytes(models()[:1]),
        "rl.share_trunk=true": gibibytes(with_trunk()),
        f"rl.lora.r={RANK}": gibibytes(with_adapters(models())),
        f"rl.share_trunk=true rl.lora.r={RANK}": gibibytes(with_adapters(with_trunk())),
        f"strategy=fsdp trainer.devices={DEVICES}": gibibytes(models(), DEVICES),
    }


def table() -> str:
    """The options as a Markdown table, with the share of the defaults."""
    found = {size: options(size) for size in SIZES}
    lines = ["| option | base, GiB | large, GiB | of the defaults (large) |", "|---|---|---|---|"]
    for name in found["base"]:
        base, large = (found[size][name] for size in SIZES)
        lines.append(f"| `{name}` | {base:.1f} | {large:.1f} | {large / found['large']['defaults']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
