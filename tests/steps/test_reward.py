"""stage=reward on a tiny run, and what uses its reward model: the Teacher, further rewards and the value model."""

import json
from pathlib import Path

import pytest

from ares.config.values import problems_with_value
from ares.models.reward import vocabulary_of
from ares.models.reward_settings import RewardSettings
from ares.pipeline.manifest import read_manifest
from ares.pipeline.plan import steps_of
from ares.steps.common.reward_terms import _pooled, check_vocabulary, reward_model_of
from ares.steps.ppo import check_objective
from ares.steps.reward import _pairs, check_labels
from ares.storage.pairs import write_pairs
from ares.types import AresError, Pair, Side, Span
from tests.support.composed import composed
from tests.support.number_vlm import number_vlm
from tests.support.small_run import configured, run

LEARNED = ("teacher=learned", "teacher.path=first", "policy=first", "run=second")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of which the first has a reward model, and the second RL with it as the Teacher."""
    folder = tmp_path_factory.mktemp("reward")
    small = ("reward.epochs=1", "reward.holdout=0.4", "reward.lr=1e-3")
    run(configured(folder, "run=first", "stage.steps=[rationale,rollout,score,reward]", *small))
    terms = (
        "rl.rewards={sentences: 0, reward_model: 1, missing_eos: 8, length: 10, correct: 2, repetition: 1}"
    )
    steps = "stage.steps=[rollout,score,ppo,round/generate,correct,report]"
    run(configured(folder, *LEARNED, steps, terms, "rl.value_init=reward", f"teacher.runs={folder}"))
    return folder


@pytest.mark.slow
def test_step_writes_model_predictions_and_metrics(runs: Path) -> None:
    entry = read_manifest(runs / "first")["round-1/reward"]
    assert {"heldout/spearman", "heldout/auc", "heldout/calibration_error", "loss"} <= entry.metrics.keys()
    rows = [
        json.loads(line) for line in (runs / "first/round-1/reward/held-out.jsonl").read_text().splitlines()
    ]
    assert rows
    assert all(len(row["scores"]) == len(row["predicted"]) for row in rows)
    assert (runs / "first/round-1/reward/model/value_head.safetensors").is_file()


@pytest.mark.slow
def test_rl_with_a_learned_teacher_and_further_rewards(runs: Path) -> None:
    steps = read_manifest(runs / "second")
    assert steps["round-1/score"].usd == 0
    assert steps["round-1/score"].metrics["quarantined"] == 0
    names = {
        name.removeprefix("train/reward_") for name in steps["round-1/ppo"].metrics if "/reward_" in name
    }
    assert names == {"sentences", "reward_model", "missing_eos", "length", "correct", "repetition"}
    metrics = steps["round-1/ppo"].metrics
    assert metrics["train/reward_sentences"] == 0
    assert metrics["train/reward_missing_eos"] <= 0
    assert "reward" in steps["round-1/ppo"].inputs


@pytest.mark.slow
def test_another_reward_model_makes_the_scores_stale(runs: Path) -> None:
    path = runs / "first/round-1/reward/model/reward.json"
    text = path.read_text()
    path.write_text(text.replace('"mean"', '"last"'))
    try:
        with pytest.raises(AresError, match=r"score was made with another teacher\.fingerprint\.model"):
            run(configured(runs, *LEARNED, "stage.steps=[score]", f"teacher.runs={runs}"))
    finally:
        path.write_text(text)


def test_labels_and_facts_are_words_of_lists() -> None:
    from omegaconf import OmegaConf

    cfg = OmegaConf.structured(composed())
    assert list(problems_with_value(cfg, "reward.on", ["scores", "pairs"])) == []
    [problem] = problems_with_value(cfg, "reward.on", ["score"])
    assert problem == "reward.on=['score']: choose from scores, pairs. Did you mean 'scores'?"
    with pytest.raises(AresError, match=r"reward\.on=\[\]"):
        check_labels(composed("reward.on=[]"))


def test_stage_makes_pairs_where_it_trains_on_them() -> None:
    def planned(*labels: str) -> dict[str, dict[str, str]]:
        steps = steps_of(composed("stage=reward", f"reward.on=[{','.join(labels)}]"))
        return {step.key: {name: source.key for name, source in step.inputs.items()} for step in steps}

    assert set(planned("scores")) == {"round-1/reward"}
    assert planned("pairs")["round-1/reward"]["pairs"] == "round-1/pairs"
    assert planned("scores", "pairs")["round-1/reward"]["feedback"] == "round-1/score"


def test_rewards_of_a_model_need_a_learned_teacher() -> None:
    assert reward_model_of(composed()) == {}
    for setting in ("rl.value_init=reward", "rl.rewards.reward_model=1"):
        with pytest.raises(AresError, match=r"needs a reward model; use teacher=learned"):
            check_objective(composed(setting))


def test_value_model_from_a_reward_model_of_another_base_is_refused(tmp_path: Path) -> None:
    own = number_vlm()
    RewardSettings("", {}, [], "mean", 8, None, vocabulary_of(own.tokenizer)).write(tmp_path)
    check_vocabulary(own, tmp_path)
    with pytest.raises(AresError, match=r"has another tokenizer than the policy.*use rl\.value_init=policy"):
        check_vocabulary(number_vlm(vocabulary=24), tmp_path)


def test_reward_of_a_rationale_is_a_logit() -> None:
    assert _pooled([0.5, 0.5], "mean") == 0.0
    assert _pooled([0.5, 1.0], "last") == pytest.approx(9.21, abs=1e-2)
    assert _pooled([], "mean") == 0.0


def side(*sentences: str) -> Side:
    starts = [sum(map(len, sentences[:n])) + n for n in range(len(sentences))]
    spans = tuple(Span(a, a + len(text)) for a, text in zip(starts, sentences, strict=True))
    return Side(" ".join(sentences), (5,), spans, (0,) * len(spans))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "holds no pairs"),
        ([Pair("7/a", "7", "brought", side("Ice."), side())], "pair 7/a has an empty response"),
        ([Pair("7/a", "7", "brought", side("Ice."), side("Ice."))], "pair 7/a says the same twice"),
    ],
)
def test_pairs_without_a_difference_are_refused(tmp_path: Path, pairs: list[Pair], message: str) -> None:
    write_pairs(tmp_path / "pairs.parquet", pairs)
    with pytest.raises(AresError, match=message):
        list(_pairs(tmp_path / "pairs.parquet"))


def test_pairs_are_read_as_sentences(tmp_path: Path) -> None:
    pair = Pair("7/a", "7", "brought", side("Solution: Ice.", "Cold."), side("Rock."))
    write_pairs(tmp_path / "pairs.parquet", [pair])
    assert list(_pairs(tmp_path / "pairs.parquet")) == [("7", [["Ice.", "Cold."], ["Rock."]], None)]
