"""What a run needs, estimated before it starts: device memory, disk, Teacher tokens.

Estimates, to tell what cannot work from what can; a run near a limit may go either way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ares.config.schema import Config
from ares.teachers.services.anthropic import BATCH_PRICE
from ares.types import Problem

GIB = 2**30
# flan-alpaca with its fusion, head untied (Chung et al. 2022, table 1, and 145 x 1024 patches).
_KNOWN = {"base": 251_907_840, "large": 790_496_256}
_SHAPES = {"base": (768, 24), "large": (1024, 48)}  # d_model, encoder and decoder layers
_ADAPTER_OF_RANK_1 = 0.1 / 64  # of the weights: on all linear layers, rank 64 adds a tenth
_CHARACTERS_PER_TOKEN = 4
_INSTRUCTION_TOKENS = 500  # of a request to the Teacher, beside question and rationales
_IMAGE_TOKENS = 1000
_TOKENS_PER_SCORE = 10
_TOKENS_PER_VERDICT = 12
_PUBLISHED_IMAGES = {"scienceqa": 10_332, "aokvqa": 24_903}  # of A-OKVQA's hub copy, one a question
# By conf/features/; of timm's models that which it names.
_NUMBERS_AN_IMAGE = {
    "vit": 145 * 1024,
    "timm": 256 * 768,
    "clip": 49 * 2048,
    "detr": 100 * 256,
    "resnet": 2048,
    "patches": 16 * 784,
}
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
    if settings.init is None:
        sizes = settings.arguments
        width, layers, inner = sizes["d_model"], sizes["layers"], sizes["d_kv"] * sizes["heads"]
        gated = 3 if sizes["feed_forward"].startswith("gated") else 2
        block = 4 * width * inner + gated * width * sizes["d_ff"]
        fusion = 7 * width * width + 784 * width
        parameters = layers * (2 * block + 4 * width * inner) + config.tokenizer.vocab_size * width + fusion
        return Model(parameters, width, 2 * layers, config.tokenizer.vocab_size)
    if Path(settings.init).is_dir():
        return _local(Path(settings.init))
    name = settings.name
    return Model(_KNOWN[name], *_SHAPES[name]) if name in _KNOWN else None


def _local(folder: Path) -> Model | None:
    from ares.models.t5.names import checkpoint_shapes

    shapes = {name: s for name, s in checkpoint_shapes(folder).items() if "embed_tokens" not in name}
    if "shared.weight" not in shapes:
        return None
    layers = len({name.split(".layer.")[0] for name in shapes if ".block." in name})
    vocabulary, width = shapes["shared.weight"]
    return Model(sum(prod(shape) for shape in shapes.values()), width, layers, vocabulary)


@dataclass(frozen=True)
class _Passes:
    """Bytes of what a pass over `rows` prompts of `read` tokens and responses of `written` tokens holds.

    Activations by Korthikanti et al. 2022: 34 numbers of the model's width a token and layer.
    """

    model: Model
    read: int
    number: int  # bytes of one

    def activations(self, rows: int, written: int) -> int:
        # Encoder layers see the prompt, decoder layers the response.
        tokens = rows * (self.read + written) / 2
        return int(tokens * self.model.layers * 34 * self.model.width * self.number)

    def logits(self, rows: int, written: int) -> int:
        return 3 * rows * written * self.model.vocabulary * 4

    def cache(self, rows: int, written: int) -> int:
        return rows * (self.read + written) * self.model.layers * self.model.width * self.number


def memory_of(config: Config, model: Model) -> dict[str, float]:
    """GiB a device by step. Training holds weights and, where they are trained, gradients, AdamW's two moments and,
    with more than one device, a copy of the gradients; activations and thrice the logits come on top.
    """
    number = 2 if config.trainer.precision == "bf16-true" else 4
    weights = model.parameters * number
    # Only ppo is sharded by fsdp; steps that train one model use ddp then.
    copies = 4 if config.strategy.name == "single" else 5
    passes = _Passes(model, config.text.max_input_tokens, number)

    def fit(trained: float, rows: int, written: int) -> float:
        held = weights + (copies - 1) * trained
        return held + passes.activations(rows, written) + passes.logits(rows, written)

    rl, sft, lora, first = config.rl, config.sft, config.lora, config.rationale
    found = {
        "rationale": fit(weights, first.micro_batch_size, first.max_output_tokens),
        "rollout": (2 if config.rounds > 1 else 1) * weights
        + passes.cache(rl.generation_batch * rl.k, rl.max_new_tokens),
        "ppo": _ppo(config, passes, weights, copies),
        "sft": fit(weights, sft.micro_batch_size, sft.max_output_tokens),
        "generate": weights + passes.cache(config.generate.batch_size, config.generate.max_new_tokens),
        # An adapter's weights are as many as those of it that are trained.
        "lora": _adapter(weights, lora.r)
        + fit(_adapter(weights, lora.r), lora.micro_batch_size, lora.max_output_tokens),
    }
    return {step: value / GIB for step, value in found.items()}


def _adapter(weights: int, rank: int) -> float:
    """The bytes of an adapter on all linear layers."""
    return _ADAPTER_OF_RANK_1 * rank * weights


def _ppo(config: Config, passes: _Passes, weights: int, copies: int) -> float:
    """The bytes that ppo holds on a device by its options, as docs/memory.md lists them."""
    rl = config.rl
    # rloo and grpo train no value model; with a shared trunk it is a head on the policy. It has no logits.
    models = 1 if rl.share_trunk or rl.objective != "ppo" else 2
    adapter, devices = _adapter(weights, rl.lora.r), 1
    if config.strategy.name == "fsdp":
        copies, devices = 4, config.trainer.devices * config.trainer.num_nodes
    each = weights + copies * adapter if rl.lora.r else copies * weights
    rows, written = rl.micro_batch_size, rl.max_new_tokens
    return models * (each / devices + passes.activations(rows, written)) + passes.logits(rows, written)


def disk_of(config: Config, model: Model, steps: Sequence[str]) -> float:
    """GiB that a run leaves and, while a step fits, its checkpoint of weights and two moments."""
    weights = model.parameters * 4 / GIB
    kept = {"rationale": 1, "ppo": 2 * config.rounds, "sft": config.rounds}
    checkpoint = {"ppo": 6, "rationale": 4, "sft": 4}  # the best weights beside the last state
    return weights * (
        sum(kept.get(step, 0) for step in steps) + max([checkpoint.get(step, 0) for step in steps], default=0)
    )


def disk_of_features(config: Config, problems: Mapping[str, Problem]) -> float:
    """GiB of the image features of problems, or of the published data set where it is not here yet."""
    images = len({problem.image for problem in problems.values() if problem.image is not None})
    count = images if problems else _PUBLISHED_IMAGES.get(config.data.name, 0)
    return count * _NUMBERS_AN_IMAGE.get(config.features.name, 0) * 4 / GIB


def teacher_tokens(
    config: Config,
    problems: Mapping[str, Problem],
    splits: Mapping[str, Sequence[str]],
    steps: Sequence[str],
) -> dict[str, tuple[int, int, int]]:
    """Requests, input and output tokens by step, if rationales are as long as the gold ones."""
    train = splits["train"]
    asked = {"score": train[: config.rl.questions], "correct": train}
    # The paper's replies repeat the rationale that they are about.
    repeats = 1 if config.teacher.arguments.get("prompt") == "paper" else 0
    grouped = str(config.teacher.arguments.get("group", "k")) == "k"
    found = {}
    if "judge" in steps:
        pairs = [problems[pid] for pid in splits[config.judge.split][: config.judge.questions]]
        found["judge"] = _judge_tokens(config, pairs)
    for step in ("score", "correct"):
        if step not in steps:
            continue
        rationales = config.rl.k if step == "score" else 1
        each = 1 if grouped else rationales  # requests a question
        sent = received = 0
        for pid in asked[step]:
            problem = problems[pid]
            length = len(problem.solution) // _CHARACTERS_PER_TOKEN
            sent += each * (_INSTRUCTION_TOKENS + _question_tokens(problem, config)) + rationales * length
            answer = max(1, problem.solution.count(".")) * _TOKENS_PER_SCORE if step == "score" else length
            received += rationales * (answer + repeats * length)
        requests = each * len(asked[step]) * config.rounds
        found[step] = (requests, sent * config.rounds, received * config.rounds)
    return found


def _judge_tokens(config: Config, problems: Sequence[Problem]) -> tuple[int, int, int]:
    """Each question is asked twice, with its two rationales in either order."""
    length = sum(len(problem.solution) // _CHARACTERS_PER_TOKEN for problem in problems)
    questions = sum(_INSTRUCTION_TOKENS + _question_tokens(problem, config) for problem in problems)
    requests = 2 * len(problems)
    return requests, 2 * questions + 4 * length, requests * _TOKENS_PER_VERDICT


def _question_tokens(problem: Problem, config: Config) -> int:
    text = sum(map(len, (problem.question, problem.hint, *problem.choices)))
    image = _IMAGE_TOKENS if problem.image and config.teacher.name in _IMAGE_READERS else 0
    return text // _CHARACTERS_PER_TOKEN + image


def teacher_usd(config: Config, tokens: Mapping[str, tuple[int, int, int]]) -> float | None:
    """US dollars for the given tokens by `teacher.prices`, 0 for an offline Teacher, None without a price."""
    if config.teacher.name in ("oracle", "overlap", "replay"):
        return 0.0
    price: Any = (config.teacher.arguments.get("prices") or {}).get(config.teacher.arguments.get("model"))
    if not price:
        return None
    discount = BATCH_PRICE if config.teacher.arguments.get("batch") else 1.0
    return (
        discount
        * sum(sent * price["input"] + got * price["output"] for _, sent, got in tokens.values())
        / 1e6
    )
