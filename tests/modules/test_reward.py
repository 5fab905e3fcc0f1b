"""Fits of reward models: what they learn, how batches are divided, and that they resume."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ares.datamodules.reward import Item
from ares.models.reward import Reading
from ares.modules.reward import measure
from ares.types import AresError
from tests.support.interrupting import KillAt, Killed
from tests.support.ppo import Watch, same, weights
from tests.support.reward import FIT, preferred, reward_data, reward_model, scored, train_reward

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("kind", "epochs", "lr"), [("t5", 6, 2e-2), pytest.param("vlm", 12, 3e-2, marks=pytest.mark.slow)]
)
def test_model_learns_which_sentences_are_good(tmp_path: Path, kind: str, epochs: int, lr: float) -> None:
    model = reward_model(kind)
    fit = replace(FIT, epochs=epochs, lr=lr)
    metrics = train_reward(model, tmp_path, scored(range(24)), scored(range(24, 32)), fit=fit)
    assert metrics["val/log_likelihood"] > -0.69
    data = reward_data(model, scored([0]), scored(range(24, 32)))
    found = [held_out for _, held_out in measure(model, data.val, fit)]
    good = [p for part in found for p, score in zip(part.predicted, part.scores, strict=True) if score]
    bad = [p for part in found for p, score in zip(part.predicted, part.scores, strict=True) if not score]
    assert min(len(good), len(bad)) > 5
    assert sum(good) / len(good) > sum(bad) / len(bad) + 0.3


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_model_learns_from_pairs(tmp_path: Path, pool: str) -> None:
    model, fit = reward_model(), replace(FIT, epochs=3, lr=2e-2, pool=pool)
    train_reward(model, tmp_path, preferred(range(16)), preferred(range(16, 20)), fit=fit)
    data = reward_data(model, preferred([0]), preferred(range(16, 20)))
    pairs = [pair for _, part in measure(model, data.val, fit) for pair in part.pairs]
    assert len(pairs) == 4
    assert all(chosen > rejected + 0.5 for chosen, rejected in pairs)


def test_gradients_do_not_depend_on_micro_batches(tmp_path: Path) -> None:
    """The centering term apart, which is that of a micro-batch."""
    found = []
    for micro in (8, 2, 1):
        watch, model = Watch(), reward_model().double()
        fit = replace(FIT, epochs=1, global_batch_size=8, micro_batch_size=micro, center=0.0)
        labels = [*scored(range(5)), *preferred(range(5, 8))]
        train_reward(model, tmp_path / str(micro), labels, fit=fit, callbacks=[watch], precision="64-true")
        found.append(watch.gradients[0])
    for other in found[1:]:
        for name, gradient in found[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", ["t5", pytest.param("vlm", marks=pytest.mark.slow)])
def test_killed_fit_resumes_exactly(tmp_path: Path, kind: str) -> None:
    labels, held_out = [*scored(range(8)), *preferred(range(8, 12))], scored(range(12, 14))
    fit = replace(FIT, micro_batch_size=2)

    def fitted(folder: str, *callbacks, minutes: float = 10) -> tuple[dict, dict]:
        model = reward_model(kind, dropout=0.1)
        found = train_reward(
            model, tmp_path / folder, labels, held_out, fit=fit, callbacks=callbacks, minutes=minutes
        )
        return weights(model), found

    expected, metrics = fitted("complete")
    with pytest.raises(Killed):
        fitted("killed", KillAt(1, 3), minutes=0)
    resumed, again = fitted("killed", minutes=0)
    assert same(resumed, expected)
    assert again == metrics


def test_batch_has_all_sentences_and_pairs() -> None:
    data = reward_data(reward_model(), [*scored([0]), *preferred([1])])
    batch = data.train.batch([0, 1], 7, 0)
    sentences = sum(map(len, scored([0])[0][1]))
    assert len(batch["sentences"]) == len(batch["scores"]) == sentences + 4
    assert batch["scores"].isnan().sum() == 4
    assert batch["pairs"].tolist() == [[3, 4]]
    assert data.train.weights == [sentences, 1]
    empty = data.train.batch([], 7, 0)
    assert empty["scores"].isnan().all()
    assert len(empty["pairs"]) == len(empty["ranked"]) == 0


def test_rationales_of_a_question_are_ranked_by_their_mean_score() -> None:
    readings = [Reading([1], [0])] * 3
    assert Item("q", readings, [[0.5], [1.0], [0.5]]).ranked == [(1, 2), (1, 0)]
    assert Item("q", readings[:2], None).ranked == []


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(AresError, match=r"lower reward\.holdout"):
        reward_data(reward_model(), [], scored([0]))
