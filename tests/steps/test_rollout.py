"""What the options of sampling and of the reference change in the rollouts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ares.config.schema import Config
from ares.datamodules.buffer import RolloutBuffer
from ares.models.t5.loading import build_model, load_model, save_model
from ares.models.t5.policy import T5Policy
from ares.steps import ppo, rollout
from ares.steps.common.contract import StepContext
from ares.steps.rollout import part_seed
from ares.storage.flat import flat_rollouts
from ares.storage.tables import read_rollouts
from ares.text.tokenizers import load_tokenizer, train_tokenizer
from ares.types import Feedback, Problem, Rollout
from tests.support.composed import composed
from tests.support.t5 import token_logprobs

SIZES = {"d_model": 16, "d_ff": 32, "d_kv": 8, "layers": 1, "heads": 2, "patch_dim": 3, "patch_num": 2}


def problem(number: int) -> Problem:
    question = f"Which of these {number} is a plant?"
    rest = ("", "", "", "Solution.", None, "train", "science", "", "", "", "", "")
    return Problem(f"p{number}", question, ("a fern", "a rock"), 0, *rest)


PROBLEMS = {f"p{number}": problem(number) for number in range(3)}


def configured(**rl: Any) -> Config:
    config = composed("experiment=demo", "features=none")
    return replace(config, rl=replace(config.rl, **{"k": 4, "max_new_tokens": 8, **rl}))


@pytest.fixture(scope="module")
def policies(tmp_path_factory) -> Path:
    """Two different policies with one tokenizer, in `first` and `second`."""
    root = tmp_path_factory.mktemp("policies")
    texts = [p.question for p in PROBLEMS.values()] * 3
    tokenizer = train_tokenizer(texts, vocab_size=200)
    for seed, name in enumerate(("first", "second")):
        model = build_model(tokenizer, **SIZES, dropout=0.0, seed=seed, features=False)
        save_model(model, tokenizer, root / name)
    return root


def sampled(policies: Path, tmp_path: Path, monkeypatch, **rl: Any) -> list[Rollout]:
    """The rollouts of `second` in round 2 of a run that began with `first`."""
    monkeypatch.setattr(rollout, "load_problems", lambda config, run: (PROBLEMS, {"train": list(PROBLEMS)}))
    config = configured(**rl)
    inputs = {"policy": policies / "second", "initial": policies / "first"}
    context = StepContext(tmp_path, "round-2/rollouts", tmp_path / "rollouts", 2, config, "hash", inputs)
    context.folder.mkdir()
    rollout.rollout(config, context)
    return read_rollouts(context.folder)


def distinct(rows: list[Rollout]) -> list[int]:
    """How many different responses each question has."""
    return [len({row.token_ids for row in rows if row.pid == pid}) for pid in PROBLEMS]


def test_samples_of_unfiltered_policy_differ(policies, tmp_path, monkeypatch) -> None:
    rows = sampled(policies, tmp_path, monkeypatch)
    assert len(rows) == 4 * len(PROBLEMS)
    assert min(distinct(rows)) > 1
    assert max(len(row.token_ids) for row in rows) == 8


@pytest.mark.parametrize("option", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}], ids=str)
def test_sampling_settings_reach_the_sampler(policies, tmp_path, monkeypatch, option: dict[str, Any]) -> None:
    assert distinct(sampled(policies, tmp_path, monkeypatch, **option)) == [1] * len(PROBLEMS)


def reference_logprobs(policy: Any, tokenizer: Any, config: Config, row: Rollout) -> list[float]:
    prompt = rollout.examples_of(PROBLEMS, [row.pid], "QCM-E", config)[row.pid].prompt
    ids, response = torch.tensor([tokenizer(prompt)["input_ids"]]), torch.tensor([row.token_ids])
    with torch.no_grad():
        said = token_logprobs(policy, ids, torch.ones_like(ids), None, response, [response.shape[1]])
    return said[0].tolist()


@pytest.mark.parametrize(("reference", "name"), [("initial", "first"), ("round", "second")])
def test_reference_in_second_round(policies, tmp_path, monkeypatch, reference: str, name: str) -> None:
    rows = sampled(policies, tmp_path, monkeypatch, reference=reference)
    policy, tokenizer = (
        load_model(policies / name, dropout=0.0, features=False),
        load_tokenizer(policies / name),
    )
    for row in rows:
        expected = reference_logprobs(policy, tokenizer, configured(), row)
        assert row.ref_logprobs == pytest.approx(expected, abs=1e-4)
        assert (row.ref_logprobs == row.logprobs) == (reference == "round")


def test_part_seed_is_pinned() -> None:
    """`printf 7/1/3 | sha256sum`, the first 8 bytes."""
    assert part_seed(7, 1, 3) == 0x0036E785AE6D1AD9
    assert part_seed(0, 2, 10) == 0x0D5231E4A1922D58


def buffer_of(
    config: Config, policies: Path, tmp_path: Path, rows: list[Rollout], feedback: list[Feedback]
) -> RolloutBuffer:
    """The buffer that `ppo` trains `first` on."""
    context = StepContext(tmp_path, "round-1/ppo", tmp_path / "ppo", 1, config, "hash", {})
    policy = T5Policy.load(policies / "first", dropout=0.0)
    return ppo._buffer(config, context, PROBLEMS, policy, flat_rollouts(rows), feedback)


@pytest.mark.parametrize("neutral", [0.5, 0.2])
def test_reward_is_score_minus_neutral(policies, tmp_path, monkeypatch, neutral: float) -> None:
    rows = sampled(policies, tmp_path, monkeypatch)
    config = configured(neutral=neutral, holdout=0.0)
    feedback = [Feedback(row.row_id, tuple(0.9 for _ in row.spans), "ok") for row in rows if row.spans]
    buffer = buffer_of(config, policies, tmp_path, rows, feedback)
    sentences = torch.tensor([float(len(ends)) for ends in buffer.ends])
    sums = torch.stack([buffer.rewards[buffer.tokens(row)].sum() for row in range(len(buffer))])
    torch.testing.assert_close(sums, (0.9 - neutral) * sentences)


@pytest.mark.parametrize(("correction", "weight"), [("token", 2.0), ("none", 1.0)])
def test_sampler_correction_reaches_the_buffer(
    policies, tmp_path, monkeypatch, correction: str, weight: float
) -> None:
    rows = [
        replace(row, sampler_logprobs=tuple(value - 1 for value in row.logprobs))
        for row in sampled(policies, tmp_path, monkeypatch)
    ]
    feedback = [Feedback(row.row_id, tuple(0.9 for _ in row.spans), "ok") for row in rows if row.spans]
    config = configured(sampler_correction=correction, holdout=0.0)
    buffer = buffer_of(config, policies, tmp_path, rows, feedback)
    assert set(buffer.sampler_weights.tolist()) == {weight}
