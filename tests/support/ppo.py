"""A policy of a few thousand weights, scored rollouts of it, and a PPO fit on them."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from ares.config.schema import RlConfig
from ares.datamodules.rollouts import RolloutBuffer, RolloutData
from ares.models.t5 import FusionT5Config, T5ForMultimodalGeneration
from ares.models.t5.generation import sample, token_logprobs
from ares.models.t5.loading import value_from_policy
from ares.modules.ppo import run_ppo
from ares.modules.ppo_module import PPOModule
from ares.types import Rollout, Span

PAD, EOS, GOOD, VOCABULARY = 0, 1, range(2, 9), 16
QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
RL = RlConfig(
    lr=1e-2,
    ppo_epochs=2,
    value_warmup_epochs=1,
    global_batch_size=8,
    micro_batch_size=8,
    holdout=0.0,
    warmup_fraction=0.0,
    decay="constant",
)
NO_WARM_UP = replace(RL, value_warmup_epochs=0)


def tiny_policy(seed: int = 0, dropout: float = 0.0) -> T5ForMultimodalGeneration:
    """An untrained policy with a vocabulary of 16 tokens, in eval mode."""
    torch.manual_seed(seed)
    config = FusionT5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        patch_num=2,
        patch_dim=3,
        dropout_rate=dropout,
        feed_forward_proj="gated-gelu",
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=PAD,
        initializer_factor=0.3,
    )
    return T5ForMultimodalGeneration(config).eval()


class TinyFeatures:
    """Two patches of three numbers for each problem, drawn from a hash of its id."""

    def get(self, pids: Sequence[str]) -> np.ndarray:
        seeds = [int(hashlib.sha256(pid.encode()).hexdigest()[:8], 16) for pid in pids]
        return np.stack([np.random.default_rng(s).normal(size=(2, 3)).astype(np.float32) for s in seeds])


def make_buffer(
    policy: T5ForMultimodalGeneration,
    *,
    questions: int = 4,
    k: int = 4,
    seed: int = 0,
    holdout: float = 0.0,
    features: TinyFeatures | None = None,
    reference: T5ForMultimodalGeneration | None = None,
) -> RolloutBuffer:
    """Rollouts of `policy` in which every token but EOS is a sentence, scored 1.0 if it is GOOD and else 0.0."""
    prompts = {f"q{i}": [2 + (i + j) % 13 for j in range(3 + i % 3)] + [EOS] for i in range(questions)}
    generator = torch.Generator().manual_seed(seed)
    rows, scores = [], {}
    for pid, prompt in prompts.items():
        images = None if features is None else torch.from_numpy(features.get([pid]))
        ids, mask = torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.long)
        responses = sample(policy, ids, mask, images, k=k, max_new_tokens=6, generator=generator)
        for j, response in enumerate(responses):
            ends = tuple(t for t, token in enumerate(response) if token != EOS)
            if not ends:
                continue
            inputs = (ids, mask, images, torch.tensor([response]), torch.ones(1, len(response)))
            with torch.no_grad():
                own, other = (
                    tuple(token_logprobs(model, *inputs)[0].tolist())
                    for model in (policy, reference or policy)
                )
            text = "".join(chr(97 + token) for token in response)
            spans = tuple(Span(t, t + 1) for t in ends)
            row = Rollout(
                f"{pid}/{j}", pid, j, text, tuple(response), EOS not in response, spans, ends, own, other
            )
            rows.append(row)
            scores[row.row_id] = [float(response[t] in GOOD) for t in ends]
    return RolloutBuffer(rows, scores, prompts, pad_id=PAD, neutral=0.5, holdout=holdout)


def good_probability(
    policy: T5ForMultimodalGeneration, buffer: RolloutBuffer, features: TinyFeatures | None = None
) -> float:
    """The mean probability of a GOOD token among tokens that are sentences, after each prefix in the buffer."""
    batch = buffer.batch(range(len(buffer)), features)
    states = policy.decoder_states(
        batch["input_ids"],
        batch["attention_mask"],
        batch["image_features"],
        nn.functional.pad(batch["response_ids"], (1, 0))[:, :-1],
    )
    with torch.no_grad():
        probabilities = policy.logits(states).softmax(-1)[batch["response_mask"].bool()]
    return (probabilities[:, list(GOOD)].sum(-1) / probabilities[:, 2:].sum(-1)).mean().item()


class Watch(pl.Callback):
    """Records the metrics of every micro-batch and the unclipped gradients of every optimizer step."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients.append({n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        self.metrics.append({name: float(value) for name, value in trainer.logged_metrics.items()})


def train(
    policy: T5ForMultimodalGeneration,
    buffer: RolloutBuffer,
    folder: Path,
    rl: RlConfig = RL,
    *,
    value: nn.Module | None = None,
    features: TinyFeatures | None = None,
    callbacks: Sequence[pl.Callback] = (),
    **trainer_arguments: Any,
) -> dict[str, float]:
    """Runs PPO in `folder`, by default with a fresh value model on the CPU; returns its metrics."""
    return run_ppo(
        policy,
        value_from_policy(policy) if value is None else value,
        buffer,
        rl,
        seed=0,
        features=features,
        checkpoints=folder,
        trainer_arguments={
            **QUIET,
            "default_root_dir": folder,
            "callbacks": list(callbacks),
            **trainer_arguments,
        },
    )


def module_and_batch(rl: RlConfig = NO_WARM_UP, **trainer: Any) -> tuple[PPOModule, dict[str, Any]]:
    """A module in its first epoch with random advantages and returns, and all rows as one batch; in float64."""
    policy = tiny_policy().double()
    buffer = make_buffer(policy, reference=tiny_policy(seed=9).double())
    data = RolloutData(buffer, features=None, global_batch=len(buffer), micro=len(buffer), world=1, seed=0)
    module = PPOModule(policy, value_from_policy(policy), data, rl)
    settings = {"current_epoch": 0, "accumulate_grad_batches": 1, "world_size": 1, "precision": "64-true"}
    module._trainer = SimpleNamespace(**{**settings, **trainer})  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(0)
    module.advantages = torch.randn(buffer.mask.shape, generator=generator)
    module.returns = torch.randn(buffer.mask.shape, generator=generator)
    return module, data.train_dataloader().dataset[0]


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a model's tensors by name."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are bitwise equal."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
