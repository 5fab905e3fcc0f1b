"""Drawing by inverting the distribution function."""

import pytest
import torch
from scipy.stats import chisquare
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from ares.models.inputs import Sampling
from ares.models.sampling import drawn, invert, uniforms_of

BANNED = [0, 7]
COUNT = 40_000


def exact(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The distribution that transformers' own filters give, in float64."""
    scores = logits.double().index_fill(1, torch.tensor(BANNED), -torch.inf)
    if sampling.temperature != 1.0:
        scores = TemperatureLogitsWarper(sampling.temperature)(None, scores)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p < 1.0:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    return scores.softmax(-1)[0]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.6),
        Sampling(temperature=1.7),
        Sampling(top_p=0.8),
        Sampling(top_k=12),
        Sampling(temperature=1.3, top_p=0.7, top_k=25),
    ],
    ids=str,
)
@torch.no_grad()
def test_frequencies_follow_the_exact_distribution(sampling: Sampling) -> None:
    """A chi-square test; the seeds are fixed, so that it passes or fails for good."""
    logits = 1.5 * torch.randn(1, 60, generator=torch.Generator().manual_seed(1))
    expected = exact(logits, sampling)
    choose = drawn(sampling, uniforms_of(3, COUNT, 1), BANNED)
    rows = torch.arange(COUNT)
    tokens, logprobs = choose(logits.expand(COUNT, -1).clone(), rows, torch.zeros_like(rows))
    counts = torch.bincount(tokens, minlength=60)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert chisquare(counts[possible].numpy(), (expected[possible] * COUNT).numpy()).pvalue > 0.01
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[0, tokens])


def test_a_wrong_distribution_fails_the_chi_square_test() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    tokens = invert(weights.expand(COUNT, -1).clone(), uniforms_of(3, COUNT, 1)[:, 0])
    counts = torch.bincount(tokens, minlength=4).numpy()
    assert chisquare(counts, [4_000, 8_000, 12_000, 16_000]).pvalue > 0.01
    assert chisquare(counts, [4_000, 8_000, 12_400, 15_600]).pvalue < 0.01


def test_the_ends_of_the_unit_interval_draw_tokens_of_positive_weight() -> None:
    weights = torch.tensor([0.0, 0.0, 0.3, 0.0, 0.1, 0.0]) * torch.logspace(-6, 6, 50)[:, None]
    last = 1 - 2**-24  # the largest float32 below 1
    assert set(invert(weights.clone(), torch.zeros(50)).tolist()) == {2}
    assert set(invert(weights.clone(), torch.full((50,), last)).tolist()) == {4}


def test_banned_tokens_of_nearly_all_probability_are_not_drawn() -> None:
    """Next to them the weights of all others are 0 in float32."""
    logits = torch.full((4, 60), -150.0).index_fill(1, torch.tensor(BANNED), 90.0)
    choose = drawn(Sampling(), uniforms_of(0, 4, 1), BANNED)
    tokens, logprobs = choose(logits.clone(), torch.arange(4), torch.zeros(4, dtype=torch.long))
    assert not set(tokens.tolist()) & set(BANNED)
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[:, 1])


def test_uniforms_of_a_row_depend_on_the_seed_and_the_row_alone() -> None:
    few, many = uniforms_of(5, 3, 8), uniforms_of(5, 9, 20)
    assert torch.equal(many[:3, :8], few)
    assert len({tuple(row) for row in many.tolist()}) == 9
    assert not torch.equal(uniforms_of(6, 3, 8), few)
    assert many.min() >= 0
    assert many.max() < 1
    assert uniforms_of(5, 0, 4).shape == (0, 4)
