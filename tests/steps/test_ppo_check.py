"""Which objectives of RL are refused before anything runs."""

import pytest

from ares.steps.ppo import check_objective
from ares.types import AresError
from tests.support.composed import composed


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rl.objective=grpo", "rl.k=1"], r"rl\.objective=grpo compares .*use rl\.k=2 or more"),
        (["rl.objective=rloo", "rl.share_trunk=true"], "rloo has no value model"),
        (["rl.objective=rloo", "rl.share_trunk=true", "rl.k=1"], r"(?s)no value model.*rl\.k=2"),
        (["rl.objective=pppo"], r"rl\.objective=pppo: there is no module"),
        (["rl.objective=mine.absent"], r"there is no module mine\.absent"),
    ],
)
def test_objective_that_cannot_work_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(AresError, match=message):
        check_objective(composed("experiment=demo", *overrides))


@pytest.mark.parametrize("overrides", [["rl.k=1"], ["rl.objective=grpo"], ["rl.share_trunk=true"]])
def test_objective_that_can_work_is_accepted(overrides: list[str]) -> None:
    check_objective(composed("experiment=demo", *overrides))
