import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.rl.kl import kl_penalty
from ares.rl.rewards import response_rewards, sentence_of_tokens, sentence_rewards, sentence_sums


@st.composite
def scored(draw):
    length = draw(st.integers(1, 30))
    ends = sorted(draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=8)))
    scores = draw(st.lists(st.floats(0, 1), min_size=len(ends), max_size=len(ends)))
    return scores, ends, length


@settings(deadline=None)
@given(scored(), st.floats(0, 1))
def test_rewards_are_placed_on_sentence_ends(case, neutral):
    scores, ends, length = case
    rewards = sentence_rewards(scores, ends, length, neutral=neutral)
    assert rewards.dtype == torch.float32
    assert rewards.shape == (length,)
    assert rewards[ends].tolist() == pytest.approx([s - neutral for s in scores], abs=1e-6)
    others = [t for t in range(length) if t not in ends]
    assert not rewards[others].any()
    assert rewards.sum().item() == pytest.approx(sum(s - neutral for s in scores), abs=1e-5)


def test_scores_on_the_same_token_add_up():
    assert sentence_rewards([0.9, 0.8, 0.1], [2, 2, 3], 5).tolist() == pytest.approx([0, 0, 0.7, -0.4, 0])


def test_no_sentences_give_no_reward():
    assert sentence_rewards([], [], 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("scores", "ends"), [([0.5], [1, 2]), ([0.5], [3]), ([0.5], [-1])])
def test_mismatched_scores_and_ends_are_refused(scores, ends):
    with pytest.raises(ValueError):
        sentence_rewards(scores, ends, 3)


@settings(deadline=None)
@given(scored())
def test_sentence_sums_invert_sentence_rewards(case):
    scores, ends, length = case
    sums = sentence_sums(sentence_rewards(scores, ends, length), ends)
    assert sums.tolist() == pytest.approx([s - 0.5 for s in scores], abs=1e-6)


def test_tokens_belong_to_their_sentence_and_eos_to_the_last():
    assert sentence_of_tokens([1, 3], 6).tolist() == [0, 0, 1, 1, 1, 1]


def test_sentence_rewards_equal_the_recording(shared):
    meta = json.loads((shared / "golden/ppo_meta.json").read_text())
    with np.load(shared / "golden/ppo.npz") as golden:
        for case in meta["collect"]:
            for element in case["elements"]:
                prefix = f"collect/{case['i']}/elem{element['key']}"
                without = golden[f"{prefix}/rewards_kl_only"]
                added = golden[f"{prefix}/rewards_with_scores"] - without
                ours = sentence_rewards(element["scores"], element["positions"], len(without))
                np.testing.assert_allclose(ours.numpy(), added, atol=1e-6)


def test_kl_covers_the_first_token_and_no_padding(shared):
    """The original's divergence reward skips the first token and counts the padding token after EOS."""
    meta = json.loads((shared / "golden/ppo_meta.json").read_text())
    with np.load(shared / "golden/ppo.npz") as golden:
        for case in meta["collect"]:
            actions = torch.from_numpy(golden[f"collect/{case['i']}/0/actions"])[:, 1:]
            found = [
                torch.from_numpy(golden[f"collect/{case['i']}/0/{name}"])[:, :-1]
                .log_softmax(-1)
                .gather(-1, actions[..., None])
                .squeeze(-1)
                for name in ("logits", "ref_logits")
            ]
            lengths = torch.tensor([e["n_nonpad"] for e in case["elements"][: len(actions)]])
            mask = (torch.arange(actions.shape[1]) < lengths[:, None]).float()
            ours = -case["kl_coef"] * kl_penalty(*found, mask)
            for row, length in enumerate(lengths.tolist()):
                theirs = golden[f"collect/{case['i']}/elem{row}/rewards_kl_only"]
                np.testing.assert_allclose(ours[row, 1:length], theirs[1:length], atol=1e-6)
                assert theirs[0] == 0
                assert ours[row, 0] != 0
                assert not ours[row, length:].any()
                if len(theirs) > length:
                    assert theirs[length] != 0


def terms(**coefficients: float) -> dict[str, list[float]]:
    names = ("reward_model", "missing_eos", "length", "correct", "repetition")
    return response_rewards(
        SimpleNamespace(**{**dict.fromkeys(names, 0.0), **coefficients}),
        truncated=[True, False],
        lengths=[8, 2],
        limit=16,
        repetition=[0.0, 0.5],
        correct=lambda: [False, True],
        learned=lambda: [1.5, -0.5],
    )


def test_terms_of_a_response() -> None:
    """R = RM − 8·[no EOS] − 10·length / limit + 2·correct, and a term of our own for repetition."""
    found = terms(reward_model=1, missing_eos=8, length=10, correct=2, repetition=4)
    assert found == {
        "reward_model": [1.5, -0.5],
        "missing_eos": [-8.0, 0.0],
        "length": [-5.0, -1.25],
        "correct": [0.0, 2.0],
        "repetition": [0.0, -2.0],
    }
    assert [sum(row) for row in zip(*found.values(), strict=True)] == [-11.5, -1.75]


def test_terms_with_coefficient_0_are_not_computed() -> None:
    assert terms() == {}
    assert set(terms(length=1)) == {"length"}
