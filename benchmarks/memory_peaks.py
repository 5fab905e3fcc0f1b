"""Peaks of device memory, of tiny models on the CPU, next to the estimates of ares.models.memory."""

import gc
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.profiler import ProfilerActivity, profile

from ares.models.inputs import Inputs, Sampling
from ares.models.memory import (
    Batch,
    Memory,
    ModelSize,
    Setup,
    generation_memory,
    training_memory,
)
from ares.models.policy import Policy, ValueModel
from ares.models.trainable import Trainable
from ares.types import Example

ROWS, RESPONSE = 4, 40


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
LLAVA: dict[str, Any] = {
    "d_model": 128,
    "d_ff": 320,
    "layers": 4,
    "heads": 4,
    "vision_layers": 2,
    "image_size": 64,
}
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
    gc.collect()  # what is freed meanwhile would be subtracted
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events), default=0)


def weights_of(models: Sequence[nn.Module]) -> int:
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
        models: list[Trainable] = [policy] if value is None else [policy, value]
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
        policy.sample(inputs, k=k, max_new_tokens=RESPONSE, seed=0, sampling=Sampling())
        with torch.no_grad():
            responses = torch.full((k * ROWS, RESPONSE), 10)
            policy.token_logprobs(inputs.repeat(k), responses, [RESPONSE] * len(responses))

    with tempfile.TemporaryDirectory() as place:
        policy, size = build(case, Path(place))
        inputs = policy.encode(examples(Path(place)))
        bytes_ = weights_of([policy]) + peak(run)
    batch = Batch(k * ROWS, max(inputs.lengths), RESPONSE, samples=k)
    return bytes_, generation_memory(size, batch, adapters=int(size.rank > 0))


def merged(models: Sequence[Trainable], rank: int) -> AbstractContextManager[None]:
    """Adapters of RL on a policy of all weights."""
    from ares.models.adapters import merged_adapters

    return merged_adapters(models, r=rank, alpha=16, targets="all", seed=0) if rank else nullcontext()


def build(case: Case, place: Path) -> tuple[Policy, ModelSize]:
    """A tiny policy from a folder, ready to train, and its size."""
    from ares.models.t5.policy import T5Policy
    from ares.models.vlm.policy import VlmPolicy

    tokenizer = {"path": None, "vocab_size": 600}
    texts = [f"{word} is the answer to question {word}" for word in ("north", "south", "east", "west")]
    policy: Policy
    if case.model == "t5":
        policy = T5Policy.start(
            T5, texts, tokenizer=tokenizer, seed=0, checkpointing=case.setup.checkpointing
        )
        size = T5Policy.size(T5, len(policy.tokenizer))
    else:
        VlmPolicy.start({**LLAVA, "lora": FULL}, texts, tokenizer=tokenizer, seed=0).save(place / "base")
        settings = {**LLAVA, "init": str(place / "base"), **case.settings}
        checkpointing = case.setup.checkpointing
        policy = VlmPolicy.start(settings, texts, tokenizer=tokenizer, seed=0, checkpointing=checkpointing)
        size = VlmPolicy.size(settings, 0)
    assert size is not None  # nothing has to be downloaded
    return policy.train(), size


def examples(place: Path) -> list[Example]:
    """Prompts with an image."""
    Image.new("RGB", (64, 64), "red").save(place / "image.png")
    text = "Which way is north? " * 4
    return [Example(text, "", str(n), (place / "image.png",), text) for n in range(ROWS)]


def train(policy: Policy, value: ValueModel | None, inputs: Inputs, case: Case) -> None:
    """Two micro-batches of RL, each with an optimizer step."""
    models: list[Trainable] = [policy] if value is None else [policy, value]
    weights = [weight for model in models for _, weight in model.trained()]
    optimizer = torch.optim.AdamW(weights, fused=True)
    generator = torch.Generator().manual_seed(0)
    responses = torch.randint(10, len(policy.tokenizer), (ROWS, RESPONSE), generator=generator)
    lengths = [responses.shape[1]] * len(responses)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16) if case.setup.mixed else nullcontext():
            states = policy.states(inputs, responses)
            logprobs, _ = policy.logprobs(states, responses, lengths, entropy=True)
            loss = logprobs.mean()
            if value is not None:
                loss = loss + value.values(inputs, responses, lengths, states=states).mean()
        loss.backward()
        del loss, logprobs, states
        optimizer.step()


def steps_of(case: Case) -> Iterator[tuple[str, Callable[[Case], tuple[float, Memory]]]]:
    """The steps that are measured, with their measurements."""
    yield "ppo", measured
    if (
        case.value == "own"
        and not case.setup.checkpointing
        and (case.model == "vlm" or case.setup == Setup())
    ):
        yield "rollout", measured_sampling
