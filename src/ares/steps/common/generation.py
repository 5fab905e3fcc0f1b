"""Greedy rationales of a run's problems, with the settings of `generate`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.steps.common.contract import StepContext
from ares.steps.common.inputs import examples_of
from ares.types import Problem, Rationale

if TYPE_CHECKING:
    from ares.models.policy import Policy


def greedy_rationales(
    config: Config, context: StepContext, policy: "Policy", problems: Sequence[Problem], label: str
) -> list[Rationale]:
    """The policy's greedy rationales of problems, in the same order."""
    from ares.engines.hf import greedy_responses

    by_pid = {problem.pid: problem for problem in problems}
    responses = greedy_responses(
        policy,
        examples_of(by_pid, by_pid, "QCM-E", config),
        max_new_tokens=config.generate.max_new_tokens,
        batch_size=config.generate.batch_size,
        label=f"{context.key} {label}",
    )
    return [Rationale(**vars(response)) for response in responses]
