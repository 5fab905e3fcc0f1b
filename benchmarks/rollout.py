"""Rollouts: k samples per question and their log-probabilities under policy and reference, in rows per second.

`paper_path` does what the original code does, `transformers` what one would write with the library today; all sides have
the same weights, prompts, sampling settings and prescribed lengths of responses. The baselines do fewer rows, of the same
distribution of lengths: their rows cost more, but not other amounts each. Texts and sentences are not measured.
On a GPU all sides write in bfloat16, and compute log-probabilities in float32.
A second table is of greedy rationales, one per question and without log-probabilities, as `generate` writes them.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from ares.models.inputs import Inputs, Sampling
from ares.models.policy import Policy
from ares.models.precision import half_on_gpu
from ares.models.sampling import drawn, most_likely, uniforms_of
from ares.models.scheduling import CHECK_EVERY
from ares.models.scoring import response_logprobs
from ares.models.vlm.policy import VlmPolicy
from ares.rl.masked import pad_right
from benchmarks.baselines import build_policy, questions
from benchmarks.lengths import response_lengths
from benchmarks.plain import stock
from benchmarks.turns import alternate, table

K, EOS, PAD, PADDED = 4, 1, 0, 512
QUESTIONS, BATCH, PAPER_ROWS = 32, 8, 2  # of ours, of transformers, and of one of the original's k calls
UNFILTERED = {"do_sample": True, "top_k": 0}


def main(args: argparse.Namespace) -> dict[str, float]:
    """Measures the three sides in turn."""
    policy = build_policy(args.policy, args.size, seed=0, device=args.device)
    reference = build_policy(args.policy, args.size, seed=1, device=args.device)
    inputs = questions(policy, QUESTIONS).to(args.device)
    by_length = sorted(range(QUESTIONS), key=inputs.lengths.__getitem__)
    some = [inputs.select(by_length[QUESTIONS // n // 2 :: QUESTIONS // n]) for n in (BATCH, PAPER_ROWS)]
    models, plain = [policy, reference], stock(policy.model, reference.model)
    with torch.no_grad():
        print("samples and their log-probabilities")
        sampled = alternate(
            {
                "ours": lambda: ours(policy, reference, inputs),
                "transformers": plain(lambda: with_transformers(models, some[0])),
                "paper_path": plain(lambda: as_the_original(models, some[1])),
            },
            device=args.device,
            limit=args.seconds,
        )
        found = table(sampled, {"ours": QUESTIONS * K, "transformers": BATCH * K, "paper_path": PAPER_ROWS})
        many = questions(policy, QUESTIONS * K).to(args.device)
        print("greedy rationales")
        greedy = alternate(
            {
                "ours": lambda: greedily(policy, many),
                "transformers": plain(lambda: greedily_with_transformers(policy, inputs)),
                "paper_path": plain(lambda: greedily_with_transformers(policy, some[1], PADDED)),
            },
            device=args.device,
            limit=args.seconds,
        )
    rows = {"ours": len(many), "transformers": QUESTIONS, "paper_path": PAPER_ROWS}
    return {**found, **{f"generate_{name}": value for name, value in table(greedy, rows).items()}}


def ours(policy: Policy, reference: Policy, inputs: Inputs) -> None:
    """What the step does: samples with their log-probabilities, then those under the reference."""
    limits = response_lengths(len(inputs) * K)
    choose = drawn(
        Sampling(), uniforms_of(0, len(limits), max(limits) + CHECK_EVERY).to(policy.device), [PAD, EOS]
    )
    samples = policy.write(inputs, choose, limits, k=K)
    responses = [sample.ids for sample in samples]
    if not samples[0].exact:
        response_logprobs(policy, inputs, responses, K)
    response_logprobs(reference, inputs, responses, K)


def with_transformers(models: Sequence[Policy], inputs: Inputs) -> None:
    """`generate` with k samples per prompt and a cache; scores in chunks of 32 rows of similar length."""
    lengths = response_lengths(len(inputs) * K)
    written = generated(
        models[0], batch_of(inputs), lengths, **UNFILTERED, num_return_sequences=K, use_cache=True
    )
    order = sorted(range(len(written)), key=lambda row: len(written[row]))
    for start in range(0, len(order), 32):
        rows = order[start : start + 32]
        chosen = inputs.select([row // K for row in rows])
        for model in models:
            scored(model, chosen, pad_right([written[row] for row in rows], PAD))


def as_the_original(models: Sequence[Policy], inputs: Inputs) -> None:
    """One of k calls of `generate` without a cache, then a pass per model; all padded to the longest possible."""
    lengths = response_lengths(len(inputs))
    written = generated(models[0], batch_of(inputs, PADDED), lengths, **UNFILTERED, use_cache=False)
    responses = F.pad(pad_right(written, PAD), (0, PADDED - max(lengths)), value=PAD)
    for model in models:
        scored(model, inputs, responses, PADDED)


def greedily(policy: Policy, inputs: Inputs) -> None:
    """What the step does: as many prompts in progress as transformers has in a batch."""
    choose = most_likely([PAD, EOS], policy.device)
    policy.write(inputs, choose, response_lengths(len(inputs)), slots=QUESTIONS)


def greedily_with_transformers(policy: Policy, inputs: Inputs, length: int | None = None) -> None:
    """`generate` of one batch; with a `length` as the original calls it: prompts padded to it, no cache."""
    lengths = response_lengths(len(inputs))
    generated(policy, batch_of(inputs, length), lengths, do_sample=False, use_cache=length is None)


class Prescribed(LogitsProcessor):
    """Ends each row at its length and none before."""

    def __init__(self, lengths: Sequence[int], start: int, device: torch.device) -> None:
        self.lengths, self.start = torch.tensor(lengths, device=device), start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See `LogitsProcessor`."""
        scores[:, EOS] = -torch.inf
        ends = self.lengths == input_ids.shape[1] - self.start + 1
        scores.masked_fill_(ends[:, None], -torch.inf)
        scores[:, EOS].masked_fill_(ends, 0.0)
        return scores


