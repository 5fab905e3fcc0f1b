"""Device memory: estimates of ares.models.memory, and peaks of tiny models on the CPU next to their estimates.

    python benchmarks/memory.py

docs/memory.md shows the tables; tests compare the two.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import nn
from torch.profiler import ProfilerActivity, profile

from ares.config.compose import folder, register_schema, to_config, to_plain
from ares.doctor.requirements import memory_of, model_of
from ares.models.inputs import Sampling
from ares.models.memory import (
    MOST_LOGITS,
    Batch,
    Memory,
    ModelSize,
    Setup,
    generation_memory,
    training_memory,
)
from ares.models.policy import Policy
from ares.models.vlm.size import published_config, size_of_config
from ares.types import Example

ROWS, RESPONSE = 4, 40

# --------------------------------------------------------------------------------------------------
# Measured
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A tiny model and how it is trained with RL: `lora`: rl.lora's rank; `value`: own, shared or none."""

    name: str
    model: str
    settings: dict[str, Any]
    setup: Setup = field(default_factory=Setup)
    value: str = "own"


T5 = {"name": "tiny", "init": None, "d_model": 64, "d_ff": 160, "d_kv": 16, "layers": 3, "heads": 4}
T5 |= {"feed_forward": "gated-gelu"}
LLAVA = {"d_model": 128, "d_ff": 320, "layers": 4, "heads": 4, "vision_layers": 2, "image_size": 64}
LLAVA |= {"patch_size": 16, "init": None, "dtype": "float32", "quantization": "none", "max_pixels": None}
LLAVA |= {"prompts": {"system": None, "rationale": "{question}", "answer": "{question}\n{rationale}"}}
LORA = {"r": 8, "alpha": 16, "targets": None, "vision": False}
FULL = {**LORA, "r": 0}
HALF = {"dtype": "bfloat16", "lora": LORA}
NF4 = {**HALF, "quantization": "nf4"}
MIXED = Setup(rank=8, mixed=True)
CASES = [
    Case("T5, all weights", "t5", {}),
    Case("T5, rl.lora.r=8", "t5", {}, Setup(rank=8)),
    Case("T5, rl.share_trunk=true", "t5", {}, value="shared"),
    Case("T5, rl.objective=grpo", "t5", {}, value="none"),
    Case("T5, trainer.precision=bf16-mixed", "t5", {}, Setup(mixed=True)),
    Case("LLaVA, all weights", "vlm", {"lora": FULL}),
    Case("LLaVA, LoRA, float32", "vlm", {"lora": LORA}, Setup(rank=8)),
    Case("LLaVA, LoRA", "vlm", HALF, MIXED),
    Case("LLaVA, LoRA, rl.share_trunk=true", "vlm", HALF, MIXED, value="shared"),
    Case("LLaVA, LoRA, NF4", "vlm", NF4, MIXED),
]
CASES += [
    replace(case, name=f"{case.name}, checkpointing", setup=replace(case.setup, checkpointing=True))
    for case in CASES
    if case.value == "own" and case.setup != Setup(mixed=True)
]


def missing(case: Case) -> str | None:
    """The package that a case needs and that is not installed."""
    needed = case.settings.get("quantization") == "nf4" and importlib.util.find_spec("bitsandbytes") is None
    return "bitsandbytes" if needed else None


