"""sample: the latest model of self-training solves the train questions; its solutions join the pool."""

from collections.abc import Sequence

from ares.config.schema import Config
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.generation import check_engine, engine_of
from ares.steps.common.inputs import load_problems, policy_of
from ares.steps.common.rows import check_answers
from ares.steps.common.solutions import sampled_solutions, shares_of, solutions_by_parts
from ares.steps.rollout import part_seed
from ares.storage.solutions import Solution, read_solutions, write_solutions
from ares.text.prompts import right_answer
from ares.text.reflection import appended

SPEC = StepSpec(
    name="sample",
    reads=("data", "features", "policy", "pool?"),
    writes=("pool",),
    settings=(
        *("seed", "text", "model._target_", "engine._target_", "data.checker"),
        *keys_of("selftrain", "n questions temperature top_p"),
        *keys_of("generate", "max_new_tokens batch_size"),
    ),
    runs_on="device",
    place="round",
    headline=("right", "solved", "unreadable", "tokens"),
    check=check_engine,
    check_data=check_answers,
)


def sample(config: Config, context: StepContext) -> StepResult:
    """Writes `pool.parquet`: the solutions of earlier iterations as they are, then `selftrain.n` per question of this one.

    Every model samples once, so that the pool has n solutions of every model so far. The metrics are those of the new
    solutions.
    """
    from ares.models.inputs import Sampling

    problems, splits = load_problems(config, context)
    block = config.selftrain
    pids = [pid for pid in splits["train"] if right_answer(problems[pid]) is not None][: block.questions]
    policy = policy_of(config, context, context.inputs["policy"])
    with engine_of(config, context, policy, batch_size=config.generate.batch_size) as engine:

        def write(number: int, part: Sequence[str]) -> list[Solution]:
            return sampled_solutions(
                config,
                engine,
                policy,
                problems,
                part,
                k=block.n,
                seed=part_seed(config.seed, context.round, number),
                sampling=Sampling(0, block.top_p, block.temperature),
                iteration=context.round,
            )

        new = solutions_by_parts(context, pids, write)
    if not is_first():
        return StepResult({})
    earlier = read_solutions(context.inputs["pool"]) if "pool" in context.inputs else []
    path = context.folder / "pool.parquet"
    write_solutions(path, appended(earlier, new), context.provenance)
    return StepResult({"pool": path}, shares_of(new))
