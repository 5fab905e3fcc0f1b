"""assess: measures a policy's greedy rationales of held-out questions, without asking a Teacher.

It runs before RL (`rationale/assess`), after the RL of each round (`round-<n>/assess`) and after the last
fine-tuning (`final/assess`, on the rationales that `generate` wrote).
"""

from dataclasses import asdict

from ares.config.schema import Config
from ares.evaluation.assessment import assess_rationale, summarize
from ares.evaluation.rationales import gold_rationale, similarity
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.generation import check_engine, engine_of, greedy_rationales
from ares.steps.common.inputs import load_problems, policy_of
from ares.storage.files import write_jsonl
from ares.storage.tables import read_rationales
from ares.types import Problem, Rationale

SPEC = StepSpec(
    name="assess",
    reads=lambda config, place: (
        ("data", "rationales-val") if place == "final" else ("data", "features", "policy")
    ),
    writes=("assessment",),
    settings=(
        *("text", "model._target_", "engine._target_", "rl.eval_questions", "evaluate.similarity_model"),
        *keys_of("generate", "max_new_tokens batch_size"),
    ),
    runs_on="device",
    shared=True,
    check=check_engine,
    headline=(
        *("supporting", "irrelevant", "false", "invented", "repeated"),
        *("rouge_l", "similarity", "repetition"),
    ),
)


def assess(config: Config, context: StepContext) -> StepResult:
    """Writes `assessment.jsonl`, one row for each of the first `rl.eval_questions` val questions."""
    problems, splits = load_problems(config, context)
    questions = [problems[pid] for pid in splits["val"][: config.rl.eval_questions]]
    rationales = _rationales(config, context, questions)
    if not is_first():
        return StepResult({})
    rows = [assess_rationale(problem, row) for problem, row in zip(questions, rationales, strict=True)]
    metrics = summarize(rows)
    model = config.evaluate.similarity_model
    if model and "rouge_l" in metrics:
        references = [gold_rationale(problem) for problem in questions]
        metrics["similarity"] = similarity(references, [row.text for row in rationales], model=model)
    path = context.folder / "assessment.jsonl"
    write_jsonl(path, [asdict(row) for row in rows])
    return StepResult({"assessment": path}, metrics)


def _rationales(config: Config, context: StepContext, questions: list[Problem]) -> list[Rationale]:
    if "rationales-val" in context.inputs:
        written = {row.pid: row for row in read_rationales(context.inputs["rationales-val"])}
        return [written[problem.pid] for problem in questions]
    policy = policy_of(config, context, context.inputs["policy"])
    with engine_of(config, context, policy, batch_size=config.generate.batch_size) as engine:
        return greedy_rationales(config, context, engine, questions, "val")