def generated(
    policy: Policy, batch: dict[str, Tensor], lengths: Sequence[int], **how: Any
) -> list[list[int]]:
    """`generate` of the network; the ids of each response."""
    start = batch["input_ids"].shape[1] if isinstance(policy, VlmPolicy) else 1
    settings = GenerationConfig(
        **how,
        max_new_tokens=max(lengths),
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    if not isinstance(policy, VlmPolicy):
        settings.decoder_start_token_id = PAD
    prescribed = LogitsProcessorList([Prescribed(lengths, start, policy.device)])
    with half_on_gpu(policy):
        found = policy.model.generate(**batch, generation_config=settings, logits_processor=prescribed)
    return [row[:length] for row, length in zip(found[:, start:].tolist(), lengths, strict=True)]


def batch_of(inputs: Any, length: int | None = None) -> dict[str, Tensor]:
    """Prompts as the network takes them for `generate`, padded to `length`."""
    if hasattr(inputs, "samples"):
        batch = inputs.prompts()
        for key in ("input_ids", "attention_mask"):
            batch[key] = F.pad(batch[key], (max(0, (length or 0) - batch[key].shape[1]), 0))
        return batch
    ids, mask, images = inputs.tensors
    missing = (0, max(0, (length or 0) - ids.shape[1]))
    return {
        "input_ids": F.pad(ids, missing),
        "attention_mask": F.pad(mask, missing),
        "image_features": images,
    }


def scored(policy: Policy, inputs: Any, responses: Tensor, length: int | None = None) -> Tensor:
    """Log-probabilities of responses (B, T) by one forward pass of the network."""
    responses = responses.to(policy.device)
    if isinstance(policy, VlmPolicy):
        batch, text = batch_of(inputs, length), responses.shape[1]
        batch["input_ids"] = torch.cat([batch["input_ids"], responses], dim=1)
        batch["attention_mask"] = F.pad(batch["attention_mask"], (0, text), value=1)
        logits = policy.model(**batch, logits_to_keep=text + 1).logits[:, :-1]
    else:
        logits = policy.model(
            **batch_of(inputs, length), decoder_input_ids=F.pad(responses, (1, 0))[:, :-1]
        ).logits
    return -F.cross_entropy(logits.transpose(1, 2), responses, reduction="none")
