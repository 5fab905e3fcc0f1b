"""Which pairs of scored rollouts stage=pairs writes, and which it leaves out."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ares.data.sample import write_sample
from ares.steps.common.contract import StepContext
from ares.steps.common.inputs import examples_of
from ares.steps.pairs import _of_corrections, _of_rollouts, check_brought, with_reference
from ares.steps.prefer import inert_options
from ares.storage.tables import write_corrections, write_feedback, write_rollouts
from ares.types import AresError, Correction, Feedback, Pair, Rollout, Side, Span
from tests.support.composed import composed
from tests.support.number_vlm import number_vlm
from tests.support.policies import EOS
from tests.support.problems import make_problem

# Of each question the scores of four rollouts of two sentences; the third says the same as the first.
SCORES = {
    "clear": [(1.0, 1.0), (0.0, 0.5), (1.0, 1.0), (0.5, 0.5)],
    "close": [(0.5, 0.5), (0.5, 0.4), (0.5, 0.5), (0.5, 0.5)],
    "equal": [(0.5, 1.0), (1.0, 0.5), (0.5, 1.0), (0.75, 0.75)],
    "quarantined": [(1.0, 1.0), None, None, None],
}


@pytest.fixture
def context(tmp_path: Path) -> StepContext:
    rollouts, feedback = [], []
    for pid, rows in SCORES.items():
        for sample, scores in enumerate(rows):
            ids = (7, 8 + sample % 2 + 5 * (sample == 3))
            spans = (Span(0, 2), Span(3, 5))
            own, reference = (-1.0, -2.0), (0.0, 0.0)
            row_id = f"{pid}/{sample}"
            rollouts.append(Rollout(row_id, pid, sample, "A. B.", ids, False, spans, (0, 1), own, reference))
            feedback.append(Feedback(row_id, scores, "ok" if scores else "quarantined"))
    inputs = {"rollouts": tmp_path / "rollouts", "feedback": tmp_path / "feedback.parquet"}
    inputs["rollouts"].mkdir()
    write_rollouts(inputs["rollouts"] / "part-0.parquet", rollouts)
    write_feedback(inputs["feedback"], feedback)
    return StepContext(tmp_path, "round-1/pairs", tmp_path, 1, composed(), "", inputs)


def test_pairs_by_margin_with_ties_counted(context: StepContext) -> None:
    pairs, metrics = _of_rollouts(composed(), context)
    assert [pair.row_id for pair in pairs] == ["clear/0-1", "close/0-1"]
    assert pairs[0].chosen.scores == (1.0, 1.0)
    assert pairs[0].chosen.ref_logprobs == (-1.0, -2.0)  # of the policy that wrote it
    assert metrics == {"tied": 1, "difference": pytest.approx((0.75 + 0.05) / 2)}
    pairs, metrics = _of_rollouts(composed("pairs.margin=0.1"), context)
    assert [pair.row_id for pair in pairs] == ["clear/0-1"]
    assert metrics == {"tied": 2, "difference": 0.75}


def test_all_pairs_leave_out_equal_scores_and_equal_responses(context: StepContext) -> None:
    pairs, metrics = _of_rollouts(composed("pairs.source=all", "pairs.margin=0.1"), context)
    expected = ["clear/0-1", "clear/0-3", "clear/2-1", "clear/3-1", "clear/2-3"]
    assert [pair.row_id for pair in pairs] == expected
    assert metrics["tied"] == 3 * 6 - 5


def test_rollouts_without_a_difference_are_refused(context: StepContext) -> None:
    with pytest.raises(
        AresError, match=r"No two of 16 rollouts .*13 have scores, and 3 pairs differ by no more than"
    ):
        _of_rollouts(composed("pairs.margin=1"), context)


PROBLEMS = {pid: make_problem(pid, question=f"{n} 7", choices=("5", "6")) for n, pid in enumerate("abc", 3)}


def test_repairs_that_change_something_are_pairs(context: StepContext) -> None:
    context.inputs["corrections"] = context.folder / "corrections.parquet"
    rows = [
        Correction("a", "3 4", "3 4", "5 6 7", "ok"),
        Correction("b", "3", "3", "3", "ok"),
        Correction("c", "3", "3", None, "quarantined"),
    ]
    write_corrections(context.inputs["corrections"], rows)
    [pair], metrics = _of_corrections(composed(), context, PROBLEMS, number_vlm())
    assert (pair.row_id, pair.origin) == ("a", "corrections")
    assert (pair.chosen.token_ids, pair.rejected.token_ids) == ((5, 6, 7, EOS), (3, 4, EOS))
    assert pair.chosen.sentences == ["5 6 7"]
    assert metrics == {"tied": 1}
    write_corrections(context.inputs["corrections"], rows[1:])
    with pytest.raises(AresError, match=r"None of the 1 repairs .* differs from its rationale"):
        _of_corrections(composed(), context, PROBLEMS, number_vlm())


def pairs_of(pids: str) -> list[Pair]:
    """A pair of each question, of responses of one to six tokens, without log-probabilities."""
    sides = [Side("", (*range(3, 3 + count), EOS), (), ()) for count in range(1, 7)]
    return [
        Pair(f"{pid}/{n}", pid, "rollouts", *both)
        for n, (pid, *both) in enumerate(zip(pids, sides[3:], sides, strict=False))
    ]


def test_reference_is_what_the_policy_gives_each_side_alone() -> None:
    policy, config = number_vlm(), composed("pairs.batch_size=2")
    pairs = pairs_of("aca")
    found = with_reference(config, PROBLEMS, pairs, policy)
    assert [pair.row_id for pair in found] == ["a/0", "c/1", "a/2"]
    examples = examples_of(PROBLEMS, "abc", "QCM-E", config)
    for pair in found:
        for side in (pair.chosen, pair.rejected):
            ids = torch.tensor([side.token_ids])
            alone = policy.token_logprobs(policy.encode([examples[pair.pid]]), ids, [ids.shape[1]])
            assert side.ref_logprobs == pytest.approx(alone[0].tolist(), abs=1e-5)


def test_log_probabilities_of_rollouts_are_kept_where_they_are_the_policys(monkeypatch) -> None:
    policy, config = number_vlm(), composed("pairs.batch_size=1")
    passes, plain = [], policy.token_logprobs
    monkeypatch.setattr(policy, "token_logprobs", lambda *given: passes.append(1) or plain(*given))
    computed = with_reference(config, PROBLEMS, pairs_of("abc"), policy)
    assert len(passes) == 3
    assert with_reference(config, PROBLEMS, computed, policy) == computed
    assert len(passes) == 3 + 1  # the first of the three pairs was enough

    def doubled(side: Side) -> Side:
        return replace(side, ref_logprobs=tuple(2 * own for own in side.ref_logprobs or ()))

    others = [replace(p, chosen=doubled(p.chosen), rejected=doubled(p.rejected)) for p in computed]
    found = with_reference(config, PROBLEMS, others, policy)
    for own, expected in zip(found, computed, strict=True):
        assert own.chosen.ref_logprobs == pytest.approx(expected.chosen.ref_logprobs, abs=1e-5)
        assert own.rejected.ref_logprobs == pytest.approx(expected.rejected.ref_logprobs, abs=1e-5)


def test_data_without_pairs_are_refused_before_anything_runs(tmp_path: Path) -> None:
    config = composed("experiment=demo", "stage=prefer", "pairs.source=brought")
    write_sample(tmp_path, sizes={"train": 8, "val": 4, "test": 4})
    with pytest.raises(AresError, match="data=sample brings no pairs; use data=preferences"):
        check_brought(config, {"data": tmp_path})


def test_options_of_another_loss_are_warned_of() -> None:
    assert inert_options(composed("prefer.loss=dpo", "prefer.label_smoothing=0.1")) == []
    [warning] = inert_options(composed("prefer.loss=ipo", "prefer.label_smoothing=0.1"))
    assert warning == "prefer.label_smoothing has no effect with prefer.loss=ipo, only with dpo and ddpo."
    assert len(inert_options(composed("prefer.desirable_weight=2", "prefer.undesirable_weight=0"))) == 2
