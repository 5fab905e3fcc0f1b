"""Reward models of both kinds: what they read, and the folder that they are saved in."""

from pathlib import Path

import pytest
import torch

from ares.models.reward import Reading, RewardModel, sentence_means
from ares.models.reward_settings import RewardSettings
from ares.models.vlm.policy import VlmPolicy
from ares.types import AresError
from tests.support.number_vlm import number_vlm
from tests.support.policies import EOS, number_policy
from tests.support.reward import question, rationales, reward_model

SETTINGS = {
    "model": "ares.models.vlm.policy.VlmPolicy",
    "text": {"newline": "space", "use_caption": True, "max_input_tokens": 64},
    "facts": ["image"],
    "pool": "mean",
    "max_output_tokens": 32,
    "features": None,
}


@pytest.fixture(params=["t5", "vlm"])
def model(request: pytest.FixtureRequest) -> RewardModel:
    """A reward model whose head has moved from where it gives 0.5."""
    found = reward_model(request.param)
    torch.nn.init.normal_(found.value.head[-1].weight, generator=torch.Generator().manual_seed(0))
    return found.eval()


def test_new_model_gives_every_sentence_the_neutral_score() -> None:
    model = RewardModel.on(number_policy(), seed=0, likelihood=False).eval()
    [[scores]] = model.scores([question(0)], [model.read([["3", "4"]], max_tokens=32)])
    assert scores == [0.5, 0.5]


def test_sentences_end_where_the_text_up_to_them_does() -> None:
    model = reward_model("vlm")
    assert model.read([["3 4", "5"], [], ["6"]], max_tokens=32) == [
        Reading([3, 4, 5, EOS], [2, 3]),
        Reading([EOS], []),
        Reading([6, EOS], [1]),
    ]
    assert model.read([["3 4", "5"]], max_tokens=3) == [Reading([3, 4, EOS], [2, 2])]


@pytest.mark.parametrize("likelihood", [False, True])
def test_score_is_of_the_state_after_the_sentence_and_of_its_likelihood(
    model: RewardModel, likelihood
) -> None:
    model.likelihood = likelihood
    [reading] = model.read([["5", "6", "7"]], max_tokens=32)
    inputs, ids = model.policy.encode([question(0)]), torch.tensor([reading.ids])
    with torch.no_grad():
        states = model.policy.states(inputs, ids)
        expected = model.value.head(states[0, reading.places]).squeeze(-1)
        if likelihood:  # every sentence is one token
            expected = expected + 8 * (model.policy.token_logprobs(inputs, ids, [4])[0, :3].exp() - 0.5)
    [[scores]] = model.scores([question(0)], [[reading]])
    assert scores == pytest.approx(expected.sigmoid().tolist(), abs=1e-6)


def test_sentence_score_depends_on_nothing_that_follows(model: RewardModel) -> None:
    readings = model.read([["5", "6", "7"], ["5", "6", "9", "9"]], max_tokens=32)
    [[first, second]] = model.scores([question(1)], [readings])
    assert first[:2] == pytest.approx(second[:2], abs=1e-6)
    assert first[2] != pytest.approx(second[2], abs=1e-4)


def test_one_pass_equals_a_pass_per_rationale(model: RewardModel) -> None:
    asked = [question(n) for n in range(3)]
    readings = [model.read(rationales(n), max_tokens=32) for n in range(3)]
    together = model.scores(asked, readings)
    for number, own in enumerate(readings):
        for place, reading in enumerate(own):
            [[alone]] = model.scores([asked[number]], [[reading]])
            assert together[number][place] == pytest.approx(alone, abs=1e-5)


def test_only_head_and_policy_are_trained() -> None:
    model = reward_model("vlm")
    names = {name for name, _ in model.trained()}
    heads = {name for name in names if name.startswith("value.head")}
    assert heads
    assert names - heads
    assert all("lora_" in name for name in names - heads)
    full = RewardModel.on(number_vlm(r=0), seed=0, likelihood=False)
    output = full.policy.model.get_output_embeddings().weight
    assert not output.requires_grad
    trained = sum(weight.numel() for weight in full.policy.model.parameters() if weight.requires_grad)
    assert trained > output.numel()


def test_folder_restores_the_model_and_is_a_value_model(tmp_path: Path) -> None:
    model = RewardModel.on(number_vlm(r=0), seed=0).eval()
    torch.nn.init.normal_(model.value.head[-1].weight, generator=torch.Generator().manual_seed(0))
    model.save(tmp_path, SETTINGS)
    again = RewardModel.load(VlmPolicy, tmp_path)
    assert again.likelihood
    asked, readings = [question(0)], [model.read([["5", "6"]], max_tokens=32)]
    assert again.scores(asked, readings) == model.scores(asked, readings)
    settings = RewardSettings.read(tmp_path)
    assert settings.facts == ["image"]
    value = number_vlm(seed=3, r=0).load_value(tmp_path, shared=False)
    ids = torch.tensor([[5, 6, EOS]])
    found = value.values(again.policy.encode(asked), ids, [3])
    model.likelihood = False  # values have no part of it
    logits = model.logits(model.policy.encode(asked), ids, [3], torch.tensor([[0, 1], [0, 2]]))
    torch.testing.assert_close(found[0, 1:], logits)


def test_hash_changes_with_weights_and_settings(tmp_path: Path) -> None:
    hashes = set()
    for number, (seed, changes) in enumerate([(0, {}), (1, {}), (0, {"pool": "last"})]):
        model = RewardModel.on(number_vlm(seed, r=0), seed=0)
        model.save(tmp_path / str(number), {**SETTINGS, **changes})
        hashes.add(RewardSettings.read(tmp_path / str(number)).hash)
    assert len(hashes) == 3


def test_folder_without_a_reward_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AresError, match=r"holds no reward model .*train one with stage=reward"):
        RewardSettings.read(tmp_path)


def test_sentence_means_start_where_the_sentence_before_ends() -> None:
    values = torch.tensor([[1.0, 3.0, 5.0, 7.0], [2.0, 4.0, 0.0, 0.0]])
    sentences = torch.tensor([[0, 1], [0, 3], [1, 2], [1, 2]])
    assert sentence_means(values, sentences).tolist() == [1.0, 4.0, 3.0, 0.0]
    assert sentence_means(values, sentences[:0]).tolist() == []