def peak(run: Callable[[], object]) -> int:
    """The most bytes that torch's allocator holds on the CPU while `run` runs, above what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events), default=0)


def weights_of(models: list[nn.Module]) -> int:
    """Bytes of all weights and buffers, each once, quantization constants included."""
    tensors = [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]
    states = [tensor.quant_state for tensor in tensors if hasattr(tensor, "quant_state")]
    for state in states:
        tensors += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def measured(case: Case) -> tuple[float, Memory]:
    """The peak bytes of two RL steps, the second with gradients and moments of the first, and the estimate."""
    with tempfile.TemporaryDirectory() as place:
        policy, size = build(case, Path(place))
        inputs = policy.encode(examples(Path(place)))
        value = None if case.value == "none" else policy.new_value(seed=0, shared=case.value == "shared")
        models = [policy] if value is None else [policy, value]
        own = case.model == "t5" and case.setup.rank
        with merged(models, case.setup.rank if own else 0):
            bytes_, prompt = (
                weights_of(models) + peak(lambda: train(policy, value, inputs, case)),
                inputs.lengths,
            )
    own_value = case.value == "own"
    estimate = training_memory(
        size,
        case.setup,
        Batch(ROWS, max(prompt), RESPONSE),
        networks=1 + (own_value and not size.rank),
        trained=1 + own_value,
        heads=int(value is not None),
    )
    return bytes_, estimate


def measured_sampling(case: Case) -> tuple[float, Memory]:
    """The peak bytes of sampling two responses per prompt and computing their log-probabilities, and the estimate."""
    k = 2

    def run() -> None:
        generator = torch.Generator().manual_seed(0)
        policy.sample(inputs, k=k, max_new_tokens=RESPONSE, generator=generator, sampling=Sampling())
        with torch.no_grad():
            responses = torch.full((k * ROWS, RESPONSE), 10)
            policy.token_logprobs(inputs.repeat(k), responses, torch.ones(responses.shape))

    with tempfile.TemporaryDirectory() as place:
        policy, size = build(case, Path(place))
        inputs = policy.encode(examples(Path(place)))
        bytes_ = weights_of([policy]) + peak(run)
    batch = Batch(k * ROWS, max(inputs.lengths), RESPONSE)
    return bytes_, generation_memory(size, batch, adapters=int(size.rank > 0))


def merged(models: list[Any], rank: int) -> Any:
    """Adapters of RL on a policy of all weights."""
    from ares.models.adapters import merged_adapters

    return merged_adapters(models, r=rank, alpha=16, targets="all") if rank else nullcontext()


def build(case: Case, place: Path) -> tuple[Policy, ModelSize]:
    """A tiny policy from a folder, ready to train, and its size."""
    from ares.models.t5.policy import T5Policy
    from ares.models.vlm.policy import VlmPolicy

    tokenizer = {"path": None, "vocab_size": 600}
    texts = [f"{word} is the answer to question {word}" for word in ("north", "south", "east", "west")]
    if case.model == "t5":
        policy: Policy = T5Policy.start(
            T5, texts, tokenizer=tokenizer, seed=0, checkpointing=case.setup.checkpointing
        )
        return policy.train(), T5Policy.size(T5, len(policy.tokenizer))
    VlmPolicy.start({**LLAVA, "lora": FULL}, texts, tokenizer=tokenizer, seed=0).save(place / "base")
    settings = {**LLAVA, "init": str(place / "base"), **case.settings}
    checkpointing = case.setup.checkpointing
    policy = VlmPolicy.start(settings, texts, tokenizer=tokenizer, seed=0, checkpointing=checkpointing)
    return policy.train(), VlmPolicy.size(settings, 0)


def examples(place: Path) -> list[Example]:
    """Prompts with an image."""
    Image.new("RGB", (64, 64), "red").save(place / "image.png")
    text = "Which way is north? " * 4
    return [Example(text, "", str(n), (place / "image.png",), text) for n in range(ROWS)]


def train(policy: Policy, value: Any, inputs: Any, case: Case) -> None:
    """Two micro-batches of RL, each with an optimizer step."""
    models = [policy] if value is None else [policy, value]
    weights = [weight for model in models for _, weight in model.trained()]
    optimizer = torch.optim.AdamW(weights, fused=True)
    generator = torch.Generator().manual_seed(0)
    responses = torch.randint(10, len(policy.tokenizer), (ROWS, RESPONSE), generator=generator)
    mask = torch.ones(responses.shape)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16) if case.setup.mixed else nullcontext():
            states = policy.states(inputs, responses)
            logprobs, _ = policy.logprobs(states, responses, mask, entropy=True)
            loss = logprobs.mean()
            if value is not None:
                loss = loss + value.values(inputs, responses, mask, states=states).mean()
        loss.backward()
        del loss, logprobs, states
        optimizer.step()


# --------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------

PARTS = ("weights", "gradients", "moments", "activations", "working")
T5_OPTIONS = (
    "strategy=single",
    "strategy=single rl.objective=grpo",
    "strategy=single rl.share_trunk=true",
    "strategy=single rl.lora.r=64",
    "strategy=single rl.share_trunk=true rl.lora.r=64",
    "strategy=single trainer.activation_checkpointing=true",
    "strategy=ddp trainer.devices=4",
    "strategy=fsdp trainer.devices=4",
)
VLMS = {
    "2B": "Qwen/Qwen2-VL-2B-Instruct",
    "7B": "Qwen/Qwen2.5-VL-7B-Instruct",
    "32B": "Qwen/Qwen2.5-VL-32B-Instruct",
}
VLM_RUN = (
    "model=vlm trainer.devices=1 trainer.activation_checkpointing=true text.max_input_tokens=1024 "
    "rl.max_new_tokens=256 rl.micro_batch_size=4 rl.generation_batch=8 rl.k=4"
)
VLM_OPTIONS = {
    "LoRA": "",
    "LoRA, NF4": "model.quantization=nf4",
    "all weights": "model.lora.r=0 model.dtype=float32",
    "all weights, grpo": "model.lora.r=0 model.dtype=float32 rl.objective=grpo",
}
DEVICES = (("1", "strategy=single"), ("4, 8", "strategy=ddp trainer.devices=8"))
DEVICES += tuple((str(count), f"strategy=fsdp trainer.devices={count}") for count in (4, 8))


def needs(settings: str) -> dict[str, Memory]:
    """GiB per device by step, as stage=doctor finds them, of a run with these settings."""
    model, *others = settings.replace("strategy=", "strategy.name=").split()
    config = to_config(OmegaConf.merge(_composed(model), OmegaConf.from_dotlist(others)))
    size = model_of(config)
    assert size is not None, settings
    return memory_of(config, size)


@cache
def _composed(model: str) -> DictConfig:
    register_schema()
    with initialize_config_dir(str(folder()), version_base="1.3"):
        return OmegaConf.create(to_plain(to_config(compose("config", overrides=[model]))))


def t5_table() -> str:
    """GiB per device in ppo, by model and option."""
    lines = [f"| model | options | {' | '.join(PARTS)} | total |", "|---|---|" + "---|" * (len(PARTS) + 1)]
    for model in ("base", "large"):
        for option in T5_OPTIONS:
            found = needs(f"model={model} trainer.devices=1 {option}")["ppo"]
            lines.append(f"| {model} | `{option}` | {_cells(found)} |")
    return "\n".join(lines)


def vlm_table() -> str:
    """GiB per device in ppo, and in rollout, by model, training, strategy and number of devices."""
    heads = ["model", "trained", "strategy", "GPUs", *PARTS, "ppo", "rollout"]
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|" + "---|" * (len(PARTS) + 2)]
    for name, init in VLMS.items():
        for option, settings in VLM_OPTIONS.items():
            for count, strategy in DEVICES:
                if ("ddp" in strategy and "all" in option) or ("fsdp" in strategy and "LoRA" in option):
                    continue
                found = needs(f"{VLM_RUN} model.init={init} {settings} {strategy}")
                short = strategy.split()[0].removeprefix("strategy=")
                cells = f"{_cells(found['ppo'])} | {found['rollout'].total:.1f}"
                lines.append(f"| {name} | {option} | {short} | {count} | {cells} |")
    return "\n".join(lines)


def _cells(found: Memory) -> str:
    return " | ".join(f"{number:.1f}" for number in (*(getattr(found, part) for part in PARTS), found.total))


def arithmetic() -> str:
    """The terms of one row: Qwen2.5-VL-7B, LoRA, one device."""
    size, rows, tokens, logits = size_of_config(published_config(VLMS["7B"])), 4, 1024 + 256, MOST_LOGITS
    stack, adapters = size.decoder, 2 * 64 * size.adapted + size.value_head
    found = needs(f"{VLM_RUN} model.init={VLMS['7B']} strategy=single")["ppo"]
    return "\n".join(
        [
            f"- {size.parameters:,} weights · 2 bytes, and two adapters of rank 64 and a value head, together {adapters:,} "
            f"weights, · 6 bytes (float32 and a bfloat16 copy): **{found.weights:.1f}**",
            f"- gradients, {adapters:,} · 4 bytes: **{found.gradients:.1f}**; AdamW's moments, twice as much: "
            f"**{found.moments:.1f}**",
            f"- activations: the inputs of {stack.layers} layers, {rows} · {tokens:,} tokens · {stack.width:,} numbers · "
            f"2 bytes, for each of the two models, and all activations of one layer: **{found.activations:.1f}**",
            f"- working memory, the larger of 4 · {logits:,} logits · 4 bytes and the gradients in one layer: "
            f"**{found.working:.1f}**",
        ]
    )


def measured_table() -> str:
    """Measured peaks next to estimates, MB."""
    lines = ["| tiny model | step | measured, MB | estimated, MB | ratio |", "|---|---|---|---|---|"]
    for case in CASES:
        for step, measure in steps_of(case):
            if missing(case):
                continue
            bytes_, estimate = measure(case)
            shown = f"{bytes_ / 1e6:.1f} | {estimate.total / 1e6:.1f} | {estimate.total / bytes_:.2f}"
            lines.append(f"| {case.name} | {step} | {shown} |")
    return "\n".join(lines)


def steps_of(case: Case) -> Iterator[tuple[str, Callable[[Case], tuple[float, Memory]]]]:
    """The steps that are measured, with their measurements."""
    yield "ppo", measured
    if (
        case.value == "own"
        and not case.setup.checkpointing
        and (case.model == "vlm" or case.setup == Setup())
    ):
        yield "rollout", measured_sampling


if __name__ == "__main__":
    for table in (t5_table, vlm_table, arithmetic, measured_table):
        print(table(), end="\n\n")
