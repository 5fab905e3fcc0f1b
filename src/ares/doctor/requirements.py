"""What a run needs, estimated before it starts: device memory, disk, Teacher tokens.

Estimates, to tell what cannot work from what can; a run near a limit may go either way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ares.types import Config, Problem

GIB = 2**30
# flan-alpaca with its fusion, head untied (Chung et al. 2022, table 1, and 145 x 1024 patches).
_KNOWN = {"base": 251_907_840, "large": 790_496_256}
_SHAPES = {"base": (768, 24), "large": (1024, 48)}  # d_model, encoder and decoder layers
_CHARACTERS_PER_TOKEN = 4
_INSTRUCTION_TOKENS = 500  # of a request to the Teacher, beside question and rationales
_IMAGE_TOKENS = 1000
_TOKENS_PER_SCORE = 10
_IMAGE_READERS = ("anthropic", "openai")


@dataclass(frozen=True)
class Model:
    """A model's size: its weights, its width, its layers (encoder and decoder together) and its vocabulary."""

    parameters: int
    width: int
    layers: int
    vocabulary: int = 32128


def model_of(config: Config) -> Model | None:
    """The size of the configured model, None where it can only be known by downloading it."""
    settings = config.model
    if settings["init"] is None:
        width, layers, inner = settings["d_model"], settings["layers"], settings["d_kv"] * settings["heads"]
        gated = 3 if settings["feed_forward"].startswith("gated") else 2
        block = 4 * width * inner + gated * width * settings["d_ff"]
        fusion = 7 * width * width + 784 * width
        parameters = layers * (2 * block + 4 * width * inner) + config.tokenizer.vocab_size * width + fusion
        return Model(parameters, width, 2 * layers, config.tokenizer.vocab_size)
    if Path(settings["init"]).is_dir():
        return _local(Path(settings["init"]))
    name = settings["name"]
    return Model(_KNOWN[name], *_SHAPES[name]) if name in _KNOWN else None


def _local(folder: Path) -> Model | None:
    from ares.models.checkpoints import checkpoint_shapes

    shapes = {name: s for name, s in checkpoint_shapes(folder).items() if "embed_tokens" not in name}
    if "shared.weight" not in shapes:
        return None
    layers = len({name.split(".layer.")[0] for name in shapes if ".block." in name})
    vocabulary, width = shapes["shared.weight"]
    return Model(sum(prod(shape) for shape in shapes.values()), width, layers, vocabulary)


def memory_of(config: Config, model: Model) -> dict[str, float]:
    """GiB a device by step. Training holds weights, gradients and AdamW's two moments, DDP a copy of the gradients;
    activations by Korthikanti et al. 2022 (34 numbers of the model's width a token and layer), and the logits thrice.
    """
    number = 2 if config.trainer.precision == "bf16-true" else 4
    copies = 5 if config.strategy["name"] == "ddp" else 4
    weights = model.parameters * number
    read = config.text.max_input_tokens

    def activations(rows: int, written: int) -> int:
        # Encoder layers see the prompt, decoder layers the response.
        return int(rows * (read + written) / 2 * model.layers * 34 * model.width * number)

    def logits(rows: int, written: int) -> int:
        return 3 * rows * written * model.vocabulary * 4

    def fit(rows: int, written: int) -> int:
        return copies * weights + activations(rows, written) + logits(rows, written)

    def cache(rows: int, written: int) -> int:
        return rows * (read + written) * model.layers * model.width * number

    rl, sft, lora, first = config.rl, config.sft, config.lora, config.rationale
    found = {
        "rationale": fit(first.micro_batch_size, first.max_output_tokens),
        "rollout": (2 if config.rounds > 1 else 1) * weights
        + cache(rl.generation_batch * rl.k, rl.max_new_tokens),
        # The value model has no logits.
        "ppo": 2 * copies * weights
        + 2 * activations(rl.micro_batch_size, rl.max_new_tokens)
        + logits(rl.micro_batch_size, rl.max_new_tokens),
        "sft": fit(sft.micro_batch_size, sft.max_output_tokens),
        "generate": weights + cache(config.generate.batch_size, config.generate.max_new_tokens),
        # The adapter is a tenth of the weights, with gradients and moments of its own.
        "lora": 1.4 * weights
        + activations(lora.micro_batch_size, lora.max_output_tokens)
        + logits(lora.micro_batch_size, lora.max_output_tokens),
    }
    return {step: value / GIB for step, value in found.items()}


def disk_of(config: Config, model: Model, steps: Sequence[str]) -> float:
    """GiB that a run leaves and, while a step fits, its checkpoint of weights and two moments."""
    weights = model.parameters * 4 / GIB
    kept = {"rationale": 1, "ppo": 2 * config.rounds, "sft": config.rounds}
    checkpoint = {"ppo": 6, "rationale": 4, "sft": 4}  # the best weights beside the last state
    return weights * (
        sum(kept.get(step, 0) for step in steps) + max([checkpoint.get(step, 0) for step in steps], default=0)
    )


def teacher_tokens(
    config: Config, problems: Mapping[str, Problem], pids: Sequence[str], steps: Sequence[str]
) -> dict[str, tuple[int, int, int]]:
    """Requests, input and output tokens by step, if rationales are as long as the gold ones."""
    asked = {"score": list(pids)[: config.rl.questions], "correct": list(pids)}
    found = {}
    for step in ("score", "correct"):
        if step not in steps:
            continue
        sent = received = 0
        for pid in asked[step]:
            problem = problems[pid]
            rationale = len(problem.solution) // _CHARACTERS_PER_TOKEN
            sent += _INSTRUCTION_TOKENS + _question_tokens(problem, config)
            sent += rationale * (config.rl.k if step == "score" else 1)
            sentences = max(1, problem.solution.count(".")) * config.rl.k
            received += sentences * _TOKENS_PER_SCORE if step == "score" else rationale
        requests = len(asked[step]) * config.rounds
        found[step] = (requests, sent * config.rounds, received * config.rounds)
    return found


def _question_tokens(problem: Problem, config: Config) -> int:
    text = sum(
        map(len, (problem.question, problem.hint, problem.lecture, problem.solution, *problem.choices))
    )
    image = _IMAGE_TOKENS if problem.image and config.teacher["name"] in _IMAGE_READERS else 0
    return text // _CHARACTERS_PER_TOKEN + image


def teacher_usd(config: Config, tokens: Mapping[str, tuple[int, int, int]]) -> float | None:
    """US dollars for the given tokens by `teacher.prices`, 0 for an offline Teacher, None without a price."""
    if config.teacher["name"] in ("reference", "replay"):
        return 0.0
    price: Any = (config.teacher.get("prices") or {}).get(config.teacher.get("model"))
    if not price:
        return None
    return sum(sent * price["input"] + got * price["output"] for _, sent, got in tokens.values()) / 1e6
