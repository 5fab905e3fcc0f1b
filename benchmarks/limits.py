"""What a card can do at most in each step of the paper's run: arithmetic on shapes, nothing is measured.

    python -m benchmarks.limits

docs/performance.md shows the table; a test compares the two.
"""

from dataclasses import dataclass

from ares.models.memory import ModelSize
from ares.models.t5.size import t5_size
from ares.models.vlm.size import published_config, size_of_config
from benchmarks.memory import VLMS

QUESTIONS, K, RESPONSE = (
    12_726,
    4,
    65,
)  # of ScienceQA's training split; mean tokens, as in benchmarks/lengths.py
PROMPT, IMAGE = 79, 256  # mean tokens of a prompt, and of an image that a vision-language model reads
SLOTS, PPO_EPOCHS, FIT_EPOCHS = 64, 10, 20
FLOPS, BYTES = 989e12, 3.35e12  # per second: an H100's bfloat16 products and its memory, by its data sheet
GPUS = (1, 4, 8, 64)


@dataclass(frozen=True)
class Model:
    """`reading` and `writing`: weights in the products of a prompt's and of a response's token; `prompt`: its tokens."""

    reading: float
    writing: float
    prompt: int
    adapter: bool

    def fit(self, questions: float, samples: int) -> float:
        """FLOPs of a forward and backward pass over questions with so many responses; each prompt is read once.

        An adapter's backward pass has the gradients of activations, and hardly any of weights.
        """
        tokens = self.prompt * self.reading + samples * RESPONSE * self.writing
        return (4 if self.adapter else 6) * questions * tokens

    def writes(self, questions: float, samples: int) -> tuple[float, float]:
        """FLOPs, and bytes: every step reads all weights, two bytes each, for the rows in progress."""
        tokens = self.prompt * self.reading + samples * RESPONSE * self.writing
        return 2 * questions * tokens, 2 * self.writing * questions * samples * RESPONSE / SLOTS


def models() -> dict[str, Model]:
    """The models of the table; a T5 trains all weights, a vision-language model adapters."""
    found = {}
    for name in ("base", "large"):
        size = t5_size({"name": name, "init": f"declare-lab/flan-alpaca-{name}"}, 0)
        assert size is not None
        assert size.encoder is not None
        encoder = size.encoder.layers * size.encoder.weights
        found[f"T5 {name}"] = Model(encoder, _decoder(size), PROMPT, adapter=False)
    for name, published in VLMS.items():
        size = size_of_config(published_config(published))
        layers = size.decoder.layers * size.decoder.weights
        found[name] = Model(layers, _decoder(size), PROMPT + IMAGE, adapter=True)
    return found


def _decoder(size: ModelSize) -> float:
    """Weights of the decoder's layers and of the head."""
    return size.decoder.layers * size.decoder.weights + size.vocabulary * size.decoder.width


def steps(model: Model) -> dict[str, tuple[float, float]]:
    """FLOPs and bytes by step; fits of large batches read weights seldom, so that their bytes are left out."""
    rl = 2 * PPO_EPOCHS * model.fit(QUESTIONS, K)  # the policy and the value model
    fit = FIT_EPOCHS * model.fit(QUESTIONS, 1)
    return {
        "rationale, sft": (fit, 0.0),
        "rollout": model.writes(QUESTIONS, K),
        "ppo": (rl, 0.0),
        "generate": model.writes(QUESTIONS, 1),
    }


def table() -> str:
    """The least time of each step, on so many cards that share the work without a loss."""
    lines = [
        "| model | step | 10^15 FLOPs | TB read | limit | "
        + " | ".join(_cards(count) for count in GPUS)
        + " |"
    ]
    lines.append("|---|---|---|---|---|" + "---|" * len(GPUS))
    for name, model in models().items():
        for step, (flops, read) in steps(model).items():
            by_flops, by_bytes = flops / FLOPS, read / BYTES
            limit = "bytes" if by_bytes > by_flops else "FLOPs"
            times = " | ".join(_shown(max(by_flops, by_bytes) / count) for count in GPUS)
            shown = f"{read / 1e12:,.0f}" if read else ""
            lines.append(f"| {name} | {step} | {flops / 1e15:,.1f} | {shown} | {limit} | {times} |")
    return "\n".join(lines)


def _cards(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _shown(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    print(table())
