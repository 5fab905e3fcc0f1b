"""Measures of agreement, compared with those of scipy and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from ares.evaluation.agreement import HeldOut, agreement, auc, calibration, calibration_error, spearman

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.choice([0.0, 0.5, 1.0], 300)
GUESSES = (0.3 * SCORES + RANDOM.random(300)).round(2) / 1.3


def test_measures_equal_those_of_libraries() -> None:
    assert spearman(SCORES, GUESSES) == pytest.approx(spearmanr(SCORES, GUESSES).statistic)
    assert auc(SCORES > 0, GUESSES) == pytest.approx(roc_auc_score(SCORES > 0, GUESSES))


def test_measures_without_anything_to_compare() -> None:
    assert spearman([1.0, 1.0], [0.1, 0.2]) == spearman([], []) == 0.0
    assert auc([True], [0.5]) == auc([], []) == 0.5
    assert calibration_error([], []) == 0.0
    with pytest.raises(ValueError, match="needs pairs"):
        spearman([1.0], [])


def test_calibration_by_parts_of_the_unit_interval() -> None:
    predicted, observed = [0.05, 0.15, 0.19, 1.0], [0.0, 0.0, 1.0, 1.0]
    assert calibration(predicted, observed) == [
        pytest.approx((0.05, 0.0, 1)),
        pytest.approx((0.17, 0.5, 2)),
        pytest.approx((1.0, 1.0, 1)),
    ]
    assert calibration_error(predicted, observed) == pytest.approx((0.05 + 2 * 0.33) / 4)


def test_agreement_of_several_parts() -> None:
    parts = [
        HeldOut([1.0, 0.0], [0.9, 0.2], [[1.0, 0.5], [0.1, 0.1]], 1.0, 2),
        HeldOut([0.5], [0.6], [[0.0, 2.0]], 0.5, 1),
    ]
    found = agreement(parts)
    assert found["log_likelihood"] == -0.5
    assert (found["spearman"], found["auc"], found["pair_accuracy"]) == (1.0, 1.0, 0.5)
    assert agreement([HeldOut([], [], [[1.0, 0.0]], 1.0, 1)]) == {
        "log_likelihood": -1.0,
        "pair_accuracy": 1.0,
    }
