import numpy as np
import pytest

from ares.evaluation.statistics import nested_bootstrap, paired_bootstrap, share_interval


def test_interval_covers_the_true_difference_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        before = random.normal(size=80)
        after = before + 0.3 + random.normal(size=80)
        _, low, high = paired_bootstrap(before, after, n=500, seed=trial)
        covered += low <= 0.3 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_width_equals_the_normal_interval() -> None:
    random = np.random.default_rng(1)
    before, after = random.normal(size=1000), random.normal(loc=1.0, size=1000)
    mean, low, high = paired_bootstrap(before, after)
    half = 1.96 * np.std(after - before) / np.sqrt(1000)
    assert mean == pytest.approx(np.mean(after - before))
    assert (mean - low, high - mean) == (pytest.approx(half, rel=0.05), pytest.approx(half, rel=0.05))


def test_pairs_matter() -> None:
    # The same gain for every question leaves no doubt, however different the questions are.
    before = [0.0, 1.0, 5.0, 9.0]
    assert paired_bootstrap(before, [value + 0.5 for value in before]) == (0.5, 0.5, 0.5)


def test_same_seed_same_interval() -> None:
    before, after = [0.1, 0.9, 0.4, 0.3], [0.4, 0.8, 0.9, 0.2]
    assert paired_bootstrap(before, after, seed=3) == paired_bootstrap(before, after, seed=3)
    assert paired_bootstrap(before, after, seed=3, n=50) != paired_bootstrap(before, after, seed=4, n=50)


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0])])
def test_needs_pairs(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        paired_bootstrap(before, after)


def test_interval_of_a_share_is_wilsons() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for counts, ends in published.items():
        assert share_interval(*counts) == pytest.approx(ends, abs=5e-5)
    assert share_interval(20, 20) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)


@pytest.mark.parametrize(("right", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_needs_questions(right: int, total: int) -> None:
    with pytest.raises(ValueError, match="right"):
        share_interval(right, total)


def test_nested_bootstrap_of_one_group_is_the_paired_one() -> None:
    gains = np.random.default_rng(2).normal(size=400)
    _, low, high = paired_bootstrap([0.0] * 400, gains)
    draws = nested_bootstrap([gains[:, None]])
    assert draws.mean() == pytest.approx(gains.mean(), abs=0.005)
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([low, high], abs=0.01)


def test_nested_bootstrap_covers_the_spread_between_groups() -> None:
    # Questions that all gain the same within a seed: only the seeds differ, by a standard deviation of 0.5.
    draws = nested_bootstrap([np.full((50, 1), 0.0), np.full((50, 1), 1.0)])
    assert draws.mean() == pytest.approx(0.5, abs=0.03)
    assert draws.std() == pytest.approx(0.5 / 2**0.5, abs=0.02)


def test_nested_bootstrap_keeps_columns_paired() -> None:
    gains = np.random.default_rng(3).normal(size=60)
    draws = nested_bootstrap([np.stack([gains, 2 * gains], axis=1)] * 3, n=50)
    assert draws.shape == (50, 2)
    assert draws[:, 1] == pytest.approx(2 * draws[:, 0])


@pytest.mark.parametrize("groups", [[], [np.zeros((3, 1)), np.zeros((0, 1))]])
def test_nested_bootstrap_needs_questions(groups: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="one question or more"):
        nested_bootstrap(groups)
