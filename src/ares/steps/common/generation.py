"""Prompts in, token ids out, in batches, with progress: what rollout, generate and ppo's evaluation share."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ares.config.schema import Config
from ares.ranks import gather, shard
from ares.steps.common.contract import StepContext
from ares.steps.common.inputs import examples_of, features_of, progress
from ares.types import Example, Problem, Rationale

if TYPE_CHECKING:
    from torch import Tensor


def prompt_batch(
    prompts: Sequence[Sequence[int]], pids: Sequence[str], features: Any, pad_id: int, device: Any
) -> "tuple[Tensor, Tensor, Tensor | None]":
    """`(input_ids (B, S) int64, attention_mask (B, S) int64, image_features (B, P, D) float32 or None)`."""
    from ares.datamodules.collate import collate_prompts

    batch = collate_prompts(prompts, pids, pad_id, features)
    images = batch["image_features"]
    return (
        batch["input_ids"].to(device),  # type: ignore[union-attr]
        batch["attention_mask"].to(device),  # type: ignore[union-attr]
        None if images is None else images.to(device),
    )


def encode_prompts(
    tokenizer: Any, examples: Mapping[str, Example], max_input_tokens: int
) -> dict[str, list[int]]:
    """The prompts' ids by pid, cut to `max_input_tokens` with EOS kept as the last one."""
    if not examples:  # a data set without this split
        return {}
    texts = [example.prompt for example in examples.values()]
    ids = tokenizer(texts, truncation=True, max_length=max_input_tokens)["input_ids"]
    return dict(zip(examples, ids, strict=True))


def greedy_rationales(
    model: Any,
    tokenizer: Any,
    examples: Mapping[str, Example],
    features: Any,
    *,
    max_input_tokens: int,
    max_new_tokens: int,
    batch_size: int,
    label: str,
) -> list[Rationale]:
    """A greedy rationale for each example, in their order; batches group prompts of like length.

    Ranks share the batches, and each returns all rationales.
    """
    from ares.models.t5.generation import generate_greedy

    prompts = encode_prompts(tokenizer, examples, max_input_tokens)
    order = sorted(prompts, key=lambda pid: len(prompts[pid]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    mine, written = shard(batches), []
    for pids in progress(mine, total=len(mine), label=label):
        ids, mask, images = prompt_batch(
            [prompts[pid] for pid in pids], pids, features, tokenizer.pad_token_id, model.device
        )
        responses = generate_greedy(model, ids, mask, images, max_new_tokens=max_new_tokens)
        texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
        for pid, response, text in zip(pids, responses, texts, strict=True):
            written.append((pid, text, response, tokenizer.eos_token_id not in response))
    found = {
        pid: Rationale(pid, text, tuple(response), truncated)
        for rows in gather(written)
        for pid, text, response, truncated in rows
    }
    return [found[pid] for pid in examples]


def rationales_of(
    config: Config, context: StepContext, policy: Any, tokenizer: Any, problems: Sequence[Problem], label: str
) -> list[Rationale]:
    """The policy's greedy rationales of problems, in their order, generated as `generate` is configured."""
    by_pid = {problem.pid: problem for problem in problems}
    return greedy_rationales(
        policy,
        tokenizer,
        examples_of(by_pid, by_pid, "QCM-E", config),
        features_of(context),
        max_input_tokens=config.text.max_input_tokens,
        max_new_tokens=config.generate.max_new_tokens,
        batch_size=config.generate.batch_size,
        label=f"{context.key} {label}",
    )
