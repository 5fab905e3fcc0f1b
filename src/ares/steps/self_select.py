"""self_select: the policy chooses among its own candidates, as its select lessons taught it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ares.config.schema import Config
from ares.evaluation.checkers import CHECKERS
from ares.evaluation.selection import Ask, Groups
from ares.evaluation.selection import self_select as selected
from ares.ranks import gather, is_first, shard
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.inputs import load_problems, policy_of, text_of
from ares.storage.files import write_jsonl
from ares.storage.solutions import Solution, read_solutions
from ares.text.reflection import select_example
from ares.types import Problem

if TYPE_CHECKING:
    from ares.models.policy import Policy

SPEC = StepSpec(
    name="self_select",
    reads=("data", "features", "policy", "candidates"),
    writes=("self-selected",),
    settings=(
        *("text", "model._target_", "data.checker", "select.n", "selftrain.prompts.candidate"),
        *("generate.batch_size", "lora.max_output_tokens"),
    ),
    runs_on="device",
    wanted=lambda config, place: "self_select" in config.select.by,
)


def self_select(config: Config, context: StepContext) -> StepResult:
    """Writes `self-selected.jsonl`: for each number of candidates and question the row_id of the chosen candidate.

    Metrics: `failed`, the share of replies that named no candidate, and the `tokens` of all replies per question.
    """
    problems, _ = load_problems(config, context)
    by_pid: dict[str, list[Solution]] = {}
    for row in read_solutions(context.inputs["candidates"]):
        by_pid.setdefault(row.pid, []).append(row)
    ask = _asker(config, policy_of(config, context, context.inputs["policy"]), problems)
    own = shard(list(by_pid))
    found: list[dict[str, Any]] = [
        {
            "n": n,
            "pid": pid,
            "row_id": choice.solution.row_id,
            "tokens": choice.tokens,
            "failed": choice.failed,
        }
        for n in sorted(set(config.select.n))
        for pid, choice in selected({pid: by_pid[pid][:n] for pid in own}, ask).items()
    ]
    rows = [row for part in gather(found) for row in part]
    if not is_first():
        return StepResult({})
    path = context.folder / "self-selected.jsonl"
    write_jsonl(path, rows)
    tokens = sum(row["tokens"] for row in rows) / max(1, len(by_pid))
    return StepResult(
        {"self-selected": path}, {"tokens": tokens, "failed": sum(row["failed"] for row in rows)}
    )


def _asker(config: Config, policy: "Policy", problems: Mapping[str, Problem]) -> Ask:
    """Asks the policy about groups of candidates, about each group once."""
    replies: dict[tuple[str, ...], tuple[str | None, int]] = {}  # by the row_ids that were shown
    prompts, checker = config.selftrain.prompts, CHECKERS[config.data.checker]

    def ask(groups: Groups) -> Mapping[str, tuple[str | None, int]]:
        keys = {pid: tuple(row.row_id for row in rows) for pid, rows in groups.items()}
        new = [pid for pid, key in keys.items() if key not in replies]
        for start in range(0, len(new), config.generate.batch_size):
            pids = new[start : start + config.generate.batch_size]
            texts = {pid: [row.text for row in groups[pid]] for pid in pids}
            examples = [select_example(problems[pid], texts[pid], prompts, **text_of(config)) for pid in pids]
            written = policy.greedy(policy.encode(examples), max_new_tokens=config.lora.max_output_tokens)
            for pid, ids in zip(pids, written, strict=True):
                replies[keys[pid]] = (checker(problems[pid], policy.decode(ids)).parsed, len(ids))
        return {pid: replies[key] for pid, key in keys.items()}

    return ask
