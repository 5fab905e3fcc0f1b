"""Solutions that a policy samples, part by part, so that a step that was killed continues where it was."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.console import tqdm
from ares.evaluation.checkers import CHECKERS
from ares.ranks import barrier, gather, is_first, shard
from ares.steps.common.contract import StepContext
from ares.steps.common.inputs import examples_of
from ares.storage.solutions import Solution, read_solutions, write_solutions
from ares.types import Problem

if TYPE_CHECKING:
    from ares.engines.base import Engine
    from ares.models.inputs import Sampling
    from ares.models.policy import Policy

_QUESTIONS = 64  # in a part

# (number of the part, its pids) -> their solutions
Write = Callable[[int, Sequence[str]], list[Solution]]


def solutions_by_parts(context: StepContext, pids: Sequence[str], write: Write) -> list[Solution]:
    """The solutions that `write` gives for all questions, in their order; every rank must call it and gets all.

    Ranks share the parts, which are kept with the step's checkpoints. What is in a part does not depend on ranks or
    interruptions.
    """
    parts = [pids[start : start + _QUESTIONS] for start in range(0, len(pids), _QUESTIONS)]
    paths = [context.checkpoints / f"solutions-{number}.parquet" for number in range(len(parts))]
    written = gather([path.exists() for path in paths])[0]  # as rank 0 sees them
    missing = [number for number in range(len(parts)) if not written[number]]
    for number in tqdm(shard(missing), desc=context.key, dynamic_ncols=True, disable=not is_first()):
        write_solutions(paths[number], write(number, parts[number]), context.provenance)
    barrier()
    return [row for path in paths for row in read_solutions(path)]


def sampled_solutions(
    config: Config,
    engine: "Engine",
    policy: "Policy",
    problems: Mapping[str, Problem],
    pids: Sequence[str],
    *,
    k: int,
    seed: int,
    sampling: "Sampling",
    iteration: int = 0,
) -> list[Solution]:
    """k solutions of each question by the model before `iteration`, their answers read from their texts."""
    examples = examples_of(problems, pids, "QCM-E", config)
    samples = engine.sample(
        list(examples.values()),
        k=k,
        seed=seed % 2**63,
        sampling=sampling,
        max_new_tokens=config.generate.max_new_tokens,
    )
    model = max(0, iteration - 1)
    rows = []
    for row, sample in enumerate(samples):
        empty = Solution(iteration, model, pids[row // k], row % k, "", None, False, len(sample.ids))
        rows.append(with_text(empty, problems[empty.pid], policy.decode(sample.ids), config.data.checker))
    return rows


def with_text(row: Solution, problem: Problem, text: str, checker: str) -> Solution:
    """The solution with another text, whose answer is read and checked."""
    parsed, correct, _ = CHECKERS[checker](problem, text)
    return replace(row, text=text, answer=parsed, correct=correct)


def shares_of(rows: Sequence[Solution]) -> dict[str, float]:
    """Shares of solutions that are right and whose answer cannot be read, of questions with a right one; mean tokens."""
    count, questions = max(1, len(rows)), {row.pid for row in rows}
    solved = {row.pid for row in rows if row.correct}
    return {
        "rows": len(rows),
        "right": sum(row.correct for row in rows) / count,
        "unreadable": sum(row.answer is None for row in rows) / count,
        "solved": len(solved) / max(1, len(questions)),
        "tokens": sum(row.tokens for row in rows) / count,
    }
