"""candidates: samples solutions of the evaluated questions, among which `select` chooses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.ranks import is_first
from ares.steps.common.contract import Place, StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.generation import check_engine, engine_of
from ares.steps.common.inputs import examples_of, load_problems, policy_of
from ares.steps.common.solutions import sampled_solutions, shares_of, solutions_by_parts, with_text
from ares.steps.evaluate import check_split
from ares.steps.rollout import part_seed
from ares.storage.solutions import Solution, write_solutions
from ares.text.prompts import right_answer
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from ares.models.policy import Policy

SPEC = StepSpec(
    name="candidates",
    reads=lambda config, place: reads(config, place),
    writes=("candidates",),
    settings=(
        *("seed", "text", "model._target_", "engine._target_", "data.checker", "evaluate.split"),
        *keys_of("select", "n answers questions temperature top_p"),
        *keys_of("generate", "max_new_tokens batch_size"),
        "lora.max_output_tokens",
    ),
    runs_on="device",
    headline=("right", "solved", "unreadable", "tokens"),
    check=lambda config: check(config),
    check_data=lambda config, source: check_split(config, source["data"]),
)


def reads(config: Config, place: Place) -> tuple[str, ...]:
    """What solutions of the evaluated questions are written from, here and in `search`."""
    adapter = ("adapter",) if config.select.answers == "adapter" else ()
    return ("data", "features", "policy", *adapter)


def check(config: Config) -> tuple[str, ...]:
    """Raises AresError without a number of candidates; no warnings."""
    if not config.select.n:
        raise AresError("select.n is empty; give numbers of candidates, such as [1,2,4,8].")
    return check_engine(config)


def candidates(config: Config, context: StepContext) -> StepResult:
    """Writes `candidates.parquet`: as many solutions per question of `evaluate.split` as the largest of `select.n`.

    With select.answers=adapter, the adapter answers after each sampled rationale, and the answer follows its text.
    """
    from ares.models.inputs import Sampling

    problems, splits = load_problems(config, context)
    block = config.select
    policy = policy_of(config, context, context.inputs["policy"])
    answerer = policy.answerer(context.inputs["adapter"]) if block.answers == "adapter" else None
    with engine_of(config, context, policy, batch_size=config.generate.batch_size) as engine:

        def write(number: int, part: Sequence[str]) -> list[Solution]:
            rows = sampled_solutions(
                config,
                engine,
                policy,
                problems,
                part,
                k=max(block.n),
                seed=part_seed(config.seed, 0, number),
                sampling=Sampling(0, block.top_p, block.temperature),
            )
            return rows if answerer is None else answered(config, answerer, problems, rows)

        found = solutions_by_parts(context, evaluated_pids(config, problems, splits), write)
    if not is_first():
        return StepResult({})
    path = context.folder / "candidates.parquet"
    write_solutions(path, found, context.provenance)
    return StepResult({"candidates": path}, shares_of(found))


def evaluated_pids(
    config: Config, problems: Mapping[str, Problem], splits: Mapping[str, Sequence[str]]
) -> list[str]:
    """The pids of the evaluated questions: those of `evaluate.split` with a known answer, at most `select.questions`."""
    known = [pid for pid in splits[config.evaluate.split] if right_answer(problems[pid]) is not None]
    return known[: config.select.questions]


def answered(
    config: Config, answerer: "Policy", problems: Mapping[str, Problem], rows: Sequence[Solution]
) -> list[Solution]:
    """The solutions with the answers that the adapter gives after them; an answer of their own does not count."""
    size, found = config.generate.batch_size, []
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        examples = [
            examples_of(problems, [row.pid], "QCMG-A", config, {row.pid: row.text})[row.pid] for row in batch
        ]
        outputs = answerer.greedy(answerer.encode(examples), max_new_tokens=config.lora.max_output_tokens)
        for row, ids in zip(batch, outputs, strict=True):
            answer = answerer.decode(ids)
            own = with_text(row, problems[row.pid], answer, config.data.checker)
            found.append(replace(own, text=f"{row.text} {answer}", tokens=row.tokens + len(ids)))
    return found
