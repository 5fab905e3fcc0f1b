"""A policy of a few thousand weights, scored rollouts of it, and a PPO fit on them."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from ares.config.schema import RlConfig
from ares.datamodules.buffer import RolloutBatch, RolloutBuffer
from ares.datamodules.rollouts import RolloutData
from ares.models.inputs import Sampling
from ares.models.policy import Policy, Trainable, ValueModel
from ares.modules.ppo import run_ppo
from ares.modules.ppo_module import PPOModule
from ares.rl.masked import pad_right
from ares.rl.objectives import load_objective
from ares.storage.flat import flat_rollouts
from ares.types import Example, Rollout, Span
from tests.support.number_vlm import number_vlm, picture
from tests.support.policies import EOS, number_policy

GOOD, VOCABULARY = range(2, 9), 16
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


class TinyFeatures:
    """Two patches of three numbers for each problem, drawn from a hash of its id."""

    shape = (2, 3)

    def get(self, pids: Sequence[str]) -> np.ndarray:
        seeds = [int(hashlib.sha256(pid.encode()).hexdigest()[:8], 16) for pid in pids]
        return np.stack([np.random.default_rng(s).normal(size=(2, 3)).astype(np.float32) for s in seeds])


def tiny_policy(
    seed: int = 0, dropout: float = 0.0, features: TinyFeatures | None = None, *, kind: str = "t5"
) -> Policy:
    """An untrained policy with a vocabulary of 16 tokens, in eval mode: a T5 or, of `kind` "vlm", an adapter on a LLaVA.

    `features` are what a T5 sees of images.
    """
    if kind == "vlm":
        return number_vlm(seed, dropout=dropout)
    return number_policy(seed, dropout=dropout, features=features)


def new_value(policy: Policy, *, shared: bool = False) -> ValueModel:
    """A fresh value model of the policy."""
    return policy.new_value(seed=0, shared=shared)


@torch.no_grad()
def make_buffer(
    policy: Policy,
    *,
    questions: int = 4,
    k: int = 4,
    seed: int = 0,
    holdout: float = 0.0,
    reference: Policy | None = None,
) -> RolloutBuffer:
    """Rollouts of `policy` in which every token but EOS is a sentence, scored 1.0 if it is GOOD and else 0.0.

    Every other question has an image.
    """
    prompts = {f"q{i}": " ".join(str(2 + (i + j) % 13) for j in range(3 + i % 3)) for i in range(questions)}
    examples = {
        pid: Example(prompt, "", pid, (picture(i),) if i % 2 == 0 else (), prompt)
        for i, (pid, prompt) in enumerate(prompts.items())
    }
    rows, scores = [], {}
    inputs = policy.encode(list(examples.values()))
    samples = policy.sample(inputs, k=k, max_new_tokens=6, seed=seed, sampling=Sampling())
    responses = [sample.ids for sample in samples]
    written = pad_right(responses, 0), list(map(len, responses))
    own = policy.token_logprobs(inputs.repeat(k), *written)
    other = own if reference is None else reference.token_logprobs(inputs.repeat(k), *written)
    for number, pid in enumerate(examples):
        for j in range(k):
            response = responses[number * k + j]
            ends = tuple(t for t, token in enumerate(response) if token != EOS)
            if not ends:
                continue
            logprobs, reference_logprobs = (
                tuple(found[number * k + j, : len(response)].tolist()) for found in (own, other)
            )
            text = "".join(chr(97 + token) for token in response)
            spans = tuple(Span(t, t + 1) for t in ends)
            ids, truncated = tuple(response), EOS not in response
            row = Rollout(
                f"{pid}/{j}", pid, j, text, ids, truncated, spans, ends, logprobs, reference_logprobs
            )
            rows.append(row)
            scores[row.row_id] = [float(response[t] in GOOD) for t in ends]
    return RolloutBuffer(policy, examples, flat_rollouts(rows), scores, neutral=0.5, holdout=holdout)


def good_probability(policy: Policy, buffer: RolloutBuffer) -> float:
    """The mean probability of a GOOD token among tokens that are sentences, after each prefix in the buffer."""
    batch = buffer.batch(range(len(buffer)))
    with torch.no_grad():
        states = policy.states(batch["inputs"], batch["response_ids"])
        probabilities = policy.logits(states).softmax(-1)[batch["response_mask"].bool()]
    return (probabilities[:, list(GOOD)].sum(-1) / probabilities[:, 2:].sum(-1)).mean().item()


def logprobs_of(policy: Policy, batch: RolloutBatch) -> torch.Tensor:
    """The policy's log-probabilities (B, T) of a batch's responses."""
    return policy.token_logprobs(batch["inputs"], batch["response_ids"], batch["lengths"])


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
    policy: Policy,
    buffer: RolloutBuffer,
    folder: Path,
    rl: RlConfig = RL,
    *,
    value: ValueModel | None = None,
    callbacks: Sequence[pl.Callback] = (),
    minutes: float = 10,
    **trainer_arguments: Any,
) -> dict[str, float]:
    """Runs PPO in `folder`, by default with a fresh value model on the CPU; returns its metrics.

    `minutes` between checkpoints; 0 for one after every optimizer step.
    """
    return run_ppo(
        policy,
        new_value(policy) if value is None else value,
        buffer,
        rl,
        seed=0,
        checkpoints=folder,
        checkpoint_minutes=minutes,
        trainer_arguments={
            **QUIET,
            "default_root_dir": folder,
            "callbacks": list(callbacks),
            **trainer_arguments,
        },
    )


def module_and_batch(
    build: Callable[..., Policy], rl: RlConfig = NO_WARM_UP, **trainer: Any
) -> tuple[PPOModule, Mapping[str, Any]]:
    """A module in its first epoch with random advantages and returns, and all rows as one batch; in float64.

    `build` is `tiny_policy` of some kind.
    """
    policy = build().double()
    buffer = make_buffer(policy, reference=build(seed=9).double())
    data = RolloutData(buffer, global_batch=len(buffer), micro=len(buffer), world=1, seed=0)
    objective = load_objective(rl.objective)
    module = PPOModule(
        policy,
        new_value(policy) if objective.needs_value else None,
        data,
        rl,
        objective,
    )
    settings = {"current_epoch": 0, "accumulate_grad_batches": 1, "world_size": 1, "precision": "64-true"}
    module._trainer = SimpleNamespace(**{**settings, **trainer})  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(0)
    module.advantages = torch.randn(buffer.rewards.shape, generator=generator)
    module.returns = torch.randn(buffer.rewards.shape, generator=generator)
    return module, data.train_dataloader().dataset[0]


def weights(model: Trainable) -> dict[str, torch.Tensor]:
    """A copy of the weights that training a model changes, by name."""
    return {name: weight.detach().clone() for name, weight in model.trained()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are bitwise equal."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
