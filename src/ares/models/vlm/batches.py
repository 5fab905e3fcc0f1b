"""Generation by transformers itself, batch by batch, for networks whose attention cannot be replaced."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from ares.models.inputs import Sample
from ares.models.sampling import Choose
from ares.models.vlm.reader import VlmInputs


def write_in_batches(
    network: Any,
    inputs: VlmInputs,
    choose: Choose,
    limits: Sequence[int],
    *,
    eos: int,
    k: int = 1,
    slots: int = 64,
    finished: Callable[[int], object] = lambda rows: None,
) -> list[Sample]:
    """`ares.models.scheduling.write`, except that a batch lasts until its longest response has ended."""
    written: dict[int, Sample] = {}
    order = sorted(range(len(limits)), key=lambda row: -inputs.lengths[row // k])
    for start in range(0, len(order), slots):
        rows = order[start : start + slots]
        batch = inputs.select([row // k for row in rows]).prompts()
        chosen = _Chosen(choose, rows, batch["input_ids"])
        most = [limits[row] for row in rows]
        settings = GenerationConfig(
            do_sample=False, eos_token_id=eos, pad_token_id=eos, max_new_tokens=max(most)
        )
        # A rank never waits for the texts of another, even if it trains a shard of the network.
        network.generate(
            **batch,
            generation_config=settings,
            logits_processor=LogitsProcessorList([chosen]),
            synced_gpus=False,
        )
        for row, limit, ids, logprobs in zip(rows, most, *chosen.responses(), strict=True):
            length = min(limit, ids.index(eos) + 1 if eos in ids else limit)
            written[row] = Sample(
                ids[:length], logprobs[:length], not torch.is_autocast_enabled(batch["input_ids"].device.type)
            )
        finished(len(rows))
    return [written[row] for row in range(len(limits))]


class _Chosen(LogitsProcessor):
    """Leaves `generate` no choice but the token that `choose` chooses."""

    def __init__(self, choose: Choose, rows: Sequence[int], prompts: Tensor) -> None:
        self.choose, self.start = choose, prompts.shape[1]
        self.rows = torch.tensor(rows, device=prompts.device)
        self.tokens: list[Tensor] = []
        self.logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See `LogitsProcessor`."""
        ages = torch.full_like(self.rows, input_ids.shape[1] - self.start)
        tokens, logprobs = self.choose(scores, self.rows, ages)
        self.tokens.append(tokens)
        self.logprobs.append(torch.zeros(tokens.shape) if logprobs is None else logprobs.cpu())
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)

    def responses(self) -> tuple[list[list[int]], list[list[float]]]:
        """The chosen tokens of each row and their log-probabilities, beyond its end, too."""
        return torch.stack(self.tokens, 1).tolist(), torch.stack(self.logprobs, 1).tolist()
