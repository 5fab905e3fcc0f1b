"""contrast: pairs of the pool's right and wrong solutions, on which `prefer` trains with selftrain.method=star_dpo."""

from ares.config.schema import Config
from ares.ranks import is_first
from ares.steps.common.contract import Place, StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.inputs import examples_of, load_problems, policy_of
from ares.steps.pairs import encoded_pairs, mean_lengths, with_reference
from ares.steps.selftrain import counted_solutions
from ares.storage.pairs import write_pairs
from ares.text.prompts import rationale_target
from ares.text.reflection import lessons_of
from ares.types import AresError

SPEC = StepSpec(
    name="contrast",
    reads=lambda config, place: _reads(config, place),
    writes=("pairs",),
    settings=(
        *("text", "model._target_", "pairs.max_output_tokens", "pairs.batch_size"),
        *keys_of("selftrain", "window filter threshold"),
    ),
    runs_on="device",
    place="round",
    folder="contrast",
    wanted=lambda config, place: config.selftrain.method == "star_dpo",
    headline=("pairs", "tied"),
)


def _reads(config: Config, place: Place) -> tuple[str, ...]:
    ratings = ("ratings",) if config.selftrain.filter == "sentences" else ()
    return ("data", "features", "policy", "pool", *ratings)


def contrast(config: Config, context: StepContext) -> StepResult:
    """Writes `pairs.parquet`: of each question with both, the latest right and the latest wrong solution.

    The reference is the policy that `selftrain` has just trained. Raises AresError without a pair.
    """
    problems, _ = load_problems(config, context)
    policy = policy_of(config, context, context.inputs["policy"])
    newline = config.text.newline
    # From wrong to right, as a refine lesson has them.
    lessons = lessons_of(counted_solutions(config, context), problems, kinds=("refine",))
    texts = {
        row.pid: (rationale_target(row.target, newline), rationale_target(row.given[0], newline))
        for row in lessons
    }
    examples = examples_of(problems, texts, "QCM-E", config)
    found, same = encoded_pairs(config, examples, texts, policy, "solutions")
    if not found:
        raise AresError(
            f"No question in {context.inputs['pool']} has a right and a wrong solution, so there are no pairs; raise "
            "selftrain.n, or use selftrain.method=star."
        )
    found = with_reference(config, problems, found, policy)
    if not is_first():
        return StepResult({})
    path = context.folder / "pairs.parquet"
    write_pairs(path, found, context.provenance)
    return StepResult({"pairs": path}, {"pairs": len(found), "tied": same, **mean_lengths(found)})
