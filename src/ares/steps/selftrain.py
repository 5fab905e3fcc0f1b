"""selftrain: builds lessons from the pool of solutions and trains the next model of self-training on them."""

from collections import Counter

from ares.config.schema import Config
from ares.ranks import is_first
from ares.steps.common.contract import Place, StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.inputs import base_policy, load_problems, policy_of
from ares.steps.common.lessons import FIT_SETTINGS, fit_lessons
from ares.storage.solutions import Solution, read_solutions, write_lessons
from ares.storage.tables import read_feedback
from ares.text.reflection import METHODS, approved, lessons_of, of_latest, warmup_lessons
from ares.types import AresError

SPEC = StepSpec(
    name="selftrain",
    reads=lambda config, place: _reads(config, place),
    writes=("lessons", "policy"),
    settings=(
        *FIT_SETTINGS,
        "tokenizer",
        *keys_of("model", "_target_ init arguments"),
        *keys_of(
            "selftrain", "epochs lr global_batch_size micro_batch_size micro_batch_tokens warmup_fraction"
        ),
        *keys_of("selftrain", "decay weight_decay adam_beta2 gradient_clip dropout max_output_tokens"),
        *keys_of("selftrain", "eval_questions eval_every_epochs prompts"),
        *keys_of("selftrain", "method window start given filter threshold"),
    ),
    runs_on="device",
    place="round",
    folder="selftrain",
    headline=("val/accuracy", "cot", "refine", "select", "loss"),
)


def _reads(config: Config, place: Place) -> tuple[str, ...]:
    found = ["data", "features", "pool"]
    if config.selftrain.filter == "sentences":
        found.append("ratings")
    policy = {"warmup": ["start/policy"], "previous": ["policy"]}
    return (*found, *policy.get(config.selftrain.start, []))


def selftrain(config: Config, context: StepContext) -> StepResult:
    """Writes `lessons.parquet`, everything that is trained on, and `policy/`.

    Raises AresError if the pool holds no lesson.
    """
    problems, splits = load_problems(config, context)
    block = config.selftrain
    lessons = lessons_of(
        counted_solutions(config, context), problems, kinds=METHODS[block.method], seed=config.seed
    )
    if not lessons:
        raise AresError(
            f"No solution in {context.inputs['pool']} is right, so there is nothing to learn from; raise selftrain.n, lower "
            "selftrain.threshold, or train the warm-up longer (rationale.epochs)."
        )
    counts = {kind: float(count) for kind, count in Counter(lesson.kind for lesson in lessons).items()}
    if block.given:
        lessons = [*warmup_lessons(problems[pid] for pid in splits["train"]), *lessons]
    path = context.folder / "lessons.parquet"
    if is_first():
        write_lessons(path, lessons, context.provenance)
    if block.start == "base":
        policy = base_policy(config, context, problems, splits["train"], dropout=block.dropout)
    else:
        start = context.inputs["policy" if block.start == "previous" else "start/policy"]
        policy = policy_of(config, context, start, dropout=block.dropout)
    result = fit_lessons(config, context, "selftrain", policy, problems, splits, lessons)
    return StepResult({**result.files, "lessons": path}, {**result.metrics, **counts})


def counted_solutions(config: Config, context: StepContext) -> list[Solution]:
    """The solutions of the pool that count: of `selftrain.window`, approved with selftrain.filter=sentences."""
    block = config.selftrain
    pool = of_latest(read_solutions(context.inputs["pool"]), block.window)
    if block.filter == "answer":
        return pool
    scores = {row.row_id: row.scores for row in read_feedback(context.inputs["ratings"])}
    return approved(pool, scores, block.threshold)
